"""What cells show: sanitised Markdown, live answers, one line of progress, a chat panel.

Importing this is light: the panel and what it needs load when ``ChatPanel`` is first named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skytells_nb.widgets.chat_panel import ChatPanel

__all__ = ["ChatPanel"]


def __getattr__(name: str) -> Any:
    if name == "ChatPanel":
        from skytells_nb.widgets.chat_panel import ChatPanel

        return ChatPanel
    raise AttributeError(f"module 'skytells_nb.widgets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
