"""Output of cells: sanitized Markdown, streamed answers, a progress line, a chat panel, an explorer, a review.

The import is fast: ``ChatPanel``, ``Explorer``, ``Review`` and their dependencies are loaded on first access.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skytells_nb.widgets.chat_panel.panel import ChatPanel
    from skytells_nb.widgets.explorer.explorer import Explorer
    from skytells_nb.widgets.review.review import Review

__all__ = ["ChatPanel", "Explorer", "Review"]


if not TYPE_CHECKING:  # so that type checkers report a misspelled name

    def __getattr__(name: str) -> Any:
        if name == "ChatPanel":
            from skytells_nb.widgets.chat_panel.panel import ChatPanel

            return ChatPanel
        if name == "Explorer":
            from skytells_nb.widgets.explorer.explorer import Explorer

            return Explorer
        if name == "Review":
            from skytells_nb.widgets.review.review import Review

            return Review
        raise AttributeError(f"module 'skytells_nb.widgets' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
