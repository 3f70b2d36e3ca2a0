"""The line of ``%skytells cache`` as a value. Knows nothing of IPython."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from skytells_nb.magics.args import MagicUsageError, Parser, split_line

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


def _build_parsers() -> dict[Action, Parser]:
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
    parser = _PARSERS[action]
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
    return _PARSERS[action].format_help()


def cache_words(action: str | None = None) -> tuple[str, ...]:
    """What may follow ``%skytells cache``, or one of its words."""
    named = next((parser for name, parser in _PARSERS.items() if name == action), None)
    if named is None:
        return tuple(_PARSERS)
    return named.options


def _action(word: str) -> Action:
    for action in _PARSERS:
        if word == action:
            return action
    raise MagicUsageError(f"%skytells cache {word}: use one of {', '.join(_PARSERS)}")


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


_PARSERS = _build_parsers()
