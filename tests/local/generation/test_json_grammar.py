"""JSON schemas: unsupported keywords are named, and limits only remove values."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.local.generation.json_grammar import (
    MAX_ITEM_STRING,
    MAX_ITEMS,
    MAX_PROPERTIES,
    MAX_STRING,
    add_limits,
    check_schema,
    listed_values,
    object_properties,
)

LEAVES = st.sampled_from(
    [
        {"type": "string"},
        {"type": "string", "minLength": 300},
        {"type": "integer"},
        {"type": "integer", "minimum": 5_000_000_000},
        {"type": "number", "maximum": -3e9},
        {"type": "boolean"},
        {"enum": ["a", 1, None]},
        {"type": ["string", "null"]},
        {"type": "object"},
        {},
    ]
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda part: {"type": "array", "items": part}, inner),
        st.builds(lambda a, b: {"type": "object", "properties": {"a": a, "b": b}, "required": ["b"]}, inner, inner),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-10, 10), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"not": {"type": "string"}}, "not"),
        ({"type": "object", "properties": {"a": {"if": {}, "then": {}}}}, "if"),
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "string", "format": "uri"}, "format"),
        ({"$ref": "https://example.com/schema"}, r"\$ref"),
        ({"type": "object", "properties": {"a": {}}, "maxProperties": 1}, "maxProperties"),
    ],
)
def test_an_unsupported_keyword_is_named(schema: dict[str, Any], keyword: str) -> None:
    """An error instead of an invalid text."""
    with pytest.raises(ValueError, match=f"keyword '{keyword}'"):
        check_schema(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {}}, "required": 3},
        {"type": "integer", "minimum": "low"},
        {"type": "string", "format": ["date"]},
        {"type": "array", "prefixItems": 3, "minItems": "two"},
        ["not", "an", "object"],
        {"enum": ["broken \ud800"]},
    ],
)
def test_an_invalid_schema_is_a_value_error(schema: Any) -> None:
    """As every schema that cannot be used."""
    with pytest.raises(ValueError, match=r"schema|surrogates"):
        check_schema(schema)


def test_a_property_may_be_named_like_a_keyword() -> None:
    """Names of properties are not keywords."""
    check_schema({"type": "object", "properties": {"not": {"type": "string"}, "if": {"enum": ["format"]}}})


def test_what_restricts_nothing_is_left_out_of_the_grammar() -> None:
    """The grammar's compiler knows no ``uniqueItems``, not even one that asks for nothing."""
    plain = {"type": "array", "items": {"type": "integer"}}
    assert add_limits({**plain, "uniqueItems": False, "title": "numbers"}) == add_limits(plain)


def values_within(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for the values of a schema with limits."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "anyOf" in schema:
        return st.one_of([values_within(part) for part in schema["anyOf"]])
    match schema["type"]:
        case list() as kinds:
            return st.one_of([values_within({**schema, "type": kind}) for kind in kinds])
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "string":
            return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))
        case "integer" | "number":
            return st.integers(math.ceil(schema["minimum"]), math.floor(schema["maximum"]))
        case "array":
            return st.lists(values_within(schema["items"]), max_size=min(3, schema["maxItems"]))
        case "object" if "properties" in schema:
            parts = {name: values_within(part) for name, part in schema["properties"].items()}
            required = set(schema.get("required", ()))
            return st.fixed_dictionaries(
                {name: part for name, part in parts.items() if name in required},
                optional={name: part for name, part in parts.items() if name not in required},
            )
        case "object":
            ((_, part),) = schema["patternProperties"].items()
            return st.dictionaries(
                st.sampled_from(["a", "b", "c"]), values_within(part), max_size=min(3, schema["maxProperties"])
            )
    raise AssertionError(schema)


@given(SCHEMAS, st.data())
def test_limits_only_remove_values(schema: dict[str, Any], data: st.DataObject) -> None:
    """A value within the limits is valid for the original schema."""
    limited = add_limits(schema)
    value = data.draw(values_within(limited))
    jsonschema.validate(value, limited, cls=jsonschema.Draft202012Validator)
    jsonschema.validate(value, schema, cls=jsonschema.Draft202012Validator)


@given(SCHEMAS, VALUES)
def test_an_invalid_value_stays_invalid_with_limits(schema: dict[str, Any], value: Any) -> None:
    """Any value, most of which are invalid for both."""
    validator = jsonschema.Draft202012Validator(schema)
    if not validator.is_valid(value):
        assert not jsonschema.Draft202012Validator(add_limits(schema)).is_valid(value)


