"""The line of ``%skytells`` as a value: its words, each with its own options. Knows nothing of IPython."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from skytells_nb.magics.args import MagicUsageError, Parser, plain_name, split_line

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
