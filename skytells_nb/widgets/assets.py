"""Scripts and styles of the widgets."""

from __future__ import annotations

from pathlib import Path

_STATIC = Path(__file__).parent / "static"


def read_assets(*names: str) -> str:
    """Concatenate these files: a page loads a widget's script as one module, which cannot import other files."""
    return "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in names)
