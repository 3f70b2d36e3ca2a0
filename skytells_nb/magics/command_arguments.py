"""The line of ``%skytells`` as a value: its words, each with its own options. Knows nothing of IPython."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from skytells_nb.magics.chat_arguments import MagicUsageError, Parser, plain_name, split_line

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "status": "the connection, the default models, what was used",
        "usage": "requests, tokens and cost of this session by model",
        "models": "the models with their prices",
        "safety": "what the safety filter found in this session, by category",
        "conversations": "the conversations of this session; conversations reset NAME, export NAME [TO]",
        "config": "the settings in force, and where each comes from",
        "cache": "what the cache holds; cache export FILE, replay FILE and prune",
        "connect": "connect again, from the environment",
        "local": "connect to small models on this machine: no key, no cost",
        "help": "this list",
    }
)
"""What %skytells understands, and what each word does."""

ACTIONS = ("list", "reset", "export")
"""What ``%skytells conversations`` does."""


@dataclass(frozen=True, slots=True)
class WordArgs:
    """What a line of %skytells asks for. Of ``cache`` only the word is read here."""

    word: str
    action: str = "list"
    name: str = ""
    to: str = ""
    force: bool = False
    help: bool = False


def parse_word_line(line: str) -> WordArgs:
    """What follows ``%skytells``.

    Raises MagicUsageError, with a message of one line, for anything that is none of its words.

    >>> parse_word_line("conversations export draft draft.json").to
    'draft.json'
    """
    words = split_line(line)
    word = words.pop(0) if words and not words[0].startswith("-") else "help" if words else "status"
    if word not in WORDS:
        raise MagicUsageError(f"%skytells {word}: use one of {', '.join(WORDS)}")
    if word == "cache":
        return WordArgs(word)
    parser = _PARSERS[word]
    found, rest = parser.parse_known_args(words)
    if rest:
        raise MagicUsageError(f"{rest[0]!r} is too much for %skytells {word} ({parser.prog} -h lists the options)")
    args = WordArgs(word, **vars(found))
    if word == "conversations" and not args.help:
        _check_action(args)
    return args


def word_help(word: str) -> str:
    """What one word does and takes, for people; of ``help`` all of them."""
    return _all_help() if word == "help" else _PARSERS[word].format_help()


def word_options(word: str) -> tuple[str, ...]:
    """The options of a word."""
    return _PARSERS[word].options if word in _PARSERS else ()


def export_name(args: WordArgs) -> str:
    """The variable that an export goes to, empty where it goes to a file."""
    if args.to.endswith(".json"):
        return ""
    try:
        return plain_name(args.to or args.name)
    except argparse.ArgumentTypeError:
        said = f"{args.to or args.name!r} is no plain variable name and no .json file"
        raise MagicUsageError(f"{said}: %skytells conversations export {args.name} NAME, or FILE.json") from None


def _check_action(args: WordArgs) -> None:
    if args.action not in ACTIONS:
        raise MagicUsageError(f"%skytells conversations {args.action}: use one of {', '.join(ACTIONS)}")
    if args.action == "list" and args.name:
        raise MagicUsageError(f"{args.name!r} is too much for %skytells conversations list")
    if args.action != "list" and not args.name:
        raise MagicUsageError(f"name the conversation: %skytells conversations {args.action} NAME")
    if args.action == "reset" and args.to:
        raise MagicUsageError(f"{args.to!r} is too much for %skytells conversations reset")


def _build_parsers() -> dict[str, Parser]:
    parsers = {}
    for word, does in WORDS.items():
        parser = parsers[word] = Parser(f"%skytells {word}", f"{does[0].upper()}{does[1:]}.")
        if word == "conversations":
            parser.add_argument("action", nargs="?", default="list", help="list, reset or export; default: list")
            parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the conversation")
            parser.add_argument("to", nargs="?", default="", metavar="TO", help="a variable, or a file FILE.json")
            parser.add_argument("--force", action="store_true", help="replace a file that is there already")
        parser.add_argument("-h", "--help", action="store_true", help="show this and do nothing")
    return parsers


def _all_help() -> str:
    width = max(map(len, WORDS))
    lines = [f"%skytells {word.ljust(width)}  {does}" for word, does in WORDS.items()]
    more = "Each with -h. %%skytells_chat -h and %%skytells_respond -h list the options of the cells."
    return "\n".join([*lines, more]) + "\n"


_PARSERS = _build_parsers()


Action = Literal["stats", "export", "prune", "replay"]


@dataclass(frozen=True, slots=True)
class CacheArgs:
    """What a line of %skytells cache asks for."""

    action: Action = "stats"
    file: str = ""
    force: bool = False
    older_than: float | None = None
    """Days."""
    max_bytes: int | None = None
    help: bool = False


def _build_cache_parsers() -> dict[Action, Parser]:
    descriptions: dict[Action, str] = {
        "stats": "What the cache holds, and what this session had from it.",
        "export": "Write the answers that this session used to FILE, so that the notebook runs again offline.",
        "prune": "Remove the oldest answers from the cache.",
        "replay": "Connect again, answered from FILE only: no key, no network, no cost.",
    }
    parsers = {
        action: Parser("%skytells cache" if action == "stats" else f"%skytells cache {action}", description)
        for action, description in descriptions.items()
    }
    parsers["stats"].epilog = "Also: %skytells cache export FILE, replay FILE, prune; each with -h."
    parsers["replay"].epilog = "%skytells connect, or a connect() of your own, leaves replay mode."
    for action in ("export", "replay"):
        parsers[action].add_argument("file", metavar="FILE", nargs="?", default="", help="such as tutorial.sqlite")
    parsers["export"].add_argument("--force", action="store_true", help="replace a recording that is there already")
    prune = parsers["prune"]
    prune.add_argument("--older-than", metavar="DAYS", type=_days, help="remove what is older than this")
    prune.add_argument("--max-bytes", metavar="N", type=_bytes, help="remove until at most this many are left")
    for parser in parsers.values():
        parser.add_argument("-h", "--help", action="store_true", help="show this and do nothing")
    return parsers


def parse_cache_line(line: str) -> CacheArgs:
    """What follows ``%skytells cache``.

    Raises MagicUsageError, with a message of one line, for anything that is none of its words.

    >>> parse_cache_line("export 'my answers.sqlite' --force").file
    'my answers.sqlite'
    """
    words = split_line(line)
    action = _action(words.pop(0)) if words and not words[0].startswith("-") else "stats"
    parser = _CACHE_PARSERS[action]
    found, rest = parser.parse_known_args(words)
    if rest:
        raise MagicUsageError(f"{rest[0]!r} is too much ({parser.prog} -h lists the options)")
    args = CacheArgs(action=action, **vars(found))
    if args.help:
        return args
    if action in ("export", "replay") and not args.file:
        raise MagicUsageError(f"name the file: {parser.prog} FILE")
    if action == "prune" and args.older_than is None and args.max_bytes is None:
        raise MagicUsageError("say what to remove: %skytells cache prune --older-than DAYS, --max-bytes N, or both")
    return args


def cache_help(action: Action) -> str:
    """The options of one word, for people."""
    return _CACHE_PARSERS[action].format_help()


def cache_words(action: str | None = None) -> tuple[str, ...]:
    """What may follow ``%skytells cache``, or one of its words."""
    named = next((parser for name, parser in _CACHE_PARSERS.items() if name == action), None)
    if named is None:
        return tuple(_CACHE_PARSERS)
    return named.options


def _action(word: str) -> Action:
    for action in _CACHE_PARSERS:
        if word == action:
            return action
    raise MagicUsageError(f"%skytells cache {word}: use one of {', '.join(_CACHE_PARSERS)}")


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days, 0 or more")
    return days


def _bytes(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of bytes, such as 500_000_000")
    return count


_CACHE_PARSERS = _build_cache_parsers()
