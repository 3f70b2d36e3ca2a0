"""Variables in the body of a cell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.magics.chat_arguments import MagicUsageError
from skytells_nb.magics.variables import fill_placeholders, placeholder

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)


@given(st.text(), st.dictionaries(NAMES, st.text(), max_size=3))
def test_values_are_filled_in_one_pass(text: str, values: dict[str, str]) -> None:
    """Each listed placeholder becomes its value; values that look like placeholders stay as they are."""
    hostile = {name: value + "".join(map(placeholder, values)) for name, value in values.items()}
    if any(placeholder(name) in text for name in values):
        return
    body = text + "\0" + "\0".join(map(placeholder, values))
    assert fill_placeholders(body, hostile) == text + "\0" + "\0".join(hostile.values())


@given(st.text())
def test_a_body_without_variables_is_untouched(body: str) -> None:
    """Braces of any kind are text."""
    assert fill_placeholders(body, {}) == body


def test_other_placeholders_stay() -> None:
    """Only names that were asked for are filled, written exactly so."""
    assert fill_placeholders("{{a}} {{b}} {{ a }} {a} {{a.b}} {{{a}}}", {"a": "1"}) == "1 {{b}} {{ a }} {a} {{a.b}} {1}"


def test_a_variable_that_the_body_does_not_use_is_an_error() -> None:
    """A forgotten or misspelt placeholder is not sent out silently."""
    with pytest.raises(MagicUsageError, match=r"-v b: the prompt has no \{\{b\}\}"):
        fill_placeholders("{{a}}", {"a": "1", "b": "2"})
