"""Parse the line of ``%skytells``: its commands, each with its own options. Does not depend on IPython."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from skytells_nb.magics.chat_arguments import MagicUsageError, Parser, split_line, variable_name

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "status": "the connection and the default models",
        "usage": "requests, tokens and cost of this session by model",
        "models": "the models with their prices",
        "safety": "findings of the safety filter in this session, by category",
        "conversations": "the conversations of this session; conversations reset NAME, export NAME [TO]",
        "config": "the settings, and where each comes from",
        "cache": "statistics of the cache; cache export FILE, replay FILE and prune",
        "connect": "connect again, from the environment",
        "local": "connect to small models on this machine: no key, no cost",
        "fix": "explain the last error, and put the corrected cell below without running it",
        "help": "this list; help WORD explains one",
    }
)
"""The commands of %skytells, with a description of each."""

EXAMPLES: Mapping[str, str] = MappingProxyType(
    {
        "status": "%skytells status",
        "usage": "%skytells usage",
        "models": "%skytells models",
        "safety": "%skytells safety",
        "conversations": "%skytells conversations export trip messages",
        "config": "%skytells config",
        "cache": "%skytells cache export tutorial.sqlite",
        "connect": "%skytells connect",
        "local": "%skytells local",
        "fix": "%skytells fix -m gpt-5",
        "help": "%skytells help cache",
    }
)
"""An example of each command."""
_NEXT = """Ask in a cell:                %%skytells_chat -o draft
                              Write a title for a talk on tides.
On one line:                  %skytells_chat what is a tide?
Use an answer in a prompt:    %%skytells_chat -v draft
                              Translate to Spanish: {{draft}}
Continue a conversation:      %%skytells_chat --conversation trip
Ask for data:                 %%skytells_chat --json -o plan
A whole column:               frame.skytells.complete("Summarize: {text}")
Without a key:                %skytells local