@given(SCHEMAS)
def test_adding_limits_is_idempotent(schema: dict[str, Any]) -> None:
    """A second time changes nothing, and the input is not modified."""
    before = json.dumps(schema)
    once = add_limits(schema)
    assert add_limits(once) == once
    assert json.dumps(schema) == before


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        ({"enum": ["b", "a", "b"]}, ["b", "a"]),
        ({"type": "boolean", "description": "is it?"}, [True, False]),
        ({"type": "null"}, [None]),
        ({"const": 3}, [3]),
        ({"type": "string", "enum": ["a", None]}, ["a"]),
        ({"$ref": "#/$defs/color"}, ["red"]),
        ({"type": "string"}, None),
        ({"enum": ["a"], "minLength": 2}, None),
    ],
)
def test_listed_values_keep_their_order(schema: dict[str, Any], values: list[Any] | None) -> None:
    """Each once; ``None`` if the schema has further keywords."""
    assert listed_values(schema, {"$defs": {"color": {"enum": ["red"]}}}) == values


def test_properties_keep_the_schemas_order() -> None:
    """Even if "required" has another order."""
    schema = {"type": "object", "properties": {"z": {}, "a": {}}, "required": ["a", "z"]}
    assert [name for name, _ in object_properties(schema, schema) or ()] == ["z", "a"]


BILLION = 1_000_000_000
AT_THE_LIMITS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "string"}, ["", "a" * MAX_STRING], ["a" * (MAX_STRING + 1)]),
    ({"type": "string", "minLength": 300}, ["a" * 300], ["a" * 299, "a" * 301]),
    ({"type": "string", "minLength": 2}, ["aa", "a" * MAX_STRING], ["a", "a" * (MAX_STRING + 1)]),
    ({"type": "string", "maxLength": 500}, ["", "a" * 500], ["a" * 501]),
    ({"type": "array", "items": {"type": "null"}}, [[], [None] * MAX_ITEMS], [[None] * (MAX_ITEMS + 1)]),
    (
        {"type": "array", "items": {"type": "null"}, "minItems": 9},
        [[None] * 9],
        [[None] * 8, [None] * 10],
    ),
    ({"type": "array", "items": {"type": "null"}, "maxItems": 9}, [[], [None] * 9], [[None] * 10]),
    ({"type": "array", "items": {"type": "string"}}, [["a" * MAX_ITEM_STRING]], [["a" * (MAX_ITEM_STRING + 1)]]),
    ({"type": "array", "items": {"type": "string", "minLength": 90}}, [["a" * 90]], [["a" * 89], ["a" * 91]]),
    ({"type": "integer"}, [-BILLION, BILLION], [-BILLION - 1, BILLION + 1]),
    ({"type": "integer", "minimum": 2 * BILLION}, [2 * BILLION], [2 * BILLION - 1, 2 * BILLION + 1]),
    ({"type": "integer", "maximum": -2 * BILLION}, [-2 * BILLION], [-2 * BILLION - 1, -2 * BILLION + 1]),
    ({"type": "integer", "exclusiveMinimum": 2 * BILLION}, [2 * BILLION + 1], [2 * BILLION, 2 * BILLION + 2]),
    ({"type": "integer", "exclusiveMaximum": -2 * BILLION}, [-2 * BILLION - 1], [-2 * BILLION, -2 * BILLION - 2]),
    ({"type": "number"}, [0.0001, -BILLION], [0.00001, BILLION + 1]),
    ({"type": "object"}, [{f"k{n}": n for n in range(MAX_PROPERTIES)}], [{f"k{n}": n for n in range(9)}]),
    ({"type": "object", "minProperties": 9}, [{f"k{n}": n for n in range(9)}], [{f"k{n}": n for n in range(10)}]),
    ({"type": "object"}, [{"a" * 24: 1}], [{"a" * 25: 1}, {"1a": 1}, {"": 1}]),
    ({"type": "object", "properties": {"a": {"type": "null"}}}, [{}, {"a": None}], [{"a": None, "b": None}]),
]


@pytest.mark.parametrize(("schema", "inside", "outside"), AT_THE_LIMITS, ids=lambda value: str(value)[:50])
def test_each_limit_is_exact(schema: dict[str, Any], inside: list[Any], outside: list[Any]) -> None:
    """The last value within a limit is valid, the next one is not."""
    check_schema(schema)
    validator = jsonschema.Draft202012Validator(add_limits(schema))
    assert [value for value in inside if not validator.is_valid(value)] == []
    assert [value for value in outside if validator.is_valid(value)] == []
