"""Parse the lines of %%skytells_chat and %%skytells_respond. Does not depend on IPython."""

from __future__ import annotations

import argparse
import keyword
import re
import shlex
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args

from skytells_nb.errors import InputError

Format = Literal["markdown", "text", "code", "json", "html-source"]
Effort = Literal["low", "medium", "high"]
Api = Literal["chat", "respond"]


class MagicUsageError(InputError):
    """The line of a magic, or a name on it, is invalid; the message is one line."""


@dataclass(frozen=True, slots=True)
class CellArguments:
    """The options on the line of a cell; ``None`` leaves the choice to the session, the conversation or the service."""

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
    question: str = ""
    """The prompt, where it stands on the line."""

    @property
    def display_format(self) -> Format:
        """The format to show the answer in: that of ``-f``, else JSON if JSON is requested from the model."""
        return self.format or ("json" if self.json or self.schema else "markdown")


class Parser(argparse.ArgumentParser):
    """An argument parser that raises MagicUsageError where argparse would exit."""

    def __init__(self, prog: str, description: str, epilog: str | None = None) -> None:
        super().__init__(prog=prog, description=description, epilog=epilog, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise MagicUsageError(f"{message} ({self.prog} -h lists the options)")

    @property
    def options(self) -> tuple[str, ...]:
        """Every option, short and long."""
        return tuple(name for action in self._actions for name in action.option_strings)


def split_line(line: str) -> list[str]:
    """Split a line into words and remove quotes; raises MagicUsageError for an unclosed quote."""
    try:
        return shlex.split(line)
    except ValueError as error:
        raise MagicUsageError(f"{error} in {line.strip()!r}: close the quote, or escape it with a backslash") from None


def parse_cell_line(api: Api, line: str, *, question: bool = False) -> CellArguments:
    """Parse the line of the magic for this API; with ``question``, what follows the options is the prompt.

    Raises MagicUsageError, with a message of one line, for anything that is not one of its options.

    >>> parse_cell_line("chat", "-m deepbrain-router -s 'Be brief.' -v city").system
    'Be brief.'
    """
    parser = _PARSERS[api]
    line, prompt = _split_question(parser, line) if question else (line, "")
    parsed, unknown = parser.parse_known_args(split_line(line))
    if unknown:
        raise MagicUsageError(
            f"{unknown[0]!r} is not an option; the prompt goes below the line{_AFTER_DASHES if question else ''} "
            f"({parser.prog} -h lists the options)"
        )
    options: dict[str, Any] = vars(parsed)
    for name in ("variables", "images", "stop"):
        options[name] = tuple(dict.fromkeys(options.get(name) or ()))
    args = CellArguments(api=api, question=prompt, **options)
    if args.conversation and args.store is False:
        raise MagicUsageError("--conversation continues from stored answers; leave out --no-store")
    if api == "respond" and args.cache and (args.conversation or args.store):
        stored = "--conversation" if args.conversation else "--store"
        raise MagicUsageError(f"{stored} keeps the answer at the service, and --cache keeps it here; leave one out")
    return args


_AFTER_DASHES = ", or after --"
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+""", re.DOTALL)


def _split_question(parser: Parser, line: str) -> tuple[str, str]:
    """Split a line after its options; the question keeps its quotes and spaces."""
    takes_value = {
        name: action.nargs != 0 for action in parser._actions for name in action.option_strings if name.startswith("-")
    }
    position = 0
    while word := _WORD.match(line, position + len(line[position:]) - len(line[position:].lstrip())):
        option, assigned, _ = word.group().partition("=")
        if option == "--":
            return line[: word.start()], line[word.end() :].strip()
        if not option.startswith("-") or option == "-":
            return line[: word.start()], line[word.start() :].strip()
        position = word.end()
        if takes_value.get(option) and not assigned:
            rest = line[position:]
            value = _WORD.match(line, position + len(rest) - len(rest.lstrip()))
            position = value.end() if value is not None else len(line)
    rest = line[position:].strip()
    # An apostrophe begins no quoted word of a question.
    return (line[:position], rest) if rest and not rest.startswith("-") else (line, "")


def cell_help(api: Api) -> str:
    """Return the help text of the magic for this API."""
    return _PARSERS[api].format_help()


def option_names(api: Api) -> tuple[str, ...]:
    """Return every option of the magic for this API, short and long."""
    return _PARSERS[api].options


def variable_name(text: str) -> str:
    """Check that a text is a variable name, as an argparse type."""
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"must be a variable name, got {text!r}")
    return text


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a positive integer, got {text!r}")
    return int(text)


def _build_parser(api: Api) -> Parser:
    chat = api == "chat"
    parser = Parser(
        prog=f"%%skytells_{api}",
        description="Ask a model; the body of the cell, or what follows the options, is the prompt, taken literally."
        + ("" if chat else " Uses the Responses API, which stores conversations and shows reasoning."),
        epilog="The answer is stored in _sky and in the variable of -o. -v NAME fills {{NAME}}.",
    )
    option = parser.add_argument
    option("-m", "--model", help="the model; default: %%config SkytellsMagics.model, else the session's")
    option(
        "-o", "--output", metavar="NAME", type=variable_name, help="store the answer, or the object, in this variable"
    )
    option("-s", "--system", metavar="TEXT", help="the system message; in a conversation, only with its first turn")
    option(
        "-v",
        "--var",
        metavar="NAME",
        dest="variables",
        action="append",
        type=variable_name,
        help="fill {{NAME}} from this variable: a text, a number, a date, an answer, a dict, a list or a pydantic "
        "object (as JSON), an array, a DataFrame or a Series (its first rows); repeatable",
    )
    option(
        "--image",
        metavar="PATH_OR_NAME",
        dest="images",
        action="append",
        help="an image to send with the prompt: a file, an https URL, or a variable with bytes, a path, a URL or a PIL "
        "image; repeatable",
    )
    option("--conversation", metavar="NAME", help="continue this conversation; the first turn starts it")
    option("-t", "--temperature", metavar="T", type=_number, help="0 to 2; higher values give more varied answers")
    option("--max-tokens", metavar="N", type=_count, help="maximum length of the answer, in tokens")
    if chat:
        option("--stop", metavar="TEXT", action="append", help="end the answer before this text; repeatable")
    else:
        option(
            "--effort", choices=get_args(Effort), help="how much to reason; also requests a summary of the reasoning"
        )
    option("--json", action="store_true", help="request a JSON object; -o holds it as a dict")
    option(
        "--schema",
        metavar="NAME",
        type=variable_name,
        help="request an object of this pydantic class; -o holds the object",
    )
    option(
        "-f",
        "--format",
        choices=get_args(Format),
        help="display format; code and html-source: only fenced code, as text; json: indented; default: markdown",
    )
    option("--safety", action="store_true", help="always show the safety result; default: only if something was found")
    option("--code", action="store_true", help="put the proposed Python code into the next cell, without running it")
    option("--no-stream", dest="stream", action="store_false", help="show the answer when it is complete")
    option(
        "--cache",
        action="store_true",
        help="cache the answer, and show the cached one instead of sending the request again",
    )
    if not chat:
        option(
            "--store",
            action=argparse.BooleanOptionalAction,
            help="let the service store the answer, to continue from it; default: only in a conversation",
        )
    option("-h", "--help", action="store_true", help="show this and send nothing")
    return parser


_PARSERS: dict[Api, Parser] = {api: _build_parser(api) for api in get_args(Api)}
