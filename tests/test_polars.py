"""pl.DataFrame.skytells: the methods of the pandas accessor, with the same contracts."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pydantic
import pytest
from polars.testing import assert_frame_equal
from served import connected, served

import skytells_nb.polars  # noqa: F401 - puts the namespaces on polars
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.errors import InputError, ModelNotFoundError, SkytellsWarning
from skytells_nb.local.server import LocalServer


class Animal(pydantic.BaseModel):
    name: str
    legs: int
    kind: Literal["mammal", "bird"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    with served() as server, connected(server, tmp_path / "c.sqlite"):
        yield server


@pytest.fixture
def df() -> pl.DataFrame:
    texts = ["a cat sleeps", "a dog runs", "a cat sleeps", None, "stocks fell"]
    return pl.DataFrame({"text": texts, "n": range(5)})


def test_vectors_are_an_array_column_and_equal_texts_are_sent_once(server: LocalServer, df: pl.DataFrame) -> None:
    before = df.clone()
    out = df.skytells.embed("text", progress=False)
    assert isinstance(out.schema["embedding"], pl.Array)
    assert out.schema["embedding"].inner == pl.Float32
    assert out["embedding"].is_null().to_list() == [False, False, False, True, False]
    assert out["embedding"][0].to_list() == out["embedding"][2].to_list()
    assert server.stats["embeddings"].inputs == 3
    assert out.skytells.report.distinct == df.skytells.report.distinct == 3
    assert_frame_equal(df, before)
    assert_frame_equal(out.drop("embedding"), before)


def test_pandas_and_polars_give_the_same_results(server: LocalServer, df: pl.DataFrame) -> None:
    mine = df.skytells.complete("{n}: {text}", details=True, progress=False)
    theirs = df.to_pandas().skytells.complete("{n}: {text}", details=True, progress=False)
    assert mine.columns == theirs.columns.tolist()
    assert (
        mine["completion"].to_list()
        == theirs["completion"].astype(object).where(theirs["completion"].notna(), None).tolist()
    )
    assert mine.schema["completion"] == pl.String
    assert (mine.schema["completion_tokens_in"], mine.schema["completion_filtered"]) == (pl.Int64, pl.Boolean)
    assert server.stats["chat"].inputs == 4


def test_fields_of_a_schema_are_columns(server: LocalServer, df: pl.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        out = df.skytells.complete("{text}", schema=Animal, progress=False)
    assert out.columns == ["text", "n", "name", "legs", "kind"]
    assert out.schema["legs"] == pl.Int64
    assert out.schema["kind"] == pl.Enum(["mammal", "bird"])
    with pytest.raises(InputError, match="flatten must be left out"):
        df.skytells.complete("{text}", schema=Animal, flatten=False, progress=False)


def test_rows_that_are_chosen_keep_their_order_and_their_dtypes(server: LocalServer, df: pl.DataFrame) -> None:
    typed = df.with_columns(c=pl.lit("x").cast(pl.Categorical), d=pl.lit("1.5").cast(pl.Decimal(10, 2)))
    vectors = typed.skytells.embed("text", progress=False)
    found = vectors.skytells.search("a cat sleeps", k=2, progress=False)
    assert found["n"].to_list() == [0, 2]
    assert found.schema == {**vectors.schema, "score": pl.Float32}
    every = vectors.skytells.search(["a dog runs", "stocks fell"], k=2, progress=False)
    assert every["score_query"].to_list() == ["a dog runs", "a dog runs", "stocks fell", "stocks fell"]
    assert every["text"].to_list()[::2] == ["a dog runs", "stocks fell"]
    whole = df.drop_nulls().skytells.search("stocks fell", "text", k=9, progress=False)
    assert (whole["n"][0], sorted(whole["n"])) == (4, [0, 1, 2, 4])
    kept = vectors.skytells.dedupe(progress=False)
    assert kept["n"].to_list() == [0, 1, 3, 4]
    assert kept.schema == vectors.schema
    assert vectors.skytells.similar(0, k=1, progress=False)["n"].to_list() == [2]


def test_a_column_in_the_place_of_another_is_the_new_one(server: LocalServer, df: pl.DataFrame) -> None:
    out = df.skytells.complete("{text}", into="n", progress=False)
    assert out.columns == ["text", "n"]
    assert out["n"].to_list() == df["text"].to_list()


def test_groups_topics_and_joins_are_tables(server: LocalServer, df: pl.DataFrame) -> None:
    groups = df.with_columns(by=pl.Series(list("xyxyy"))).skytells.summarize("text", by="by", progress=False)
    assert groups.columns == ["by", "texts", "summary"]
    assert groups["texts"].to_list() == [2, 2]
    clusters = df.skytells.cluster("text", n=2, name=False, progress=False)
    assert clusters.skytells.topics()["size"].sum() == 4
    joined = df.skytells.join(df.head(2), on="text", progress=False)
    assert joined["text_y"].to_list()[:3] == ["a cat sleeps", "a dog runs", "a cat sleeps"]


def test_labels_and_verdicts(server: LocalServer, df: pl.DataFrame) -> None:
    out = df.skytells.classify("text", pl.Series(["pos", "neg"]).to_list(), via="embedding", progress=False)
    assert out.schema["label"] == pl.Enum(["pos", "neg"])
    assert out["label"].null_count() == 1
    said = pl.DataFrame({"t": ["fine", None, "violence:high"]}).skytells.complete(
        "{t}", on_error="null", progress=False
    )
    verdicts = said.skytells.safety()
    assert isinstance(verdicts, pl.DataFrame)
    assert set(verdicts["row"]) == {0, 2}
    assert verdicts.schema["filtered"] == pl.Boolean


def test_a_sample_is_of_polars_rows(server: LocalServer, df: pl.DataFrame) -> None:
    assert df.skytells.complete("Say {text}.", dry_run=True).distinct == 3
    assert server.stats["chat"].requests == 0
    sample = df.skytells.complete("Say {text}.", sample=2, progress=False)
    assert isinstance(sample.result, pl.DataFrame)
    assert sample.result.columns == [*df.columns, "completion"]
    assert sample.result["completion"].null_count() == 0
    assert "<table" in sample._repr_html_()
    column = df["text"].skytells.complete("Say it.", sample=2, progress=False)
    assert isinstance(column.result, pl.Series)
    assert len(column.result) == sample.rows == 2


def test_methods_without_requests_are_as_in_pandas(server: LocalServer, df: pl.DataFrame) -> None:
    assert df.skytells.estimate("text").distinct == 3
    assert df.skytells.preview("Say {text}.", 1)[0][-1]["content"] == "Say a cat sleeps."
    with pytest.raises(InputError, match="no column 'body'"):
        df.skytells.embed("body")
    with pytest.raises(InputError, match="must hold text, got int64"):
        df.skytells.embed("n")
    assert server.stats["embeddings"].requests == server.stats["chat"].requests == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_frames_of_no_text_have_the_same_columns(server: LocalServer, rows: int) -> None:
    frame = pl.DataFrame({"text": pl.Series([None] * rows, dtype=pl.String)})
    assert isinstance(frame.skytells.embed("text", progress=False).schema["embedding"], pl.Array)
    assert frame.skytells.complete("{text}", progress=False).schema["completion"] == pl.String
    assert frame.skytells.search("x", "text", progress=False).height == 0


def test_numbers_wider_than_those_of_arrow_stay_in_their_column(server: LocalServer, df: pl.DataFrame) -> None:
    wide = df.with_columns(big=pl.Series([2**100, None, 1, 2, 3], dtype=pl.Int128))
    out = wide.skytells.complete("{big}: {text}", progress=False)
    assert_frame_equal(out.select(wide.columns), wide)
    assert out["completion"].is_null().to_list() == [False, True, False, True, False]
    assert str(2**100) in out["completion"][0]


def test_a_call_that_failed_leaves_its_report(server: LocalServer, df: pl.DataFrame) -> None:
    with pytest.raises(ModelNotFoundError):
        df.skytells.complete("{text}", model="gpt-99", progress=False)
    assert df.skytells.report.state == "failed"


def test_columns_have_the_methods_too(server: LocalServer, df: pl.DataFrame) -> None:
    made = df["text"].skytells.embed(progress=False)
    assert isinstance(made.dtype, pl.Array)
    assert made.name == "text"
    said = df["text"].skytells.complete("Say it again.", progress=False)
    assert said.null_count() == 1
    assert said.skytells.report.distinct == 3


@pytest.mark.parametrize(("data_type", "accessor"), [(pl.DataFrame, FrameAccessor), (pl.Series, SeriesAccessor)])
def test_every_method_is_there_with_its_docstring(data_type: Any, accessor: Any) -> None:
    namespace = type(data_type().skytells)
    for name in (name for name in dir(accessor) if not name.startswith("_")):
        assert getattr(namespace, name).__doc__


def test_polars_is_imported_by_its_own_module_alone() -> None:
    code = """
import skytells_nb, sys
assert "polars" not in sys.modules
import skytells_nb.polars, polars
polars.DataFrame.skytells
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
