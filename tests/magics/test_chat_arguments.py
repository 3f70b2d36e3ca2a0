"""The line of %%skytells_chat, and the body's variables."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.magics.chat_arguments import Api, AskArgs, MagicUsageError, ask_help, option_names, parse_line

APIS: tuple[Api, ...] = ("chat", "respond")


@pytest.mark.parametrize("api", APIS)
def test_an_empty_line_leaves_everything_to_the_session(api: Api) -> None:
    """Without options nothing is decided here."""
    assert parse_line(api, "") == AskArgs(api)


def test_short_options_have_long_ones() -> None:
    """Long and short forms give the same value."""
    short = parse_line("chat", "-m gpt-5 -o out -s 'a \"b\" c' -v x -v y -v x -t 0.5 -f text")
    long = parse_line(
        "chat",
        "--model gpt-5 --output=out --system 'a \"b\" c' --var x --var y --temperature 0.5 --format text",
    )
    assert short == long
    expected = AskArgs(model="gpt-5", output="out", system='a "b" c', variables=("x", "y"), temperature=0.5)
    assert short == replace(expected, format="text")


def test_every_option_has_its_place() -> None:
    """Options of both magics, and those that only one of them has."""
    common = (
        "--max-tokens 9 --image a.png --image b --conversation talk --json --schema City --safety --code --no-stream"
    )
    expected = AskArgs(
        max_tokens=9,
        images=("a.png", "b"),
        conversation="talk",
        json=True,
        schema="City",
        safety=True,
        code=True,
        stream=False,
    )
    assert parse_line("chat", f"{common} --stop END --stop ' b' --cache") == replace(
        expected, stop=("END", " b"), cache=True
    )
    assert parse_line("respond", f"{common} --effort low --store") == replace(
        expected, api="respond", effort="low", store=True
    )
    assert parse_line("respond", "--no-store").store is False


def test_json_is_shown_as_json_unless_said_otherwise() -> None:
    """What is asked for as data is shown as data."""
    assert parse_line("chat", "").shown_as == "markdown"
    assert parse_line("chat", "--json").shown_as == "json"
    assert parse_line("chat", "--schema City").shown_as == "json"
    assert parse_line("chat", "--schema City -f text").shown_as == "text"


def test_a_conversation_cannot_go_on_from_what_is_not_stored() -> None:
    """Two options that contradict each other are refused."""
    with pytest.raises(MagicUsageError, match="leave out --no-store"):
        parse_line("respond", "--conversation talk --no-store")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-t hot", "'hot' is not a number"),
        ("--max-tokens 0", "'0' is not a whole number above 0"),
        ("--max-tokens -5", "'-5' is not a whole number above 0"),
        ("-o 'two words'", "'two words' is not a plain variable name"),
        ("-o a.b", "'a.b' is not a plain variable name"),
        ("-v class", "'class' is not a plain variable name"),
        ("-v x[0]", "'x[0]' is not a plain variable name"),
        ("-f html", "invalid choice: 'html'"),
        ("--effort low", "'--effort' is not an option"),
        ("-m", "expected one argument"),
        ("--mod x", "'--mod' is not an option"),
        ("-s 'open", "close the quote"),
        ("write a poem", "'write' is not an option; the prompt goes below the line"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(line: str, message: str) -> None:
    """Errors say what was found; nothing exits or prints."""
    with pytest.raises(MagicUsageError) as raised:
        parse_line("chat", line)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=60))
def test_any_line_parses_or_is_a_usage_error(line: str) -> None:
    """No line ends in another kind of error, or in an exit."""
    with contextlib.suppress(MagicUsageError):
        assert isinstance(parse_line("chat", line), AskArgs)


@pytest.mark.parametrize("api", APIS)
def test_help_names_every_option(api: Api) -> None:
    """What can be given is listed, and every option says what it is for."""
    names = option_names(api)
    assert {"-m", "--model", "-h", "--no-stream", "--schema"} <= set(names)
    assert all(name in ask_help(api) for name in names)


@pytest.mark.parametrize("api", APIS)
def test_the_changelog_names_every_option(api: Api) -> None:
    """What users can see stands there: an option that is added is added to it too."""
    said = (Path(__file__).parents[2] / "CHANGELOG.md").read_text()
    assert [name for name in option_names(api) if name.startswith("--") and f"`{name}" not in said] == []


def test_parsing_does_not_import_ipython() -> None:
    """The arguments are plain Python."""
    code = "import sys, skytells_nb.magics.chat_arguments; print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
