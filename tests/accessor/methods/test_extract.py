"""df.skytells.extract: a schema's fields from texts, as columns."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pydantic
import pytest
from judges import WordJudge, run_examples

from skytells_nb.accessor.methods.extract import Extract
from skytells_nb.errors import InputError, SkytellsWarning


class Parcel(pydantic.BaseModel):
    sender: str
    late: bool


class Empty(pydantic.BaseModel):
    pass


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"text": ["Post, late", None, "Courier"], "n": range(3)}, index=list("abc"))


def test_each_field_is_a_column_after_the_prefix(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.extract("text", Parcel, prefix="parcel_", progress=False)
    assert out.columns.tolist() == ["text", "n", "parcel_sender", "parcel_late"]
    assert out["parcel_late"].dtype == "boolean"
    assert out.loc[["a", "c"], "parcel_late"].tolist() == [True, False]
    assert out.loc["b", ["parcel_sender", "parcel_late"]].isna().all()


def test_the_text_alone_is_the_message_and_instructions_are_the_systems(judge: WordJudge, df: pd.DataFrame) -> None:
    df.skytells.extract("text", Parcel, instructions="Find the parcel.", progress=False)
    assert sorted(judge.texts) == ["Courier", "Post, late"]
    assert set(judge.systems) == {"Find the parcel."}


def test_braces_in_a_text_or_a_columns_name_mean_nothing(judge: WordJudge) -> None:
    frame = pd.DataFrame({"{text}": ["{late} and {{more}}"]})
    assert frame.skytells.extract("{text}", Parcel, progress=False)["sender"].tolist() == ["{late} and {{more}}"]


def test_details_and_safety_are_under_into(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.extract("text", Parcel, into="parcel", details=True, progress=False)
    assert out["parcel_finish_reason"].dropna().tolist() == ["stop", "stop"]
    assert set(out.skytells.safety("parcel")["row"]) == {"a", "c"}


def test_a_policy_nulls_every_field(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["violence:low late", "late"]})
    with pytest.warns(SkytellsWarning, match=r"filters 1 of 2 answers: violence \(low\) in 1"):
        out = frame.skytells.extract("text", Parcel, safety="STRICT", progress=False)
    assert out.loc[0, ["sender", "late"]].isna().all()
    assert out.loc[1, "late"]


@pytest.mark.parametrize(
    ("column", "schema", "more", "message"),
    [
        ("nope", Parcel, {}, "no column 'nope'"),
        ("n", Parcel, {}, "must hold text, got int64"),
        ("text", int, {}, "pydantic model or a JSON schema"),
        ("text", {"type": "string"}, {}, "must describe an object"),
        ("text", Empty, {}, "names none"),
        ("text", Parcel, {"prefix": 5}, "prefix must be a string"),
        ("text", Parcel, {"instructions": ""}, "instructions must be a non-empty string"),
        ("text", {"type": "object", "properties": {"text": {"type": "string"}}}, {}, "would replace the column"),
        ("text", Parcel, {"safety": {"violence": "extreme"}}, "threshold of 'violence'"),
    ],
)
def test_what_cannot_be_asked_is_refused_unsent(
    judge: WordJudge, df: pd.DataFrame, column: str, schema: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        df.skytells.extract(column, schema, progress=False, **more)
    assert not judge.asked


@pytest.mark.parametrize("values", [[], [None], [pd.NaT, float("nan")]], ids=str)
def test_no_texts_give_null_fields(judge: WordJudge, values: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object)})
    out = frame.skytells.extract("text", Parcel, progress=False)
    assert out[["sender", "late"]].isna().all(axis=None)
    assert len(out) == len(values)
    assert not judge.asked


def test_the_example_runs(judge: WordJudge) -> None:
    run_examples(Extract.extract)
