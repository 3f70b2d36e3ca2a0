"""Columns of a schema's fields: dtypes come from the schema, whatever the answers are."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import enum
import json
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import pyarrow as pa
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.accessor.structured.coercion import coerce
from skytells_nb.accessor.structured.columns import column_names, dtype_of, typed_columns
from skytells_nb.accessor.structured.field_types import FieldType, field_types
from skytells_nb.accessor.structured.schema import Schema, answer_parser, response_format, schema_field_types
from skytells_nb.errors import InputError
from skytells_nb.types.json_schema import to_strict_json_schema


class Mood(enum.Enum):
    GLAD = "glad"
    SAD = "sad"


class Rank(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Line(pydantic.BaseModel):
    name: str
    cost: decimal.Decimal
    due: dt.date | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


class Tree(pydantic.BaseModel):
    value: int
    branches: list[Tree] = []


class Everything(pydantic.BaseModel):
    text: str
    whole: Annotated[int, pydantic.Field(ge=0, le=100)]
    part: float
    is_so: bool
    day: dt.date
    moment: dt.datetime
    instant: pydantic.AwareDatetime
    span: dt.timedelta
    clock: dt.time
    mood: Mood
    rank: Rank
    size: Literal["s", "m", "l"]
    maybe: int | None = None
    either: int | float
    mixed: int | str
    key: uuid.UUID
    price: Annotated[decimal.Decimal, pydantic.Field(max_digits=8, decimal_places=2)]
    exact: decimal.Decimal
    tags: list[str]
    moods: set[Mood]
    pair: tuple[int, int]
    line: Line
    lines: list[Line]
    counts: dict[str, int]
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]
    tree: Tree
    anything: Any = None


ANSWER = {
    **{"text": "a", "whole": 3, "part": 1.5, "is_so": True, "day": "2024-02-29", "moment": "2024-02-29T12:00:00"},
    **{"instant": "2024-02-29T12:00:00+02:00", "span": "P1DT2H", "clock": "10:30:00", "mood": "sad", "rank": 2},
    **{"size": "m", "maybe": None, "either": 3, "mixed": "x", "key": str(uuid.UUID(int=7)), "price": "12.5"},
    **{"exact": "0.1", "tags": ["x", "y"], "moods": ["glad"], "pair": [1, 2], "counts": {"a": 1}, "anything": [1]},
    **{"line": {"name": "n", "cost": "1.10", "due": "2024-01-01"}, "lines": [{"name": "n", "cost": 2, "due": None}]},
    **{"pet": {"kind": "dog", "name": "Rex"}, "tree": {"value": 1, "branches": [{"value": 2, "branches": []}]}},
}
LINE = pa.struct([("name", pa.string()), ("cost", pa.string()), ("due", pa.date32())])
TEXT = pd.api.types.pandas_dtype("str" if int(pd.__version__.partition(".")[0]) >= 3 else "string")
DTYPES = {
    **{"text": TEXT, "whole": "Int64", "part": "Float64", "is_so": "boolean"},
    **{"day": "datetime64[us]", "moment": "datetime64[us]", "instant": "datetime64[us, UTC]"},
    **{"span": "timedelta64[us]", "clock": TEXT, "maybe": "Int64", "either": "Float64"},
    **{"mood": pd.CategoricalDtype(["glad", "sad"]), "rank": pd.CategoricalDtype([1, 2])},
    **{"size": pd.CategoricalDtype(["s", "m", "l"]), "mixed": object, "key": TEXT},
    **{"price": pd.ArrowDtype(pa.decimal128(8, 2)), "exact": object, "tags": pd.ArrowDtype(pa.list_(pa.string()))},
    **{"moods": pd.ArrowDtype(pa.list_(pa.string())), "pair": pd.ArrowDtype(pa.list_(pa.int64()))},
    **{"line": pd.ArrowDtype(LINE), "lines": pd.ArrowDtype(pa.list_(LINE))},
    "counts": pd.ArrowDtype(pa.map_(pa.string(), pa.int64())),
    "pet": pd.ArrowDtype(pa.struct([("kind", pa.string()), ("lives", pa.int64()), ("name", pa.string())])),
    **{"tree": object, "anything": object},
}


def columns_of(schema: Schema, answers: list[Any]) -> pd.DataFrame:
    """The columns of these answers, ``None`` being a row without one."""
    parse = answer_parser(schema)
    values = [None if answer is None else parse(json.dumps(answer)).values for answer in answers]
    return pd.DataFrame(typed_columns(schema_field_types(schema), values, pd.RangeIndex(len(answers))))


@pytest.mark.parametrize("answers", [[ANSWER], [ANSWER, None], [None], []], ids=["one", "with null", "null", "none"])
def test_the_schema_decides_the_dtypes_whatever_the_answers_are(answers: list[Any]) -> None:
    found = columns_of(Everything, answers).dtypes.to_dict()
    assert list(found) == list(Everything.model_fields)
    assert {name: kind for name, kind in found.items() if kind != DTYPES[name]} == {}


def test_a_row_without_an_answer_is_null_in_every_column() -> None:
    assert columns_of(Everything, [ANSWER, None]).isna().iloc[1].all()


def test_values_are_those_of_the_answer() -> None:
    row = columns_of(Everything, [ANSWER]).iloc[0]
    assert (row["text"], row["whole"], row["part"], row["is_so"]) == ("a", 3, 1.5, True)
    assert row["day"] == row["moment"].normalize() == pd.Timestamp("2024-02-29")
    assert row["instant"] == pd.Timestamp("2024-02-29T10:00:00Z")
    assert row["span"] == pd.Timedelta(hours=26)
    assert (row["mood"], row["rank"], row["size"], row["mixed"]) == ("sad", 2, "m", "x")
    assert (row["price"], row["exact"]) == (decimal.Decimal("12.50"), decimal.Decimal("0.1"))
    assert list(row["tags"]) == ["x", "y"]
    assert row["line"] == {"name": "n", "cost": "1.10", "due": dt.date(2024, 1, 1)}
    assert row["counts"] == [("a", 1)]
    assert row["pet"] == {"kind": "dog", "lives": None, "name": "Rex"}
    assert row["tree"] == {"value": 1, "branches": [{"value": 2, "branches": []}]}


@pytest.mark.parametrize(
    ("names", "backend"),
    [
        (["text", "whole", "part", "is_so", "day", "moment", "instant", "mood", "size", "key", "exact"], None),
        (["tags", "moods", "pair", "line", "lines", "counts", "pet", "price"], "pyarrow"),
    ],
    ids=["plain", "nested"],
)
def test_columns_come_back_from_parquet(tmp_path: Path, names: list[str], backend: Any) -> None:
    frame = columns_of(Everything, [ANSWER, None])[names]
    frame.to_parquet(tmp_path / "x.parquet")
    back = pd.read_parquet(tmp_path / "x.parquet", **({"dtype_backend": backend} if backend else {}))
    pd.testing.assert_frame_equal(back, frame)


def test_a_date_and_time_with_an_offset_is_converted_to_utc() -> None:
    class At(pydantic.BaseModel):
        at: dt.datetime

    assert columns_of(At, [{"at": "2024-01-01T01:00:00+02:00"}])["at"][0] == pd.Timestamp("2023-12-31T23:00:00")


def test_a_model_that_leads_to_itself_has_columns_for_its_own_fields() -> None:
    frame = columns_of(Tree, [{"value": 1, "branches": [{"value": 2, "branches": []}]}])
    assert frame.dtypes.to_dict() == {"value": pd.Int64Dtype(), "branches": object}
    assert response_format(Tree)["json_schema"]["schema"]["type"] == "object"


def test_columns_have_the_names_of_the_fields_and_not_of_their_aliases() -> None:
    class Aliased(pydantic.BaseModel):
        legs: int = pydantic.Field(alias="numberOfLegs")

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def pairs(self) -> int:
            return self.legs // 2

    frame = columns_of(Aliased, [{"numberOfLegs": 4}])
    assert frame.to_dict("list") == {"legs": [4], "pairs": [2]}
    assert list(to_strict_json_schema(Aliased)["properties"]) == ["numberOfLegs"]


JSON_SCHEMA = {
    "type": "object",
    "properties": {
        **{"n": {"type": ["integer", "null"]}, "when": {"type": "string", "format": "date"}},
        **{"label": {"enum": ["a", "b"]}, "of": {"type": "array", "items": {"type": "number"}}},
        "never": {"not": {}},
    },
    "required": ["n"],
}


def test_a_json_schema_decides_dtypes_as_a_model_does() -> None:
    frame = columns_of(JSON_SCHEMA, [{"n": 3.0, "when": "2024-01-01", "of": [1]}, None])
    kinds = ["Int64", "datetime64[us]", pd.CategoricalDtype(["a", "b"]), pd.ArrowDtype(pa.list_(pa.float64())), object]
    assert frame.dtypes.tolist() == kinds
    assert frame["n"][0] == 3


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("[1]", "it must be a JSON object"),
        ("{}", "it lacks n"),
        ('{"n": true}', "n must be an integer, got True"),
        ('{"n": 1.5}', "n must be an integer, got 1.5"),
        ('{"n": 1e400}', "n must be an integer, got inf"),
        ('{"n": 10000000000000000000}', "n must fit into 64 bits, got 10000000000000000000"),
        ('{"n": 1, "when": "2024-13-01"}', "when must be a date, got '2024-13-01'"),
        ('{"n": 1, "when": 5}', "when must be a date, got 5"),
        ('{"n": 1, "label": "c"}', "label must be one of 'a', 'b', got 'c'"),
        ('{"n": 1, "of": [1, "x"]}', "of.1 must be a number, got 'x'"),
        ('{"n": 1, "of": {}}', "of must be a list, got {}"),
        ("no", "it must be a JSON object, got 'no'"),
        (" ", "it is empty"),
        ('{"n": }', "Expecting value"),
        ('{"n":' * 100_000, "it is nested too deeply"),
    ],
)
def test_an_answer_that_a_json_schema_does_not_allow_says_where_it_is_wrong(answer: str, error: str) -> None:
    with pytest.raises(ValueError, match=error.replace("[", r"\[")):
        answer_parser(JSON_SCHEMA)(answer)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"name": "n", "cost": "x", "due": None}, "cost: Input should be a valid decimal"),
        ({"cost": 1, "due": "soon"}, "name: Field required; due: Input should be a valid date"),
    ],
)
def test_an_answer_that_a_model_does_not_allow_says_where_it_is_wrong(answer: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        answer_parser(Line)(json.dumps(answer))


def test_a_number_that_its_column_cannot_hold_does_not_fit() -> None:
    class Big(pydantic.BaseModel):
        n: int

    class Money(pydantic.BaseModel):
        amount: Annotated[decimal.Decimal, pydantic.Field(decimal_places=2)]

    with pytest.raises(ValueError, match="n must fit into 64 bits, got 9223372036854775808"):
        answer_parser(Big)(f'{{"n": {2**63}}}')
    with pytest.raises(ValueError, match=r"amount must have at most 36 digits before the point, got '9+"):
        answer_parser(Money)(json.dumps({"amount": "9" * 37}))


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 1}',
        '  {"n": 1}\n',
        '```json\n{"n": 1}\n```',
        'Here it is:\n```\n{"n": 1}\n```\nAnything else?',
        'The answer is {"n": 1}.',
    ],
)
def test_an_object_is_found_in_fences_and_among_words(text: str) -> None:
    assert answer_parser(JSON_SCHEMA)(text).fields == {"n": 1}


def test_what_is_sent_is_strict_and_says_nothing_that_strict_mode_refuses() -> None:
    body = to_strict_json_schema(Everything)
    text = json.dumps(body)
    assert all(word not in text for word in ('"default"', '"oneOf"', '"discriminator"', '"uniqueItems"', "(?"))
    objects = [body, *(part for part in body["$defs"].values() if "properties" in part)]
    assert all(part["additionalProperties"] is False for part in objects)
    assert all(part["required"] == list(part["properties"]) for part in objects)


def test_a_field_may_be_named_as_a_word_of_json_schema() -> None:
    class Odd(pydantic.BaseModel):
        default: int = 1
        format: str = "x"

    body = to_strict_json_schema(Odd)
    assert list(body["properties"]) == body["required"] == ["default", "format"]


class Unwritable:
    pass


class Held(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    held: Unwritable


class Unfinished(pydantic.BaseModel):
    other: Nowhere  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (Held, "Held has a type that JSON cannot represent"),
        (Unfinished, "Unfinished has a type that JSON cannot represent.*not fully defined"),
        (pydantic.RootModel[list[int]], "must describe an object"),
        (int, "pydantic model or a JSON schema"),
        ({"type": "array"}, "must describe an object"),
        ({"type": "object"}, "names none"),
        (None, "needs schema="),
    ],
)
def test_a_schema_that_makes_no_columns_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        column_names(schema, "")


_scalars: st.SearchStrategy[FieldType] = st.sampled_from(
    [FieldType("string"), FieldType("integer"), FieldType("number"), FieldType("boolean")]
)
_named = st.lists(st.tuples(st.text("abc", min_size=1), _scalars), min_size=1, unique_by=lambda pair: pair[0])
_kinds = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        inner.map(lambda item: FieldType("list", item=item)),
        inner.map(lambda item: FieldType("map", item=item)),
        st.lists(st.tuples(st.text("abc", min_size=1), inner), min_size=1, unique_by=lambda pair: pair[0]).map(
            lambda parts: FieldType("struct", parts=tuple(parts))
        ),
    ),
    max_leaves=6,
)


def schema_of(kind: FieldType) -> dict[str, Any]:
    if kind.name == "list":
        return {"type": "array", "items": schema_of(kind.item or FieldType("any"))}
    if kind.name == "map":
        return {"type": "object", "additionalProperties": schema_of(kind.item or FieldType("any"))}
    if kind.name == "struct":
        return {"type": "object", "properties": {name: schema_of(part) for name, part in kind.parts}}
    return {"type": kind.name}


@given(_kinds)
def test_a_kind_is_the_one_of_its_schema(kind: FieldType) -> None:
    assert field_types({"properties": {"x": schema_of(kind)}}) == {"x": kind}


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(_kinds, st.lists(_values, max_size=4))
def test_any_value_is_refused_or_stands_in_a_column_of_its_kind(kind: FieldType, values: list[Any]) -> None:
    kept = []
    for value in values:
        with contextlib.suppress(ValueError):
            kept.append({"x": coerce(kind, value)})
    column = typed_columns({"x": kind}, kept, pd.RangeIndex(len(kept)))["x"]
    assert column.dtype == dtype_of(kind)
    assert column.isna().tolist() == [record["x"] is None for record in kept]
