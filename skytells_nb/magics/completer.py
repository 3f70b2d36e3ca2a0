"""Tab completion for the lines of the magics: options, known models, variables. Sends no request."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from skytells_nb.magics.chat_arguments import Api, Effort, Format, option_names
from skytells_nb.magics.command_arguments import COMMANDS, CONVERSATION_ACTIONS, cache_options, command_options

_HOOK = "complete_command"
_FREE_TEXT_OPTIONS = ("-s", "--system", "-t", "--temperature", "--max-tokens", "--stop")
_IMAGE_FILES = ("*.png", "*.jpg", "*.jpeg", "*.gif", "*.webp")


def complete_cell_line(api: Api, shell: Any, event: Any) -> list[str]:
    """Return completions for the word at the cursor of a %%skytells_chat or %%skytells_respond line."""
    before = _words_before(event, event.text_until_cursor.replace("=", " "))
    match before[-1] if before else "":
        case "-m" | "--model":
            return _known_models()
        case "-v" | "--var" | "-o" | "--output":
            return _names(shell.user_ns)
        case "--schema":
            return [name for name in _names(shell.user_ns) if hasattr(shell.user_ns[name], "model_json_schema")]
        case "--image":
            return [*_names(shell.user_ns), *_files(*_IMAGE_FILES)]
        case "--conversation":
            return _conversations(api)
        case "-f" | "--format":
            return list(get_args(Format))
        case "--effort":
            return list(get_args(Effort))
        case option if option in _FREE_TEXT_OPTIONS:
            return []
    return list(option_names(api))


def complete_command(shell: Any, event: Any) -> list[str]:
    """Return completions for the words after %skytells."""
    match _words_before(event, event.text_until_cursor)[1:]:
        case []:
            return list(COMMANDS)
        case ["cache"]:
            return [*cache_options(), *cache_options("stats")]
        case ["cache", "export" | "replay" as action]:
            return [*_files("*.sqlite"), *cache_options(action)]
        case ["cache", action, *_]:
            return list(cache_options(action))
        case ["conversations"]:
            return [*CONVERSATION_ACTIONS, *command_options("conversations")]
        case ["conversations", "reset" | "export"]:
            return _conversations()
        case [command, *_]:
            return list(command_options(command))
    return []


def install(shell: Any) -> Callable[[], None]:
    """Add the completers to the shell; return a function that removes exactly these."""
    added: dict[str, Callable[[Any, Any], list[str]]] = {
        **{f"%%skytells_{api}": partial(complete_cell_line, api) for api in get_args(Api)},
        "%skytells": complete_command,
    }
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


def _words_before(event: Any, text: str) -> list[str]:
    """The words before the one at the cursor."""
    words: list[str] = text.split()
    if event.symbol and words and words[-1].endswith(event.symbol):
        words.pop()
    return words


def _names(namespace: Mapping[str, Any]) -> list[str]:
    return [n for n in namespace if n.isidentifier() and not n.startswith("_") and not keyword.iskeyword(n)]


def _files(*patterns: str) -> list[str]:
    return sorted(path.name for pattern in patterns for path in Path().glob(pattern))


def _conversations(api: Api | None = None) -> list[str]:
    from skytells_nb import session

    if not session.has_current():
        return []
    from skytells_nb.magics.conversations import conversations

    return [c.name for c in conversations(session.current()).values() if api in (None, c.api)]


def _known_models() -> list[str]:
    from skytells_nb import session

    # Completion must not connect: that would start a server, or fail on a missing key.
    return session.current().known_models() if session.has_current() else _listed_models()


def _listed_models() -> list[str]:
    from skytells_nb.types.models import DEFAULT_EMBEDDING_MODEL, LISTED_PRICES

    return [*LISTED_PRICES, DEFAULT_EMBEDDING_MODEL]
