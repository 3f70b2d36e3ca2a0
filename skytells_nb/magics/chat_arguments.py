"""The lines of %%skytells_chat and %%skytells_respond as one value. Knows nothing of IPython."""

from __future__ import annotations

import argparse
import keyword
import shlex
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

from skytells_nb.errors import InputError

Format = Literal["markdown", "text", "code", "json", "html-source"]
Effort = Literal["low", "medium", "high"]
Api = Literal["chat", "respond"]


class MagicUsageError(InputError):
    """The line of a magic, or a name on it, cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class AskArgs:
    """What the line of a cell asks for; ``None`` leaves the choice to the session, the conversation or the service."""

    api: Api = "chat"
    model: str | None = None
    output: str | None = None
    system: str | None = None
    variables: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    conversation: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    effort: Effort | None = None
    json: bool = False
    schema: str | None = None
    format: Format | None = None
    safety: bool = False
    code: bool = False
    stream: bool = True
    cache: bool = False
    store: bool | None = None
    help: bool = False

    @property
    def shown_as(self) -> Format:
        """How the answer is shown: as asked for, else JSON where JSON is asked of the model."""
        return self.format or ("json" if self.json or self.schema else "markdown")


class Parser(argparse.ArgumentParser):
    """Raises MagicUsageError where argparse would end the program."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise MagicUsageError(f"{message} ({self.prog} -h lists the options)")

    @property
    def options(self) -> tuple[str, ...]:
        """Every option, short and long."""
        return tuple(name for action in self._actions for name in action.option_strings)


def split_line(line: str) -> list[str]:
    """The words of a line, quotes taken off; raises MagicUsageError for a quote that is not closed."""
    try:
        return shlex.split(line)
    except ValueError as problem:
        raise MagicUsageError(
            f"{problem} in {line.strip()!r}: close the quote, or escape it with a backslash"
        ) from None


def parse_line(api: Api, line: str) -> AskArgs:
    """The options on the line of the magic for this API.

    Raises MagicUsageError, with a message of one line, for anything that is not one of them.

    >>> parse_line("chat", "-m deepbrain-router -s 'Be brief.' -v city").system
    'Be brief.'
    """
    parser = _PARSERS[api]
    found, rest = parser.parse_known_args(split_line(line))
    if rest:
        raise MagicUsageError(
            f"{rest[0]!r} is not an option; the prompt goes below the line ({parser.prog} -h lists the options)"
        )
    options: dict[str, Any] = vars(found)
    for name in ("variables", "images", "stop"):
        options[name] = tuple(dict.fromkeys(options.get(name) or ()))
    args = AskArgs(api=api, **options)
    if args.conversation and args.store is False:
        raise MagicUsageError("--conversation goes on from stored answers; leave out --no-store")
    return args


def ask_help(api: Api) -> str:
    """The options, for people."""
    return _PARSERS[api].format_help()


def option_names(api: Api) -> tuple[str, ...]:
    """Every option, short and long."""
    return _PARSERS[api].options


def plain_name(text: str) -> str:
    """The name of a variable, as argparse wants it checked."""
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


def _build_parser(api: Api) -> Parser:
    chat = api == "chat"
    parser = Parser(
        prog=f"%%skytells_{api}",
        description="Ask a model; the body of the cell is the prompt, taken literally."
        + ("" if chat else " Over the Responses API, which keeps conversations and shows reasoning."),
        epilog="The answer is kept in _sky and under the name that -o gives. {{NAME}} is filled where -v NAME asks.",
    )
    option = parser.add_argument
    option("-m", "--model", help="the model; default: %%config SkytellsMagics.model, else the session's")
    option("-o", "--output", metavar="NAME", type=plain_name, help="keep the answer, or the object, in this variable")
    option("-s", "--system", metavar="TEXT", help="the system message; of a conversation, in its first turn")
    option(
        "-v",
        "--var",
        metavar="NAME",
        dest="variables",
        action="append",
        type=plain_name,
        help="fill {{NAME}} from this variable: a text, a number, a DataFrame or a Series (its first rows); repeatable",
    )
    option(
        "--image",
        metavar="PATH_OR_NAME",
        dest="images",
        action="append",
        help="a picture beside the prompt: a file, an https URL, or a variable with bytes, a path, a URL or a PIL "
        "image; repeatable",
    )
    option("--conversation", metavar="NAME", help="go on in this conversation; the first turn begins it")
    option("-t", "--temperature", metavar="T", type=_number, help="0 to 2; higher is more varied")
    option("--max-tokens", metavar="N", type=_count, help="longest answer, in tokens")
    if chat:
        option("--stop", metavar="TEXT", action="append", help="end the answer before this text; repeatable")
    else:
        option("--effort", choices=get_args(Effort), help="how much to reason; asks for a summary of it too")
    option("--json", action="store_true", help="ask for a JSON object; -o holds it read, as a dict")
    option("--schema", metavar="NAME", type=plain_name, help="ask for this pydantic class; -o holds the object")
    option(
        "-f",
        "--format",
        choices=get_args(Format),
        help="how to show it; code and html-source: only what is fenced, as text; json: indented; default: markdown",
    )
    option("--safety", action="store_true", help="always say the verdict; default: where something was found")
    option("--code", action="store_true", help="put the proposed Python code into the next cell; nothing runs it")
    option("--no-stream", dest="stream", action="store_false", help="show the answer when it is whole")
    if chat:
        option("--cache", action="store_true", help="keep the answer, and show a kept one in the place of asking again")
    else:
        option(
            "--store",
            action=argparse.BooleanOptionalAction,
            help="let the service keep the answer, to go on from it; default: only in a conversation",
        )
    option("-h", "--help", action="store_true", help="show this and send nothing")
    return parser


_PARSERS: dict[Api, Parser] = {api: _build_parser(api) for api in get_args(Api)}
