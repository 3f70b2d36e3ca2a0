"""Schemas in the words of strict mode: closed, complete, and still true of what the model class takes."""

from __future__ import annotations

import datetime
import decimal
import enum
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.errors import InputError
from skytells_nb.types.json_schema import (
    MAX_NAME_LENGTH,
    apply_strict_mode,
    inline_root,
    named_json_schema,
    resolve_reference,
    to_strict_json_schema,
)

NAMES = st.sampled_from(["a", "b", "default", "oneOf", "format"])
SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.fixed_dictionaries(
            {"type": st.sampled_from(["string", "integer", "null"])},
            optional={
                "default": st.integers(),
                "title": st.text(),
                "format": st.sampled_from(["date", "uri", "color"]),
            },
        ),
        st.fixed_dictionaries(
            {"enum": st.lists(st.one_of(st.integers(), st.fixed_dictionaries({"default": st.text()})))}
        ),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"properties": st.dictionaries(NAMES, inner, max_size=3)}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"uniqueItems": st.booleans()}),
        st.fixed_dictionaries({"$defs": st.dictionaries(NAMES, inner, max_size=2)}),
    ),
    max_leaves=6,
)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Part(pydantic.BaseModel):
    name: str = pydantic.Field(pattern="^[a-z]+$", max_length=5)
    parts: list[Part] = []


class Order(pydantic.BaseModel):
    price: decimal.Decimal
    when: datetime.date | None = None
    color: Color = Color.RED
    kind: Literal["a", "b"] = "a"
    codes: set[int] = set()
    part: Part | None = None
    site: pydantic.HttpUrl | None = None
    count: int = pydantic.Field(alias="number", ge=1, default=1)


FULL = {
    "price": 1.5,
    "when": "2026-01-31",
    "color": "blue",
    "kind": "b",
    "codes": [1, 2],
    "part": {"name": "ab", "parts": [{"name": "c", "parts": []}]},
    "site": None,
    "number": 1,
}


def schemas_in(schema: Any) -> list[dict[str, Any]]:
    """Every schema in a schema."""
    if isinstance(schema, list):
        return [found for part in schema for found in schemas_in(part)]
    if not isinstance(schema, dict):
        return []
    found = [schema]
    for word, value in schema.items():
        if word in ("properties", "$defs"):
            found += [inner for part in value.values() for inner in schemas_in(part)]
        elif word in ("anyOf", "oneOf", "items"):
            found += schemas_in(value)
    return found


@given(SCHEMAS)
def test_every_object_is_closed_and_no_refused_word_is_left(schema: Any) -> None:
    for part in schemas_in(apply_strict_mode(schema)):
        assert not {"default", "uniqueItems", "oneOf"} & set(part)
        assert part.get("format", "date") == "date"
        if "properties" in part:
            assert part["additionalProperties"] is False
            assert part["required"] == list(part["properties"])


@given(SCHEMAS)
def test_strict_words_stay_as_they_are(schema: Any) -> None:
    before = repr(schema)
    once = apply_strict_mode(schema)
    assert apply_strict_mode(once) == once
    assert repr(schema) == before


@given(SCHEMAS)
def test_names_of_properties_and_values_of_enums_are_no_keywords(schema: Any) -> None:
    for before, after in zip(schemas_in(schema), schemas_in(apply_strict_mode(schema)), strict=True):
        assert set(before.get("properties", ())) == set(after.get("properties", ()))
        assert set(before.get("$defs", ())) == set(after.get("$defs", ()))
        assert before.get("enum") == after.get("enum")


def test_the_schema_takes_what_the_class_takes() -> None:
    schema = to_strict_json_schema(Order)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid(FULL)
    assert Order.model_validate(FULL).count == 1
    for name in FULL:
        assert not validator.is_valid({key: value for key, value in FULL.items() if key != name})
    wrong = {"price": "1.5", "color": "green", "kind": "c", "codes": "1", "part": {"name": "ab"}, "number": 0, "x": 1}
    for name, value in wrong.items():
        assert not validator.is_valid({**FULL, name: value}), name


def test_a_recursive_class_has_its_object_at_the_top() -> None:
    schema = to_strict_json_schema(Part)
    assert (schema["type"], "$ref" in schema) == ("object", False)
    assert schema["properties"]["parts"]["items"] == {"$ref": "#/$defs/Part"}
    assert schema["$defs"]["Part"]["required"] == ["name", "parts"]
    assert schema["properties"]["name"]["maxLength"] == 5


T = TypeVar("T")


class Pair(pydantic.BaseModel, Generic[T]):
    left: T


def test_the_name_of_a_class_is_one_that_a_service_takes() -> None:
    long = pydantic.create_model("N" * (MAX_NAME_LENGTH + 1), a=(int, 1))
    assert named_json_schema(Pair[int])["name"] == "Pair_int_"
    assert named_json_schema(long)["name"] == "N" * MAX_NAME_LENGTH
    assert named_json_schema(pydantic.create_model("é-x", a=(int, 1)))["name"] == "_-x"
    assert named_json_schema(Part) == {"name": "Part", "strict": True, "schema": to_strict_json_schema(Part)}


def test_a_type_that_json_lacks_is_refused_with_the_name_of_the_class() -> None:
    class Odd(pydantic.BaseModel):
        call: Callable[[], int]

    with pytest.raises(InputError, match=r"The schema Odd has a type that JSON cannot represent: .*[^.]\. Use"):
        to_strict_json_schema(Odd)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("#", {"$defs": {"a/b": {"type": "null"}, "c~d": {"type": "string"}, "e": {"f": {"g": 1}}}}),
        ("#/$defs/a~1b", {"type": "null"}),
        ("#/$defs/c~0d", {"type": "string"}),
        ("#/$defs/e/f", {"g": 1}),
        ("#/$defs/e/f/g", {}),
        ("#/$defs/missing", {}),
        ("#/$defs/missing/more", {}),
        (5, {"$defs": {"a/b": {"type": "null"}, "c~d": {"type": "string"}, "e": {"f": {"g": 1}}}}),
    ],
)
def test_a_reference_names_a_part_of_its_schema_or_nothing(reference: Any, found: dict[str, Any]) -> None:
    root = {"$defs": {"a/b": {"type": "null"}, "c~d": {"type": "string"}, "e": {"f": {"g": 1}}}}
    assert resolve_reference(reference, root) == found


def test_what_stands_beside_a_reference_at_the_top_stays() -> None:
    schema = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "title": "A"}}, "title": "B"}
    assert inline_root(schema) == {"type": "object", "title": "B", "$defs": schema["$defs"]}
    assert inline_root({"type": "object"}) == {"type": "object"}
