"""df.skytells.search and .similar: the nearest rows, exactly, best first."""

from __future__ import annotations

import doctest
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import connected, served

from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.errors import InputError, RowError, SkytellsWarning
from skytells_nb.local.server import LocalServer
from skytells_nb.session import Session
from skytells_nb.vectors.arrays import unit_vectors
from skytells_nb.vectors.neighbors import nearest_by_cosine

small_matrices = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(st.integers(-2, 2), min_size=d, max_size=d), min_size=1, max_size=30)
)


@pytest.fixture
def vectors() -> pd.DataFrame:
    """Three directions; the second row has none and the third is null."""
    cells = [[1.0, 0.0], [0.0, 0.0], None, [0.6, 0.8], [0.0, -2.0]]
    return pd.DataFrame({"embedding": cells, "n": range(5)}, index=list("abcde"))


@settings(deadline=None)
@given(small_matrices, st.data())
def test_nearest_are_those_of_a_sort_of_all(rows: list[list[int]], data: st.DataObject) -> None:
    known = unit_vectors(np.array(rows, dtype=np.float32))
    k = data.draw(st.integers(1, len(rows) + 2))
    places, scores = nearest_by_cosine(known, known, k)
    exact = known.astype(np.float64) @ known.astype(np.float64).T
    np.testing.assert_allclose(scores, -np.sort(-exact, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, places, axis=1), atol=1e-6)
    assert all(len(set(row)) == len(row) for row in places.tolist())


def test_of_equal_rows_the_earlier_comes_first() -> None:
    """Also where there are more of them than are compared one by one, and in the edges of blocks."""
    known = unit_vectors(np.tile(np.random.default_rng(0).standard_normal((1, 37)), (3001, 1)).astype(np.float32))
    places, scores = nearest_by_cosine(known[:1], known, 5)
    assert places[0].tolist() == [0, 1, 2, 3, 4]
    assert len(set(scores[0].tolist())) == 1