Try next: %skytells local, then one of these cells; %skytells fix after an error. Add -h for the options of a command;
%%skytells_chat -h and %%skytells_respond -h list those of cells."""

TUTORIALS_URL = "https://skytells.github.io/skytells-nb/tutorials"
NOTEBOOK_SUBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "01_quickstart": "a column of texts: embed, search, classify, complete, a map",
        "02_replay": "a notebook that runs again without a key",
        "03_see_it": "maps, charts and the explorer",
        "04_ask_in_a_cell": "cells, variables, conversations, the chat panel",
        "05_enrich_a_frame": "estimate, budget, cache, report, rows that fail",
        "06_labels_and_fields": "classify and extract",
        "07_find_and_group": "search, clusters, topics over time",
        "08_safety_outcomes": "moderate, and what the filter found",
        "09_numbers_to_publish": "a share with an error bar",
        "10_conversations": "the Responses API",
        "11_going_to_production": "errors, limits, tests, the OpenAI SDK",
        "12_beyond_one_machine": "Dask and other engines",
    }
)
"""The notebook for each subject, a page of the documentation."""

CONVERSATION_ACTIONS = ("list", "reset", "export")
"""The actions of ``%skytells conversations``."""


@dataclass(frozen=True, slots=True)
class CommandArguments:
    """The parsed line of %skytells. For ``cache`` only the command is parsed here."""

    command: str
    action: str = "list"
    name: str = ""
    to: str = ""
    force: bool = False
    model: str | None = None
    help: bool = False


def parse_command_line(line: str) -> CommandArguments:
    """Parse what follows ``%skytells``.

    Raises MagicUsageError, with a message of one line, for an unknown command or option.

    >>> parse_command_line("conversations export draft draft.json").to
    'draft.json'
    """
    words = split_line(line)
    command = words.pop(0) if words and not words[0].startswith("-") else "help" if words else "status"
    if command not in COMMANDS:
        raise MagicUsageError(f"%skytells {command}: use one of {', '.join(COMMANDS)}")
    if command == "cache":
        return CommandArguments(command)
    parser = _PARSERS[command]
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        raise MagicUsageError(
            f"%skytells {command} takes no argument {unknown[0]!r} ({parser.prog} -h lists the options)"
        )
    args = CommandArguments(command, **vars(parsed))
    if command == "conversations" and not args.help:
        _check_action(args)
    if command == "help" and args.name and args.name not in COMMANDS:
        raise MagicUsageError(f"%skytells help {args.name}: use one of {', '.join(COMMANDS)}")
    return args


def command_help(command: str) -> str:
    """Return the help text of a command; of ``help`` the list of all commands."""
    return _all_help() if command == "help" else _PARSERS[command].format_help()


def command_options(command: str) -> tuple[str, ...]:
    """Return the options of a command."""
    return _PARSERS[command].options if command in _PARSERS else ()


def export_variable(args: CommandArguments) -> str:
    """Return the variable to export to, or an empty string if the target is a file."""
    if args.to.endswith(".json"):
        return ""
    try:
        return variable_name(args.to or args.name)
    except argparse.ArgumentTypeError:
        raise MagicUsageError(
            f"the target must be a variable name or a .json file, got {args.to or args.name!r}: "
            f"%skytells conversations export {args.name} NAME, or FILE.json"
        ) from None


def _check_action(args: CommandArguments) -> None:
    if args.action not in CONVERSATION_ACTIONS:
        raise MagicUsageError(f"%skytells conversations {args.action}: use one of {', '.join(CONVERSATION_ACTIONS)}")
    if args.action == "list" and args.name:
        raise MagicUsageError(f"%skytells conversations list takes no argument {args.name!r}")
    if args.action != "list" and not args.name:
        raise MagicUsageError(f"name the conversation: %skytells conversations {args.action} NAME")
    if args.action == "reset" and args.to:
        raise MagicUsageError(f"%skytells conversations reset takes one NAME and no argument {args.to!r}")


def _build_parsers() -> dict[str, Parser]:
    parsers = {}
    for command, description in COMMANDS.items():
        parser = Parser(f"%skytells {command}", f"{description[0].upper()}{description[1:]}.")
        parsers[command] = parser
        if command == "conversations":
            parser.add_argument("action", nargs="?", default="list", help="list, reset or export; default: list")
            parser.add_argument("name", nargs="?", default="", metavar="NAME", help="the conversation")
            parser.add_argument("to", nargs="?", default="", metavar="TO", help="a variable, or a file FILE.json")
            parser.add_argument("--force", action="store_true", help="replace an existing file")
        if command == "help":
            parser.add_argument("name", nargs="?", default="", metavar="WORD", help="a command")
        if command == "fix":
            parser.add_argument("-m", "--model", help="the model; default: that of cells")
        parser.epilog = f"Example: {EXAMPLES[command]}"
        parser.add_argument("-h", "--help", action="store_true", help="show this and do nothing")
    return parsers


def _all_help() -> str:
    width = max(map(len, EXAMPLES.values()))
    lines = [f"{EXAMPLES[command].ljust(width)}  {description}" for command, description in COMMANDS.items()]
    pages = [f"{name.ljust(width)}  {subject}" for name, subject in NOTEBOOK_SUBJECTS.items()]
    notebooks = ["", f"A notebook for each subject, at {TUTORIALS_URL}/NAME.html:", "", *pages]
    return "\n".join(["Commands, with an example of each:", "", *lines, "", _NEXT, *notebooks]) + "\n"


_PARSERS = _build_parsers()


CacheAction = Literal["stats", "export", "prune", "replay"]


@dataclass(frozen=True, slots=True)
class CacheArguments:
    """The parsed line of %skytells cache."""

    action: CacheAction = "stats"
    file: str = ""
    force: bool = False
    older_than: float | None = None
    """Days."""
    max_bytes: int | None = None
    compact: bool = False
    help: bool = False


def _build_cache_parsers() -> dict[CacheAction, Parser]:
    descriptions: dict[CacheAction, str] = {
        "stats": "Show what the cache holds, and how often this session used it.",
        "export": "Write the answers that this session used to FILE, so that the notebook runs again offline.",
        "prune": "Remove the oldest answers from the cache.",
        "replay": "Connect again and answer from FILE only: no key, no network, no cost.",
    }
    parsers = {
        action: Parser("%skytells cache" if action == "stats" else f"%skytells cache {action}", description)
        for action, description in descriptions.items()
    }
    parsers["stats"].epilog = "See also %skytells cache export FILE, replay FILE and prune; add -h for the options."
    parsers["replay"].epilog = "%skytells connect, or a call of connect(), leaves replay mode."
    for action in ("export", "replay"):
        parsers[action].add_argument("file", metavar="FILE", nargs="?", default="", help="such as tutorial.sqlite")
    parsers["export"].add_argument("--force", action="store_true", help="replace an existing recording")
    prune = parsers["prune"]
    prune.add_argument("--older-than", metavar="DAYS", type=_days, help="remove answers older than this")
    prune.add_argument(
        "--max-bytes", metavar="N", type=_bytes, help="remove the oldest answers until at most this many bytes are left"
    )
    prune.add_argument(
        "--compact", action="store_true", help="give all free space of the file back to the disk; may rewrite it"
    )
    for parser in parsers.values():
        parser.add_argument("-h", "--help", action="store_true", help="show this and do nothing")
    return parsers


def parse_cache_line(line: str) -> CacheArguments:
    """Parse what follows ``%skytells cache``.

    Raises MagicUsageError, with a message of one line, for an unknown action or option.

    >>> parse_cache_line("export 'my answers.sqlite' --force").file
    'my answers.sqlite'
    """
    words = split_line(line)
    action = _action(words.pop(0)) if words and not words[0].startswith("-") else "stats"
    parser = _CACHE_PARSERS[action]
    parsed, unknown = parser.parse_known_args(words)
    if unknown:
        raise MagicUsageError(f"{parser.prog} takes no argument {unknown[0]!r} ({parser.prog} -h lists the options)")
    args = CacheArguments(action=action, **vars(parsed))
    if args.help:
        return args
    if action in ("export", "replay") and not args.file:
        raise MagicUsageError(f"name the file: {parser.prog} FILE")
    if action == "prune" and args.older_than is None and args.max_bytes is None and not args.compact:
        raise MagicUsageError(
            "state what to remove: %skytells cache prune --older-than DAYS, --max-bytes N, or both; or pass --compact"
        )
    return args


def cache_help(action: CacheAction) -> str:
    """Return the help text of one action."""
    return _CACHE_PARSERS[action].format_help()


def cache_options(action: str | None = None) -> tuple[str, ...]:
    """Return the actions of ``%skytells cache``, or the options of one of them."""
    parser = next((parser for name, parser in _CACHE_PARSERS.items() if name == action), None)
    if parser is None:
        return tuple(_CACHE_PARSERS)
    return parser.options


def _action(word: str) -> CacheAction:
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
        raise argparse.ArgumentTypeError(f"must be a number of days, 0 or more, got {text!r}")
    return days


def _bytes(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"must be a number of bytes, such as 500_000_000, got {text!r}")
    return count


_CACHE_PARSERS = _build_cache_parsers()
