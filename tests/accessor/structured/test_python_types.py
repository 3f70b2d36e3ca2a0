"""Schemas given as Python types."""

from __future__ import annotations

import collections
import dataclasses
import enum
import json
import typing
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import pandas as pd
import pydantic
import pytest
from scripted import scripted

from skytells_nb.accessor.structured.python_types import as_schema
from skytells_nb.accessor.structured.schema import response_format
from skytells_nb.errors import InputError


@dataclasses.dataclass
class Owner:
    name: str


@dataclasses.dataclass
class Animal:
    """An animal of a text."""

    name: str
    legs: int = 4
    kinds: list[Literal["pet", "wild"]] = dataclasses.field(default_factory=list)
    owner: Owner | None = None
    seen: bool = dataclasses.field(init=False, default=False)


class Typed(TypedDict):
    name: str
    legs: NotRequired[int]
    owners: list[Owner]


class Tuple(NamedTuple):
    name: str
    legs: int = 4


SAID = {"name": "Rex", "legs": 3, "kinds": ["pet"], "owner": {"name": "Ann"}, "owners": [{"name": "Ann"}]}


@pytest.mark.parametrize(
    ("schema", "fields"),
    [
        (Animal, ["name", "legs", "kinds", "owner"]),
        (Typed, ["name", "legs", "owners"]),
        (Tuple, ["name", "legs"]),
        ({"name": str, "legs": int | None}, ["name", "legs"]),
        ({"name": str, "owner": {"name": str}, "kinds": [str]}, ["name", "owner", "kinds"]),
        ({"name": Annotated[str, pydantic.Field(max_length=9)], "kinds": list[Literal["pet"]]}, ["name", "kinds"]),
        ({"type": str, "name": typing.Optional[str]}, ["type", "name"]),  # noqa: UP045
    ],
)
def test_columns_are_the_fields(schema: Any, fields: list[str]) -> None:
    frame = pd.DataFrame({"t": ["x"]})
    with scripted(lambda text: json.dumps({"type": "dog", **SAID}), "off") as script:
        made = frame.skytells.extract("t", schema, progress=False, on_error="raise")
        whole = frame.skytells.complete("{t}", schema=schema, progress=False, on_error="raise")["completion"][0]
        assert frame["t"].skytells.extract(schema, progress=False).columns.tolist() == fields
    assert made.columns.tolist()[1:] == list(whole) == fields
    assert made["name"].tolist() == ["Rex"]
    sent = script.bodies[0]["response_format"]["json_schema"]
    assert list(sent["schema"]["properties"]) == fields
    assert sent["strict"] is True


def test_the_schema_says_what_the_class_does() -> None:
    sent = response_format(Animal)["json_schema"]
    assert sent["name"] == "Animal"
    assert sent["schema"]["description"] == "An animal of a text."
    assert "description" not in response_format(Owner)["json_schema"]["schema"]
    assert as_schema(Animal) is as_schema(Animal)


def test_a_pydantic_model_and_a_json_schema_stay_what_they_are() -> None:
    class Model(pydantic.BaseModel):
        name: str

    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    assert as_schema(Model) is Model
    assert as_schema(schema) is schema


class Color(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "given", [int, list[str], "name", Color, Animal("Rex"), collections.OrderedDict, {"name": object()}]
)
def test_what_describes_no_object_is_refused(given: Any) -> None:
    with pytest.raises(InputError, match="schema must"):
        response_format(given)


def test_a_type_that_json_cannot_hold_is_named() -> None:
    with pytest.raises(InputError, match="answer"):
        response_format({"frame": pd.DataFrame})
