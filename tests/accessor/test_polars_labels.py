"""polars frames with columns of labels, nulls among them: every method takes them and leaves them as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scripted import scripted

import skytells_nb.polars  # noqa: F401 - puts the namespaces on polars
from skytells_nb.errors import RowError

FRAME = pl.DataFrame({"t": ["cat", "dog", None, "hen", " "]}).with_columns(
    kind=pl.Series(["x", None, "x", "y", None], dtype=pl.Categorical),
    size=pl.Series(["big", "small", None, None, "big"], dtype=pl.Enum(["small", "big"])),
    never=pl.Series([None] * 5, dtype=pl.Enum(["a"])),
    nothing=pl.Series([None] * 5),
    several=pl.Series([["x"], None, [], [None], ["y"]], dtype=pl.List(pl.Categorical)),
)
FIELD = {"type": "object", "properties": {"word": {"enum": ["a", "b"]}}, "required": ["word"]}

METHODS: dict[str, Callable[..., Any]] = {
    "embed": lambda df, **o: df.skytells.embed("t", **o),
    "embed labels": lambda df, **o: df.skytells.embed("size", **o),
    "complete": lambda df, **o: df.skytells.complete("{t} {kind}", **o),
    "complete, schema": lambda df, **o: df.skytells.complete("{size}", schema=FIELD, **o),
    "row function": lambda df, **o: df.skytells.complete(lambda row: row.kind and f"Is it {row.kind}?", **o),
    "classify": lambda df, **o: df.skytells.classify("t", ["a", "b"], details=True, **o),
    "classify labels": lambda df, **o: df.skytells.classify("kind", ["a", "b"], **o),
    "classify, multi": lambda df, **o: df.skytells.classify("t", ["a", "b"], multi=True, **o),
    "classify by labels": lambda df, **o: df.skytells.classify("t", df["size"], via="embedding", **o),
    "extract": lambda df, **o: df.skytells.extract("t", FIELD, **o),
    "translate": lambda df, **o: df.skytells.translate("size", "French", **o),
    "moderate": lambda df, **o: df.skytells.moderate("t", **o),
    "filter": lambda df, **o: df.skytells.filter("t", "Is it?", **o),
    "dedupe": lambda df, **o: df.skytells.dedupe("t", keep="groups", **o),
    "cluster": lambda df, **o: df.skytells.cluster("t", 2, **o),
    "cluster, numbers": lambda df, **o: df.skytells.cluster("t", 2, name=False, **o),
    "search": lambda df, **o: df.skytells.search("pets", "t", **o),
    "similar": lambda df, **o: df.skytells.similar(0, "t", **o),
}


def answer(text: str) -> str:
    return json.dumps({"word": "a", "label": "b", "a": True, "b": False, "answer": "yes", "name": "n"})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_labels_with_nulls(name: str) -> None:
    with scripted(answer):
        made = METHODS[name](FRAME, progress=False, on_error="raise")
        assert made.select(FRAME.columns).schema == FRAME.schema
        again = METHODS[name](made.select(FRAME.columns), progress=False)
    if made.height == FRAME.height and name not in ("search",):
        assert_frame_equal(made.select(FRAME.columns), FRAME)
    assert again.columns == made.columns


def test_tables_of_labels() -> None:
    with scripted(answer):
        table = FRAME.skytells.summarize("t", "kind", progress=False)
        assert table["kind"].to_list() == ["x", "y"]
        grouped = FRAME.skytells.cluster("t", 2, progress=False)
        assert grouped.skytells.topics(text="t")["size"].sum() == 3
        joined = FRAME.skytells.join(FRAME, "t", progress=False, confirm=False)
        assert joined.height == 3
        assert FRAME["size"].skytells.embed(progress=False).is_null().to_list() == [False, False, True, True, False]
        labels = FRAME["kind"].skytells.classify(["a", "b"], progress=False)
        assert labels.is_null().to_list() == [False, True, False, False, True]


def test_failed_rows_and_the_frame_of_an_error_are_polars_too() -> None:
    with scripted(lambda text: (400, {"error": {"message": "No."}}) if text == "dog" else "fine"):
        made = FRAME.skytells.complete("{t}", progress=False, on_error="null")
        failed = made.skytells.failed()
        assert isinstance(failed, pl.DataFrame)
        assert failed["t"].to_list() == ["dog"]
        assert "No." in failed["error"][0]
        with pytest.raises(RowError) as stopped:
            FRAME.skytells.complete("{t}", progress=False, on_error="raise", max_in_flight=1, fresh=True)
    assert isinstance(stopped.value.frame, pl.DataFrame)
    assert stopped.value.frame["completion"].to_list()[:2] == ["fine", None]
