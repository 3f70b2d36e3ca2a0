"""Frames of every awkward kind, for every method: the documented result, or a clear error before anything is spent."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pydantic
import pytest
from judges import Judged, WordJudge

from skytells_nb.errors import InputError, SkytellsWarning

Method = Callable[..., Any]

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
QUIET: dict[str, Any] = {"progress": False}
METHODS: dict[str, Method] = {
    "embed": lambda f, c: f.skytells.embed(c, **QUIET),
    "complete": lambda f, c: f.skytells.complete(lambda row: row[c], **QUIET),
    "classify": lambda f, c: f.skytells.classify(c, ["cat", "dog"], **QUIET),
    "classify by embedding": lambda f, c: f.skytells.classify(c, ["cat", "dog"], via="embedding", **QUIET),
    "extract": lambda f, c: f.skytells.extract(c, SCHEMA, **QUIET),
    "filter": lambda f, c: f.skytells.filter(c, "yes?", keep="column", **QUIET),
    "translate": lambda f, c: f.skytells.translate(c, "French", **QUIET),
    "moderate": lambda f, c: f.skytells.moderate(c, **QUIET),
    "cluster": lambda f, c: f.skytells.cluster(c, name=False, **QUIET),
    "dedupe": lambda f, c: f.skytells.dedupe(c, keep="groups", **QUIET),
    "search": lambda f, c: f.skytells.search("cat", c, k=9, **QUIET),
    "join": lambda f, c: f.skytells.join(f.iloc[:1].copy(), c, how="left", **QUIET),
    "summarize": lambda f, c: f.skytells.summarize(c, **QUIET),
}
SAME_ROWS = [name for name in METHODS if name not in ("search", "join", "summarize")]
OF_TEXTS = [name for name in METHODS if name != "complete"]
"""Methods that need a column of texts; a function of the row says what it likes."""


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        yield


@pytest.mark.parametrize("method", OF_TEXTS)
@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        [1.5, None],
        [True, False],
        [date(2026, 1, 1), None],
        ["a", 1],
        [b"a", None],
        pd.to_datetime(["2026"] * 2),
    ],
    ids=["integers", "floats", "booleans", "dates", "mixed", "bytes", "datetimes"],
)
def test_what_is_no_text_is_told_before_anything_is_sent(
    method: str, values: Any, place: Judged, judge: WordJudge
) -> None:
    before = place.requests
    with pytest.raises(InputError, match=r"'t'"):
        METHODS[method](pd.DataFrame({"t": values}), "t")
    assert place.requests == before


@pytest.mark.parametrize("method", OF_TEXTS)
def test_a_column_that_is_missing_or_doubled_is_told_before_anything_is_sent(
    method: str, place: Judged, judge: WordJudge
) -> None:
    before = place.requests
    with pytest.raises(InputError, match="no column 'x'"):
        METHODS[method](pd.DataFrame({"t": ["a"]}), "x")
    with pytest.raises(InputError, match=r"'t' must be unique, got 2 columns|two columns 't_x'"):
        METHODS[method](pd.DataFrame([["a", "b"]], columns=["t", "t"]), "t")
    assert place.requests == before


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["str", "object", "category"])
def test_no_rows_cost_nothing_and_have_the_columns_of_many(
    method: str, dtype: str, place: Judged, judge: WordJudge
) -> None:
    frame = pd.DataFrame({"t": pd.Series(["a cat", "a dog"], dtype=dtype)})
    many = METHODS[method](frame, "t")
    before = place.requests
    none = METHODS[method](frame.iloc[:0], "t")
    assert len(none) == (1 if method == "summarize" else 0)
    assert none.columns.tolist() == many.columns.tolist()
    left_out = ("cluster",) if method == "cluster" else ("t_x", "t_y") if method == "join" else ()
    assert none.dtypes.drop(list(left_out)).equals(many.dtypes.drop(list(left_out)))
    assert place.requests - before == 0


@pytest.mark.parametrize("method", METHODS)
def test_one_row_is_a_frame_like_any_other(method: str, judge: WordJudge) -> None:
    out = METHODS[method](pd.DataFrame({"t": ["a cat"]}, index=["x"]), "t")
    assert len(out) == 1
    assert method == "summarize" or out.index.tolist() == ["x"]


@pytest.mark.parametrize("method", SAME_ROWS)
def test_nulls_of_every_kind_are_null_and_labels_may_be_twice(method: str, place: Judged, judge: WordJudge) -> None:
    values = ["a cat", None, float("nan"), pd.NA, pd.NaT, "a dog", "a cat"]
    frame = pd.DataFrame({"t": pd.Series(values, dtype=object)}).set_axis([7, 7, 1, 1, 7, 0, 7])
    before = frame.copy(deep=True)
    out = METHODS[method](frame, "t")
    assert out.index.equals(frame.index)
    assert out.iloc[:, 1].isna().tolist() == [False, True, True, True, True, False, False]
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("method", METHODS)
def test_categories_are_texts(method: str, judge: WordJudge) -> None:
    frame = pd.DataFrame({"t": pd.Categorical(["a cat", None, "a dog", "a cat"], ["unused", "a dog", "a cat"])})
    plain = METHODS[method](pd.DataFrame({"t": ["a cat", None, "a dog", "a cat"]}), "t")
    out = METHODS[method](frame, "t")
    pd.testing.assert_frame_equal(
        out.drop(columns=["t", "t_x", "t_y"], errors="ignore"), plain.drop(columns=["t", "t_x", "t_y"], errors="ignore")
    )


@pytest.mark.parametrize("method", SAME_ROWS)
def test_columns_of_several_levels_are_named_in_full(method: str, judge: WordJudge) -> None:
    frame = pd.DataFrame({("a", "t"): ["a cat", "a dog"], ("a", "n"): [1, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*completions are empty")  # the judge has no words of its own
        out = METHODS[method](frame, ("a", "t"))
    assert out.columns.nlevels == 2
    assert out.columns[2:].get_level_values(1).tolist() == [""] * (out.shape[1] - 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda f: f.skytells.dedupe("t", 1.5), "threshold must be a cosine similarity"),
        (lambda f: f.skytells.dedupe("t", 0), "threshold must be a cosine similarity"),
        (lambda f: f.skytells.dedupe("t", "0.5"), "threshold must be a cosine similarity"),
        (lambda f: f.skytells.dedupe("t", float("nan")), "threshold must be a cosine similarity"),
        (lambda f: f.skytells.join(f, "t", threshold=-1), "threshold must be a cosine similarity"),
        (lambda f: f.skytells.search("q", "t", k=0), "k must be a positive integer"),
        (lambda f: f.skytells.similar(0, "t", k=True), "k must be a positive integer"),
        (
            lambda f: f.skytells.cluster("t", n=3),
            "n must be at most the number of rows of 't' that are not missing, 2, got 3",
        ),
        (lambda f: f.skytells.classify("t", ["a", "b", "a"]), "labels must differ, got 'a' twice"),
        (lambda f: f.skytells.classify("t", ["a", "b"], other="b"), "labels must differ, got 'b' twice"),
        (lambda f: f.skytells.classify("t", ["a"]), "labels must have at least two labels"),
        (lambda f: f.skytells.classify("t", ["a", None]), "non-empty string"),
        (lambda f: f.skytells.extract("t", Unsupported), "that JSON cannot represent"),
        (lambda f: f.skytells.complete("{t}", schema=Unsupported), "that JSON cannot represent"),
        (lambda f: f.skytells.extract("t", {"type": "array"}), "must describe an object"),
        (lambda f: f.skytells.extract("t", "name"), "schema must be a pydantic model"),
        (lambda f: f.skytells.complete(5), "template must be a string.*got int"),
        (lambda f: f.skytells.complete(None), "template must be a string.*got NoneType"),
        (lambda f: f.skytells.complete("{t}", safety={"violence": "extreme"}), "extreme"),
        (lambda f: f.skytells.filter("t", " "), "question must be a non-empty string"),
        (lambda f: f.skytells.translate("t", None), "to must be a non-empty string"),
        (lambda f: f.skytells.summarize("t", by="x"), "no column 'x'"),
        (lambda f: f["t"].skytells.classify(["a", "a"]), "labels must differ, got 'a' twice"),
        (lambda f: f["t"].skytells.dedupe(2), "threshold must be a cosine similarity"),
        (lambda f: f["t"].skytells.summarize(by="t"), "Unknown keyword 'by'"),
        (lambda f: f["t"].str.len().skytells.translate("French"), "must hold text, got"),
    ],
)
def test_settings_that_make_no_sense_are_told_before_anything_is_sent(
    call: Callable[[pd.DataFrame], Any], told: str, place: Judged, judge: WordJudge
) -> None:
    before = place.requests
    with pytest.raises(InputError, match=told):
        call(pd.DataFrame({"t": ["a cat", "a dog"]}))
    assert place.requests == before


class Unsupported(pydantic.BaseModel):
    found: Callable[[int], int]


def test_vectors_of_different_lengths_are_told(judge: WordJudge) -> None:
    frame = pd.DataFrame({"embedding": [np.ones(2, dtype=np.float32), np.ones(3, dtype=np.float32)]})
    for method in ("search", "dedupe", "cluster", "join"):
        with pytest.raises(InputError, match="must have vectors of one length"):
            METHODS[method](frame, "embedding")
