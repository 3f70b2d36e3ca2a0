"""Scripts and styles of widgets, from their parts."""

from __future__ import annotations

from pathlib import Path

_STATIC = Path(__file__).parent / "static"


def joined(*names: str) -> str:
    """These files as one: a page loads a widget's script as one module, which cannot import its neighbours."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)
