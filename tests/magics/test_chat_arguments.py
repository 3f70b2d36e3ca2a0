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

from skytells_nb.magics.chat_arguments import (
    Api,
    CellArguments,
    MagicUsageError,
    cell_help,
    option_names,
    parse_cell_line,
)

APIS: tuple[Api, ...] = ("chat", "respond")


@pytest.mark.parametrize("api", APIS)
def test_an_empty_line_leaves_everything_to_the_session(api: Api) -> None:
    """Without options nothing is decided here."""
    assert parse_cell_line(api, "") == CellArguments(api)


def test_short_options_have_long_ones() -> None:
    """Long and short forms give the same value."""
    short = parse_cell_line("chat", "-m gpt-5 -o out -s 'a \"b\" c' -v x -v y -v x -t 0.5 -f text")
    long = parse_cell_line(
        "chat",
        "--model gpt-5 --output=out --system 'a \"b\" c' --var x --var y --temperature 0.5 --format text",
    )
    assert short == long
    expected = CellArguments(model="gpt-5", output="out", system='a "b" c', variables=("x", "y"), temperature=0.5)
    assert short == replace(expected, format="text")


def test_every_option_has_its_place() -> None:
    """Options of both magics, and those that only one of them has."""
    common = (
        "--max-tokens 9 --image a.png --image b --conversation talk --json --schema City --safety --code --no-stream"
    )
    expected = CellArguments(
        max_tokens=9,
        images=("a.png", "b"),
        conversation="talk",
        json=True,
        schema="City",
        safety=True,
        code=True,
        stream=False,
    )
    assert parse_cell_line("chat", f"{common} --stop END --stop ' b' --cache") == replace(
        expected, stop=("END", " b"), cache=True
    )
    assert parse_cell_line("respond", f"{common} --effort low --store") == replace(
        expected, api="respond", effort="low", store=True
    )
    assert parse_cell_line("respond", "--no-store").store is False


def test_json_is_shown_as_json_unless_said_otherwise() -> None:
    """What is asked for as data is shown as data."""
    assert parse_cell_line("chat", "").display_format == "markdown"
    assert parse_cell_line("chat", "--json").display_format == "json"
    assert parse_cell_line("chat", "--schema City").display_format == "json"
    assert parse_cell_line("chat", "--schema City -f text").display_format == "text"


def test_a_conversation_cannot_go_on_from_what_is_not_stored() -> None:
    """Two options that contradict each other are refused."""
    with pytest.raises(MagicUsageError, match="leave out --no-store"):
        parse_cell_line("respond", "--conversation talk --no-store")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-t hot", "must be a number, got 'hot'"),
        ("--max-tokens 0", "must be a positive integer, got '0'"),
        ("--max-tokens -5", "must be a positive integer, got '-5'"),
        ("-o 'two words'", "must be a variable name, got 'two words'"),
        ("-o a.b", "must be a variable name, got 'a.b'"),
        ("-v class", "must be a variable name, got 'class'"),
        ("-v x[0]", "must be a variable name, got 'x[0]'"),
        ("-f html", "invalid choice: 'html'"),
        ("--effort low", "'--effort' is not an option"),
        ("-m", "expected one argument"),
        ("--mod x", "'--mod' is not an option"),
        ("-s 'open", "close the quote"),
        ("write a poem", "'write' is not an option; the prompt goes below the line"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(line: str, message: str) -> None:
    """Errors contain the wrong value; nothing exits or prints."""
    with pytest.raises(MagicUsageError) as raised:
        parse_cell_line("chat", line)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=60))
def test_any_line_parses_or_is_a_usage_error(line: str) -> None:
    """No line ends in another kind of error, or in an exit."""
    with contextlib.suppress(MagicUsageError):
        assert isinstance(parse_cell_line("chat", line), CellArguments)


@pytest.mark.parametrize("api", APIS)
def test_help_names_every_option(api: Api) -> None:
    """The help lists and explains every option."""
    names = option_names(api)
    assert {"-m", "--model", "-h", "--no-stream", "--schema"} <= set(names)
    assert all(name in cell_help(api) for name in names)


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
