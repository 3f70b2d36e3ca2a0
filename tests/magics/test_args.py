"""The line of %%skytells_chat, and the body's variables."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.magics.args import (
    ChatArgs,
    MagicUsageError,
    chat_help,
    fill,
    option_names,
    parse_chat_line,
    placeholder,
)

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


def test_an_empty_line_leaves_everything_to_the_session() -> None:
    """Without options nothing is decided here."""
    assert parse_chat_line("") == ChatArgs()


def test_every_option_has_its_place() -> None:
    """Long and short forms give the same value."""
    short = parse_chat_line("-m gpt-5 -o out -s 'a \"b\" c' -v x -v y -v x -t 0.5 --max-tokens 9 --no-stream -f text")
    long = parse_chat_line(
        "--model gpt-5 --output=out --system 'a \"b\" c' --var x --var y --temperature 0.5 --max-tokens=9 --no-stream "
        "--format text"
    )
    assert short == long
    assert short == ChatArgs("gpt-5", "out", 'a "b" c', ("x", "y"), 0.5, 9, False, "text", False)


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
        ("-m", "expected one argument"),
        ("--mod x", "'--mod' is not an option"),
        ("-s 'open", "close the quote"),
        ("write a poem", "'write' is not an option; the prompt goes below the line"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(line: str, message: str) -> None:
    """Errors say what was found; nothing exits or prints."""
    with pytest.raises(MagicUsageError) as raised:
        parse_chat_line(line)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=60))
def test_any_line_parses_or_is_a_usage_error(line: str) -> None:
    """No line ends in another kind of error, or in an exit."""
    with contextlib.suppress(MagicUsageError):
        assert isinstance(parse_chat_line(line), ChatArgs)


def test_help_names_every_option() -> None:
    """What can be given is listed."""
    assert all(name in chat_help() for name in option_names())
    assert {"-m", "--model", "-h", "--no-stream"} <= set(option_names())


@given(st.text(), st.dictionaries(NAMES, st.text(), max_size=3))
def test_values_are_filled_in_one_pass(text: str, values: dict[str, str]) -> None:
    """Each listed placeholder becomes its value; values that look like placeholders stay as they are."""
    hostile = {name: value + "".join(map(placeholder, values)) for name, value in values.items()}
    if any(placeholder(name) in text for name in values):
        return
    body = text + "\0" + "\0".join(map(placeholder, values))
    assert fill(body, hostile) == text + "\0" + "\0".join(hostile.values())


@given(st.text())
def test_a_body_without_variables_is_untouched(body: str) -> None:
    """Braces of any kind are text."""
    assert fill(body, {}) == body


def test_other_placeholders_stay() -> None:
    """Only names that were asked for are filled, written exactly so."""
    assert fill("{{a}} {{b}} {{ a }} {a} {{a.b}} {{{a}}}", {"a": "1"}) == "1 {{b}} {{ a }} {a} {{a.b}} {1}"


def test_a_variable_that_the_body_does_not_use_is_an_error() -> None:
    """A forgotten or misspelt placeholder is not sent out silently."""
    with pytest.raises(MagicUsageError, match=r"-v b: the prompt has no \{\{b\}\}"):
        fill("{{a}}", {"a": "1", "b": "2"})


def test_parsing_does_not_import_ipython() -> None:
    """The arguments are plain Python."""
    code = "import sys, skytells_nb.magics.args; print('IPython' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"