def test_vectors_of_any_length_have_a_direction() -> None:
    """Their squares need not fit float32."""
    made = unit_vectors(np.array([[3e30, 4e30], [3e-30, 4e-30], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(made, [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=1e-6)


def test_search_gives_the_rows_best_first_with_their_score(server: LocalServer, df: pd.DataFrame) -> None:
    before = df.copy(deep=True)
    found = df.skytells.search("a cat sleeps", "text", 2, into="similarity", progress=False)
    assert found.index.tolist() == ["v", "x"]
    assert found["similarity"].tolist() == pytest.approx([1.0, 1.0])
    assert found["similarity"].dtype == np.float32
    pd.testing.assert_frame_equal(df, before)


def test_search_beyond_the_rows_gives_all_that_have_an_embedding(server: LocalServer, df: pd.DataFrame) -> None:
    assert sorted(df.skytells.search("cat", "text", 99, progress=False).index) == ["v", "w", "x", "z"]


def test_the_report_of_a_search_counts_rows_and_query(server: LocalServer, df: pd.DataFrame) -> None:
    report = df.skytells.search("kittens", "text", progress=False).skytells.report
    assert (report.operation, report.rows, report.nulls, report.failed) == ("search", 5, 1, 0)
    assert report.requests == server.stats["embeddings"].requests == 2
    assert df.skytells.report == report


def test_several_queries_are_one_run_and_their_rows_follow_each_other(server: LocalServer, df: pd.DataFrame) -> None:
    both = df.skytells.search(["a dog runs", "stocks fell", "a dog runs"], "text", k=2, into="near", progress=False)
    assert both["near_query"].tolist() == [q for q in ("a dog runs", "stocks fell", "a dog runs") for _ in range(2)]
    for place, query in ((0, "a dog runs"), (2, "stocks fell"), (4, "a dog runs")):
        alone = df.skytells.search(query, "text", k=2, into="near", progress=False)
        pd.testing.assert_frame_equal(both.iloc[place : place + 2].drop(columns="near_query"), alone)
    assert server.stats["embeddings"].repeated == 0
    none = df.iloc[:0].skytells.search(["a"], "text", progress=False)
    assert (len(none), none["score_query"].dtype) == (0, both["near_query"].dtype)
    fewer = df.skytells.search(["a dog runs"], "text", k=99, progress=False)
    assert len(fewer) == df["text"].notna().sum()


@pytest.mark.parametrize("query", ["", " ", [], ["a", ""], ["a", None], None, 3, [3]])
def test_a_query_is_a_text_or_several(server: LocalServer, df: pd.DataFrame, query: Any) -> None:
    with pytest.raises(InputError, match="a list of such strings"):
        df.skytells.search(query, "text", progress=False)
    assert server.stats["embeddings"].requests == 0


def test_of_several_queries_the_one_that_fails_is_named(server: LocalServer, df: pd.DataFrame) -> None:
    with pytest.raises(RowError, match=r"The query 'half \\ud800' could not be embedded"):
        df.skytells.search(["fine", "half \ud800"], "text", on_error="null", progress=False)


def test_dimensions_of_the_query_follow_the_keyword(server: LocalServer, df: pd.DataFrame) -> None:
    small = df.skytells.embed("text", dimensions=12, progress=False)
    found = small.skytells.search("a cat sleeps", k=2, dimensions=12, progress=False)
    assert found["score"].tolist() == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("texts", [[], [None], [None, float("nan"), pd.NA]])
def test_search_among_nothing_sends_nothing(server: LocalServer, texts: list[Any]) -> None:
    frame = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
    found = frame.skytells.search("cat", "text", progress=False)
    assert found.columns.tolist() == ["text", "score"]
    assert (len(found), found["score"].dtype) == (0, np.float32)
    assert not server.stats.records


def test_a_query_that_fails_is_an_error_before_the_column_is_paid(tmp_path: Path, df: pd.DataFrame) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite"), warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        with pytest.raises(RowError, match="about 100,000"):
            df.skytells.search("word " * 80_000, "text", progress=False)
    assert not server.stats.records


def test_categories_are_texts(server: LocalServer, df: pd.DataFrame) -> None:
    found = df.astype({"text": "category"}).skytells.search("a dog runs", "text", 1, progress=False)
    assert found.index.tolist() == ["w"]


def test_similar_leaves_the_row_itself_out(vectors: pd.DataFrame) -> None:
    """And needs neither a session nor a key where the embeddings are there."""
    found = vectors.skytells.similar("a", k=9)
    assert found.index.tolist() == ["d", "b", "e"]
    assert found["score"].tolist() == pytest.approx([0.6, 0.0, 0.0])
    assert found.skytells.report.requests == 0


def test_similar_leaves_the_row_itself_out_among_its_equals() -> None:
    frame = pd.DataFrame({"embedding": [[1.0, 2.0]] * 5})
    assert frame.skytells.similar(4, k=2).index.tolist() == [0, 1]
    assert frame.skytells.similar(0, k=2).index.tolist() == [1, 2]


def test_similar_takes_labels_of_several_levels(vectors: pd.DataFrame) -> None:
    index = pd.MultiIndex.from_product([["x"], range(5)])
    assert vectors.set_axis(index).skytells.similar(("x", 0), k=1).index.tolist() == [("x", 3)]


def test_similar_to_a_text_that_failed_says_why(server: LocalServer) -> None:
    frame = pd.DataFrame({"text": ["fine", "word " * 80_000]})
    with pytest.raises(RowError, match=r"Row 1 could not be embedded: .*100,000 tokens"):
        frame.skytells.similar(1, "text", on_error="null", progress=False)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.skytells.search("x", "n"), "Column 'n' must hold texts or embeddings, got int64"),
        (lambda d: d.skytells.search("x", "nope"), "no column 'nope'"),
        (lambda d: d.skytells.search("x", "text", True), "k must be a positive integer, got True"),
        (
            lambda d: d.skytells.search([["x"]], "text"),
            r"query must be a non-empty string, or a list of such strings, got \['x'\]",
        ),
        (lambda d: d.skytells.search("x", "text", into="text"), "would replace the column"),
        (lambda d: d.skytells.search("x", "text", colum="a"), "Unknown keyword 'colum'"),
        (
            lambda d: d.assign(m=[[1.0], [1.0, 2.0], None, None, None]).skytells.search("x", "m"),
            "must have vectors of one length",
        ),
        (
            lambda d: d.assign(m=["a", [1.0], None, None, None]).skytells.search("x", "m"),
            r"must hold text, got list at row",
        ),
        (lambda d: d.assign(m=[[1.0], [np.nan], None, None, None]).skytells.similar("v", "m"), "NaN or infinite"),
        (lambda d: d.skytells.similar("y", "text"), "Row 'y' is missing in column 'text'"),
        (lambda d: d.skytells.similar("q", "text"), "There is no row 'q'"),
        (lambda d: d.skytells.similar(["v"], "text"), r"There is no row \['v'\]"),
        (
            lambda d: d.set_axis(list("aabcd")).skytells.similar("a", "text"),
            "must name one row, got 2. Use reset_index",
        ),
        (lambda d: d.iloc[:0].skytells.similar("v", "text"), "There is no row 'v'"),
        (lambda d: d.skytells.similar("v", "text", k=0), "k must be a positive integer"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: LocalServer, df: pd.DataFrame, call: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(df)
    assert not server.stats.records


@pytest.mark.parametrize("method", ["search", "similar", "dedupe", "cluster", "topics", "join"])
def test_the_example_of_a_method_runs(session: Session, method: str) -> None:
    """On the real local model."""
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(FrameAccessor, method), method, globs={"pd": pd})
    outcome = doctest.DocTestRunner().run(example)
    assert outcome.attempted > 1
    assert outcome.failed == 0
