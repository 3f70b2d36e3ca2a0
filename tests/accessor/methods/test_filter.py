"""df.skytells.filter: rows by a question in plain words."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from judges import WordJudge, run_examples

from skytells_nb.accessor.methods.filter import Filter
from skytells_nb.errors import InputError, SkytellsWarning


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"text": ["yes, late", None, "on time", "yes, too"], "n": range(4)}, index=list("aabc"))


def test_rows_whose_answer_is_yes_are_kept_in_order(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.filter("text", "Is it a complaint?", progress=False)
    pd.testing.assert_frame_equal(out, df.iloc[[0, 3]])
    assert all(system.endswith("The question is: Is it a complaint?") for system in judge.systems)


def test_the_answers_as_a_column_keep_every_row(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.filter("text", "Is it a complaint?", keep="column", into="complaint", progress=False)
    assert out["complaint"].dtype == "boolean"
    assert out["complaint"].isna().tolist() == [False, True, False, False]
    assert out["complaint"].dropna().tolist() == [True, False, True]
    assert out.index.equals(df.index)


def test_a_template_asks_about_several_columns(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.filter("{n}: {text}", "Is it a complaint?", progress=False)
    assert out["n"].tolist() == [0, 3]
    assert sorted(judge.texts) == ["0: yes, late", "2: on time", "3: yes, too"]


def test_a_column_named_like_a_template_is_a_column(judge: WordJudge, df: pd.DataFrame) -> None:
    df.rename(columns={"text": "{n}"}).skytells.filter("{n}", "Is it a complaint?", progress=False)
    assert "yes, late" in judge.texts


def test_rows_without_an_answer_are_not_kept_and_the_report_counts_them(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["yes", "yes violence:high", None, "yes also"]}, index=list("wxyz"))
    with pytest.warns(SkytellsWarning, match="1 of 4 rows failed and are missing"):
        out = frame.skytells.filter("text", "Is it so?", progress=False)
    assert out.index.tolist() == ["w", "z"]
    report = out.skytells.report
    assert (report.rows, report.answered, report.failed, report.nulls) == (4, 2, 1, 1)
    assert list(report.errors) == [1]


def test_rows_that_a_policy_withholds_are_not_kept(judge: WordJudge) -> None:
    frame = pd.DataFrame({"text": ["yes", "yes violence:medium"]})
    out = frame.skytells.filter("text", "Is it so?", safety="MODERATE", on_error="null", progress=False)
    assert out.index.tolist() == [0]


def test_details_and_verdicts_are_those_of_the_rows_kept(judge: WordJudge, df: pd.DataFrame) -> None:
    out = df.skytells.filter("text", "Is it a complaint?", details=True, progress=False)
    assert out["matches_finish_reason"].tolist() == ["stop", "stop"]
    assert "matches" not in out.columns
    plain = df.skytells.filter("text", "Is it a complaint?", progress=False)
    assert set(plain.skytells.safety("matches")["row"]) == {"a", "c"}


@pytest.mark.parametrize(
    ("column", "question", "more", "message"),
    [
        ("text", "", {}, "question must be a non-empty string"),
        ("text", "  ", {}, "question must be a non-empty string"),
        ("text", None, {}, "question must be a non-empty string"),
        ("text", "Is it?", {"keep": "all"}, "keep must be 'rows' or 'column'"),
        ("text", "Is it?", {"into": "text"}, "would replace"),
        ("nope", "Is it?", {}, "no column 'nope'"),
        ("n", "Is it?", {}, "must hold text, got int64"),
        ("{nope}", "Is it?", {}, "names {nope}"),
        (["text"], "Is it?", {}, "The column must be one name"),
    ],
)
def test_what_cannot_be_asked_is_refused_unsent(
    judge: WordJudge, df: pd.DataFrame, column: Any, question: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        df.skytells.filter(column, question, progress=False, **more)
    assert not judge.asked


@pytest.mark.parametrize("values", [[], [None], [pd.NA, float("nan")]], ids=str)
def test_no_texts_keep_no_rows(judge: WordJudge, values: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(values, dtype=object)})
    assert frame.skytells.filter("text", "Is it?", progress=False).empty
    column = frame.skytells.filter("text", "Is it?", keep="column", progress=False)["matches"]
    assert column.dtype == "boolean"
    assert column.isna().all()


def test_columns_with_levels_work(judge: WordJudge) -> None:
    columns = pd.MultiIndex.from_tuples([("doc", "text"), ("doc", "n")])
    frame = pd.DataFrame([["yes", 1], ["no", 2]], columns=columns)
    assert frame.skytells.filter(("doc", "text"), "Is it?", progress=False)[("doc", "n")].tolist() == [1]


def test_the_example_runs(judge: WordJudge) -> None:
    run_examples(Filter.filter)
