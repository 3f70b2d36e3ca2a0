"""Nulls of every kind and blank texts: missing in every method, not sent, and no error."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scripted import Scripted, scripted

from skytells_nb.errors import InputError

FIELD = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TEXTS = ["cat", "", " \u200b\ufeff", "\0\x1b\n\x7f\u202e", None, "dog"]
PRESENT = [True, False, False, False, False, True]


@pytest.fixture(params=["object", "str", "category", "string[pyarrow]"])
def df(request: pytest.FixtureRequest) -> pd.DataFrame:
    dtype = {"str": "string", "object": object}.get(request.param, request.param)
    return pd.DataFrame({"t": pd.Series(TEXTS, dtype=dtype, index=list("uvwxyz"))})


@pytest.fixture
def script() -> Iterator[Scripted]:
    said = json.dumps({"word": "w", "label": "a", "a": True, "b": False, "answer": "yes", "name": "n"})
    with scripted(lambda text: said) as script:
        yield script


METHODS: dict[str, tuple[str, Callable[..., Any]]] = {
    "embed": ("embedding", lambda df, **o: df.skytells.embed("t", **o)),
    "complete": ("completion", lambda df, **o: df.skytells.complete("Say: {t}", **o)),
    "row function": ("completion", lambda df, **o: df.skytells.complete(lambda row: row.t, **o)),
    "extract": ("word", lambda df, **o: df.skytells.extract("t", FIELD, **o)),
    "classify": ("label", lambda df, **o: df.skytells.classify("t", ["a", "b"], **o)),
    "classify, multi": ("label_a", lambda df, **o: df.skytells.classify("t", ["a", "b"], multi=True, **o)),
    "nearest label": ("label", lambda df, **o: df.skytells.classify("t", ["a", "b"], via="embedding", **o)),
    "translate": ("translation", lambda df, **o: df.skytells.translate("t", "French", **o)),
    "moderate": ("moderation_filtered", lambda df, **o: df.skytells.moderate("t", **o)),
    "filter": ("matches", lambda df, **o: df.skytells.filter("t", "Is it?", keep="column", **o)),
    "filter, template": ("matches", lambda df, **o: df.skytells.filter("<{t}>", "Is it?", keep="column", **o)),
    "dedupe": ("group", lambda df, **o: df.skytells.dedupe("t", keep="groups", **o)),
    "cluster": ("cluster", lambda df, **o: df.skytells.cluster("t", 2, **o)),
    "series.complete": ("t", lambda df, **o: df["t"].skytells.complete("Say it.", **o).to_frame("t")),
    "series.embed": ("t", lambda df, **o: df["t"].skytells.embed(**o).to_frame("t")),
}


@pytest.mark.parametrize("name", METHODS)
def test_blank_texts_are_missing_like_nulls(name: str, df: pd.DataFrame, script: Scripted) -> None:
    column, method = METHODS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = method(df, on_error="raise", progress=False)
    assert made[column].notna().tolist() == PRESENT
    assert (df if name.startswith("series") else made).index.tolist() == list("uvwxyz")
    assert all(re.search(r"\w", text) for text in [*script.asked, *script.embedded])
    if name != "cluster":
        assert len(script.asked) in (0, 2)
    report = df["t"].skytells.report if name.startswith("series") else df.skytells.report
    assert (report.nulls, report.failed) == (4, 0)


def test_rows_without_a_text_are_similar_to_none(df: pd.DataFrame, script: Scripted) -> None:
    assert set(df.skytells.search("cat", "t", 9, progress=False).index) == {"u", "z"}
    with pytest.raises(InputError, match="Row 'v' is missing"):
        df.skytells.similar("v", "t", progress=False)
    assert df.skytells.join(df, "t", k=9, progress=False).index.unique().tolist() == ["u", "z"]
    assert df.skytells.summarize("t", progress=False)["texts"].tolist() == [2]
    with pytest.raises(InputError, match="that are not missing, 2, got 3"):
        df.skytells.cluster("t", 3, progress=False)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", None], dtype=object),
        pd.Series(["a", np.nan], dtype=object),
        pd.Series(["a", pd.NA], dtype="string"),
        pd.Series(["a", pd.NaT], dtype=object),
        pd.Series(["a", None], dtype="category"),
        pd.Series(["a", None], dtype="string[pyarrow]"),
        pd.Series([1.5, np.nan]),
        pd.Series([1, pd.NA], dtype="Int64"),
        pd.Series([True, None], dtype="boolean"),
        pd.Series([pd.Timestamp("2026-01-01"), pd.NaT]),
        pd.Series([pd.Timedelta(1), pd.NaT]),
        pd.Series([1.5, None], dtype="float64[pyarrow]"),
    ],
    ids=lambda column: str(column.dtype),
)
def test_a_function_of_the_row_sees_none_for_every_null(column: pd.Series[Any], script: Scripted) -> None:
    seen: list[Any] = []

    def prompt(row: Any) -> str | None:
        seen.append((row["x"], row.x, dict(row)["x"]))
        return row.x and f"Say {row.x}"

    made = pd.DataFrame({"x": column}).skytells.complete(prompt, progress=False)
    assert seen[1] == (None, None, None)
    assert seen[0][0] is not None
    assert made["completion"].notna().tolist() == [True, False]
    assert len(script.asked) == 1


def test_missing_says_what_stands_for_a_missing_value(df: pd.DataFrame, script: Scripted) -> None:
    df.skytells.complete("Say: {t}", missing="unknown", progress=False)
    assert sorted(script.asked) == ["Say: cat", "Say: dog", "Say: unknown"]
    assert df.skytells.preview("{t}", missing="-")[1] == [{"role": "user", "content": "-"}]
    with pytest.raises(InputError, match="missing= is for the fields of a template"):
        df.skytells.complete(lambda row: row.t, missing="unknown", progress=False)
