"""Answers to a schema that is a dict are held to what it says, as jsonschema would."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_fakes import EchoGenerator
from served import connected, served

from skytells_nb.accessor import fits
from skytells_nb.accessor.fits import faults

numbers = st.one_of(st.integers(-4, 4), st.sampled_from([0.5, 2.0, -1.5]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text("ab", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=6,
)
kinds = st.sampled_from(["string", "number", "integer", "boolean", "object", "array", "null"])


def schemas() -> st.SearchStrategy[Any]:
    limits = {
        "type": st.one_of(kinds, st.lists(kinds, min_size=1, max_size=3, unique=True)),
        "const": values,
        "enum": st.lists(values, min_size=1, max_size=3),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), numbers),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties"), st.integers(0, 3)),
        "pattern": st.sampled_from(["^a", "b$", "a+b"]),
        "required": st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
        "uniqueItems": st.booleans(),
        "$ref": st.sampled_from(["#/$defs/text", "#/$defs/tree"]),
    }
    flat = st.fixed_dictionaries({}, optional=limits)
    return st.recursive(
        st.one_of(st.booleans(), flat),
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                "type": kinds,
                "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
                "additionalProperties": inner,
                "items": inner,
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
                **{word: st.lists(inner, min_size=1, max_size=2) for word in ("anyOf", "oneOf", "allOf")},
                "not": inner,
            },
        ),
        max_leaves=4,
    )


DEFS = {"text": {"type": "string", "maxLength": 2}, "tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}


@settings(deadline=None, max_examples=400)
@given(schemas(), values)
def test_it_finds_fault_where_jsonschema_does(schema: Any, value: Any) -> None:
    whole = {**schema, "$defs": DEFS} if isinstance(schema, dict) else schema
    assert (not faults(whole, value)) is jsonschema.Draft202012Validator(whole).is_valid(value)


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        ({"minimum": 1}, 0, "x is 0, which is less than 1"),
        ({"maxLength": 2}, "abc", "x is 'abc', which has more than 2 characters"),
        ({"pattern": "^[A-Z]{2}$"}, "de", "x is 'de', which does not match ^[A-Z]{2}$"),
        ({"minItems": 2}, [1], "x is [1], which has fewer than 2 items"),
        ({"const": "a"}, "b", "x is 'b', which is not 'a'"),
        ({"properties": {"y": {}}, "additionalProperties": False}, {"z": 1}, "x.z is no field of x"),
        ({"anyOf": [{"type": "null"}, {"type": "integer", "maximum": 3}]}, 4, "x is 4, which is no null"),
        ({"items": {"$ref": "#/$defs/text"}}, ["abc"], "x.0 is 'abc', which has more than 2 characters"),
    ],
)
def test_it_says_where_and_what(part: Any, value: Any, told: str) -> None:
    assert faults({"properties": {"x": part}, "$defs": DEFS}, {"x": value}) == [told]


def test_a_schema_that_names_only_itself_and_a_pattern_of_another_dialect_ask_for_nothing() -> None:
    assert faults({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, 1) == []
    assert faults({"pattern": "(?<n>a"}, "b") == []


def test_its_example_says_what_comes() -> None:
    assert doctest.testmod(fits).failed == 0


class Grows(EchoGenerator):
    """Says a larger number at each try."""

    def stream(self, messages: Any, **settings: Any) -> Any:
        said = f'{{"n": {sum(message["role"] == "assistant" for message in messages)}}}'
        return super().stream([{"role": "user", "content": said}], **{**settings, "schema": None})


def test_an_answer_beyond_a_bound_is_asked_for_again(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2}}, "required": ["n"]}
    with served(generator=Grows()) as server, connected(server, tmp_path / "c.sqlite"):
        out = pd.DataFrame({"t": ["one"]}).skytells.complete("{t}", schema=schema, flatten=True, progress=False)
    assert out["n"].tolist() == [2]
    assert out.skytells.report.requests == 3
