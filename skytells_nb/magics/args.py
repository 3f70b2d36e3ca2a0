"""The line of %%skytells_chat as a value, and its variables filled into the body. Knows nothing of IPython."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NoReturn

from skytells_nb.errors import InputError

Format = Literal["markdown", "text"]


class MagicUsageError(InputError):
    """The line of a magic cannot be understood; the message is one line."""


@dataclass(frozen=True, slots=True)
class ChatArgs:
    """What the line of %%skytells_chat asks for; ``None`` leaves the choice to the session."""

    model: str | None = None
    output: str | None = None
    system: str | None = None
    variables: tuple[str, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    stream: bool = True
    format: Format = "markdown"
    help: bool = False
    cache: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise MagicUsageError(f"{message} (%%skytells_chat -h lists the options)")


def _build_parser() -> _Parser:
    parser = _Parser(
        prog="%%skytells_chat",
        description="Ask a model; the body of the cell is the prompt, taken literally.",
        epilog="The answer is kept in _sky and under the name that -o gives. {{NAME}} is filled where -v NAME asks.",
        add_help=False,
        allow_abbrev=False,
    )
    option = parser.add_argument
    option("-m", "--model", help="the model; default: %%config SkytellsMagics.model, else the session's")
    option("-o", "--output", metavar="NAME", type=_name, help="keep the answer in this variable")
    option("-s", "--system", metavar="TEXT", help="the system message")
    option(
        "-v",
        "--var",
        metavar="NAME",
        dest="variables",
        action="append",
        default=[],
        type=_name,
        help="fill {{NAME}} from this variable: a text, a number, a DataFrame or a Series (its first rows); repeatable",
    )
    option("-t", "--temperature", metavar="T", type=_number, help="0 to 2; higher is more varied")
    option("--max-tokens", metavar="N", type=_count, help="longest answer, in tokens")
    option("--no-stream", dest="stream", action="store_false", help="show the answer when it is whole")
    option("--cache", action="store_true", help="keep the answer, and show a kept one in the place of asking again")
    option("-f", "--format", choices=("markdown", "text"), default="markdown", help="how to show it; default: markdown")
    option("-h", "--help", action="store_true", help="show this and send nothing")
    return parser


def parse_chat_line(line: str) -> ChatArgs:
    """The line's options.

    Raises MagicUsageError, with a message of one line, for anything that is not one of them.

    >>> parse_chat_line("-m deepbrain-router -s 'Be brief.' -v city").system
    'Be brief.'
    """
    try:
        words = shlex.split(line)
    except ValueError as problem:
        raise MagicUsageError(
            f"{problem} in {line.strip()!r}: close the quote, or escape it with a backslash"
        ) from None
    found, rest = _PARSER.parse_known_args(words)
    if rest:
        raise MagicUsageError(
            f"{rest[0]!r} is not an option; the prompt goes below the line (%%skytells_chat -h lists the options)"
        )
    options = vars(found)
    options["variables"] = tuple(dict.fromkeys(options["variables"]))
    return ChatArgs(**options)


def chat_help() -> str:
    """The options, for people."""
    return _PARSER.format_help()


def option_names() -> tuple[str, ...]:
    """Every option, short and long."""
    return tuple(name for action in _PARSER._actions for name in action.option_strings)


def placeholder(name: str) -> str:
    """How the body names a variable.

    >>> placeholder("city")
    '{{city}}'
    """
    return f"{{{{{name}}}}}"


def fill(body: str, values: Mapping[str, str]) -> str:
    """The body with ``{{name}}`` replaced for each name in ``values``, in one pass; all other braces stay.

    A value is text, never a template: what looks like a placeholder in it is not filled. Raises MagicUsageError where
    the body does not use a value.

    >>> fill('{"a": {{x}}} {{y}}', {"x": "{{y}}"})
    '{"a": {{y}}} {{y}}'
    """
    unused = [name for name in values if placeholder(name) not in body]
    if unused:
        raise MagicUsageError(f"-v {unused[0]}: the prompt has no {placeholder(unused[0])}")
    if not values:
        return body
    pattern = re.compile("|".join(re.escape(placeholder(name)) for name in values))
    return pattern.sub(lambda found: values[found.group()[2:-2]], body)


def _name(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a plain variable name")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


_PARSER = _build_parser()
