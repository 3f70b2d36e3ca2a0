"""Tab completion on the magic's line: options, models that are known already, variables. Never asks the service."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from skytells_nb.magics.args import option_names

WORDS = ("status", "models", "usage", "connect", "local", "help")
"""What %skytells understands."""

_HOOK = "complete_command"


def complete_chat(shell: Any, event: Any) -> list[str]:
    """Candidates for the word at the cursor of a %%skytells_chat line."""
    before: list[str] = event.text_until_cursor.replace("=", " ").split()
    if event.symbol and before and before[-1].endswith(event.symbol):
        before.pop()
    previous = before[-1] if before else ""
    if previous in ("-m", "--model"):
        return _known_models()
    if previous in ("-v", "--var", "-o", "--output"):
        return [n for n in shell.user_ns if n.isidentifier() and not n.startswith("_") and not keyword.iskeyword(n)]
    if previous in ("-f", "--format"):
        return ["markdown", "text"]
    if previous in ("-s", "--system", "-t", "--temperature", "--max-tokens"):
        return []
    return list(option_names())


def complete_status(shell: Any, event: Any) -> list[str]:
    """Candidates for the word after %skytells."""
    return list(WORDS)


def install(shell: Any) -> Callable[[], None]:
    """Add the completers to the shell; gives the function that takes exactly them out again."""
    added = {"%%skytells_chat": complete_chat, "%skytells": complete_status}
    for key, complete in added.items():
        shell.set_hook(_HOOK, complete, str_key=key)

    def remove() -> None:
        dispatch = shell.strdispatchers.get(_HOOK)
        for key, complete in added.items():
            chain = dispatch.strs.get(key) if dispatch is not None else None
            if chain is None:
                continue
            chain.chain[:] = [(p, f) for p, f in chain.chain if getattr(f, "__func__", f) is not complete]
            if not chain.chain:
                del dispatch.strs[key]

    return remove


def _known_models() -> list[str]:
    from skytells_nb import session

    # Connecting here would start a server or fail on a missing key because someone pressed Tab.
    return session.current().known_models() if session.has_current() else _listed_models()


def _listed_models() -> list[str]:
    from skytells_nb.wire.models import DEFAULT_EMBEDDING_MODEL, LISTED_PRICES

    return [*LISTED_PRICES, DEFAULT_EMBEDDING_MODEL]
