"""Templates fill fields, and evaluate nothing else."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.accessor.prompts.template import Template
from skytells_nb.errors import InputError


@given(st.lists(st.text(max_size=12), min_size=1, max_size=4), st.text(max_size=20), st.text(max_size=20))
def test_values_replace_their_fields_whatever_they_hold(values: list[str], left: str, right: str) -> None:
    """Braces in the data stay data."""
    escaped = [part.replace("{", "{{").replace("}", "}}") for part in (left, right)]
    filled = Template(f"{escaped[0]}{{a b}}{escaped[1]}").fill(pd.DataFrame({"a b": values}, dtype=object))
    assert filled.tolist() == [left + value + right for value in values]


@given(st.text(max_size=30))
def test_a_template_is_filled_or_rejected_and_never_evaluated(template: str) -> None:
    frame = pd.DataFrame({"a": ["x"]})
    try:
        text = Template(template).fill(frame)[0]
    except InputError:
        return
    assert text == template.replace("{a}", "\0").replace("{{", "{").replace("}}", "}").replace("\0", "x")


def test_other_values_are_converted_by_str() -> None:
    frame = pd.DataFrame({"n": [1.5], "when": [pd.Timestamp("2026-01-02")]})
    assert Template("{n} on {when}").fill(frame).tolist() == ["1.5 on 2026-01-02 00:00:00"]


def test_a_missing_value_of_any_field_makes_the_row_missing() -> None:
    frame = pd.DataFrame({"a": ["x", None, "z"], "b": [1, 2, None]})
    assert Template("{a} {b}").fill(frame).tolist() == ["x 1.0", None, None]


@pytest.mark.parametrize("field", ["a.real", "a[0]", "a.__class__.__mro__", "self._key"])
def test_attributes_and_indexes_are_not_fields(field: str) -> None:
    with pytest.raises(InputError, match="not a column"):
        Template("{" + field + "}").fill(pd.DataFrame({"a": [1]}))


def test_a_column_whose_name_has_dots_is_its_name() -> None:
    assert Template("{a.b}").fill(pd.DataFrame({"a.b": ["x"]})).tolist() == ["x"]
