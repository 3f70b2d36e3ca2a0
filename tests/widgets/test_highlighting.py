"""Code in colors: the same letters, no markup of the model's."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytells_nb.widgets.highlighting import LANGUAGES, LONG_LINE_CHARS, LONG_LINES, highlight_block, highlight_code
from skytells_nb.widgets.safe_text import plain


def letters(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.text(max_size=80), st.sampled_from([*sorted(LANGUAGES), "", "nonsense", '"><script>'])), max_size=4
    )
)
def test_every_letter_is_kept_and_only_elements_of_a_few_forms_are_made(runs: list[tuple[str, str]]) -> None:
    """Whatever a lexer makes of it, reading the page gives the code, and nothing in it is markup."""
    page = highlight_code(runs)
    assert letters(page) == "".join(plain(code) for code, _ in runs)
    allowed = r'</(div|pre|listing|span|b|i)>|<(listing|i)>|<(div|pre) class="[\w -]+">|<(span|b) class=\w+>'
    assert all(re.fullmatch(allowed, tag) for tag in set(re.findall(r"<[^>]*>", page)))


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_each_language_that_is_listed_has_a_lexer(language: str) -> None:
    """A name without one would fail in the middle of an answer."""
    assert letters(highlight_code([('x = "y"\n', language)])) == 'x = "y"\n'


def test_each_block_has_the_colours_of_its_own_language() -> None:
    """A Python comment is not a comment in JavaScript."""
    page = highlight_code([("# a\n", "python"), ("// b\n", "js"), ("# c\n", "unknown")])
    assert re.findall(r"<i>([^<]*)</i>", page) == ["# a", "// b"]


@pytest.mark.parametrize("language", ["python", ""])
def test_a_block_with_a_long_line_says_that_it_scrolls(language: str) -> None:
    """Beside its language: not every system shows a scroll bar before it is used."""
    line = "x" * LONG_LINE_CHARS
    assert LONG_LINES not in highlight_block(f"{line}\n{line}\n", language)
    assert f'{LONG_LINES}</small></i></div><pre tabindex="0">' in highlight_block(f"x\n{line}x\n", language)


@pytest.mark.parametrize("number", ["60", "0x1f", "1.5e3", "0b101", "0o17"])
def test_a_number_has_the_color_of_literals(number: str) -> None:
    """The one that JupyterLab has for numbers alone is too light for text."""
    assert f"<span class=s>{number}</span>" in highlight_block(f"x = {number}", "python")
