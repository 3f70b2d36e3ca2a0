"""df.skytells.join: rows of two frames that mean the same, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_fakes import EchoGenerator, EchoPiece
from served import connected, served

from skytells_nb.accessor.methods.join import Pairs, merged, nearest_pairs, result_names
from skytells_nb.embedding_columns import UnitVectors
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.local.server import LocalServer
from skytells_nb.vectors.arrays import unit_vectors


class Judge(EchoGenerator):
    """Confirms pairs of which both texts hold the word "cat"; mumbles about dogs."""

    context = 4000

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []

    def stream(self, messages: list[dict[str, Any]], **settings: Any) -> Iterator[EchoPiece]:
        text = next(message["content"] for message in messages if message["role"] == "user")
        first, second = text.removeprefix("First: ").split("\n\nSecond: ")
        self.asked.append((messages[0]["content"], text))
        said = "well" if "dog" in first else json.dumps({"match": "cat" in first and "cat" in second})
        return super().stream([{"role": "user", "content": said}], **{**settings, "schema": None, "json": False})


@pytest.fixture
def left() -> pd.DataFrame:
    return pd.DataFrame({"text": ["a cat sleeps", None, "a dog runs"], "n": [1, 2, 3]}, index=list("aab"))


@pytest.fixture
def right() -> pd.DataFrame:
    texts = ["the dog runs", "stocks fell", None, "a cat sleeps"]
    return pd.DataFrame({"text": texts, "id": [10, 20, 30, 40]})


whole_vectors = st.lists(st.lists(st.integers(-2, 2), min_size=2, max_size=2), min_size=0, max_size=12)


@settings(deadline=None)
@given(whole_vectors, whole_vectors, st.integers(1, 4), st.sampled_from([None, 0.3, 0.95]))
def test_pairs_are_those_of_all_pairs(mine: Any, theirs: Any, k: int, threshold: float | None) -> None:
    sides = [
        UnitVectors(unit_vectors(np.array(rows, dtype=np.float32).reshape(-1, 2)), np.arange(len(rows)) * 2 + 1)
        for rows in (mine, theirs)
    ]
    pairs = nearest_pairs(*sides, k, threshold)
    exact = sides[0].matrix.astype(np.float64) @ sides[1].matrix.astype(np.float64).T
    best = -np.sort(-exact, axis=1)[:, :k]
    kept = best if threshold is None else best[best >= threshold]
    np.testing.assert_allclose(pairs.score, kept.ravel(), atol=1e-5)
    np.testing.assert_allclose(pairs.score, exact[(pairs.left - 1) // 2, (pairs.right - 1) // 2], atol=1e-5)
    assert pairs.left.tolist() == sorted(pairs.left)


@settings(deadline=None)
@given(
    st.integers(0, 6),
    st.integers(1, 6),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=10),
)
def test_a_left_join_adds_each_row_without_a_pair(n: int, m: int, drawn: list[tuple[int, int]]) -> None:
    found = sorted((a, b) for a, b in drawn if a < n and b < m)
    frame = pd.DataFrame({"a": range(n)}, index=list("xyzxyz")[:n])
    other = pd.DataFrame({"b": [f"r{i}" for i in range(m)]})
    places = np.array(found, dtype=np.int64).reshape(-1, 2)
    pairs = Pairs(places[:, 0], places[:, 1], np.ones(len(found), dtype=np.float32))
    names = result_names(frame.columns, other.columns, ("_x", "_y"), "score")
    out = merged(frame, other, pairs, "left", names, "score")
    alone = [(a, None) for a in range(n) if a not in {a for a, _ in found}]
    wanted = sorted([*found, *alone], key=lambda pair: pair[0])
    assert out["a"].tolist() == [a for a, _ in wanted]
    assert out["b"].dropna().tolist() == [f"r{b}" for _, b in wanted if b is not None]
    assert out["b"].isna().tolist() == out["score"].isna().tolist() == [b is None for _, b in wanted]
    assert out.index.tolist() == [frame.index[a] for a, _ in wanted]


def test_join_puts_the_nearest_row_beside_each(server: LocalServer, left: pd.DataFrame, right: pd.DataFrame) -> None:
    before = left.copy(deep=True), right.copy(deep=True)
    out = left.skytells.join(right, "text", progress=False)
    assert out.columns.tolist() == ["text_x", "n", "text_y", "id", "score"]
    assert out.index.tolist() == ["a", "b"]
    assert out["id"].tolist() == [40, 10]
    assert out["id"].dtype == right["id"].dtype
    assert out["score"].dtype == np.float32
    assert out["score"].iloc[0] == pytest.approx(1.0)
    pd.testing.assert_frame_equal(left, before[0])
    pd.testing.assert_frame_equal(right, before[1])


def test_a_text_on_both_sides_is_sent_once(server: LocalServer, left: pd.DataFrame, right: pd.DataFrame) -> None:
    out = left.skytells.join(right, "text", cache="off", progress=False)
    assert server.stats["embeddings"].inputs == 4
    assert out.skytells.report.rows == len(left) + len(right)


def test_equal_texts_join_like_merge(server: LocalServer, left: pd.DataFrame, right: pd.DataFrame) -> None:
    out = left.skytells.join(right, "text", threshold=1, progress=False)
    wanted = left.dropna().merge(right.dropna(), on="text")
    assert out["text_x"].tolist() == wanted["text"].tolist()
    assert out["id"].tolist() == wanted["id"].tolist()


def test_left_rows_without_a_pair_stay_with_nulls(server: LocalServer, left: pd.DataFrame, right: pd.DataFrame) -> None:
    out = left.skytells.join(right, ("text", "text"), how="left", threshold=0.99, progress=False)
    assert out.index.tolist() == ["a", "a", "b"]
    assert out["id"].isna().tolist() == [False, True, True]
    assert out["score"].isna().tolist() == [False, True, True]


def test_k_pairs_of_a_row_come_best_first(server: LocalServer, left: pd.DataFrame, right: pd.DataFrame) -> None:
    out = left.skytells.join(right, "text", k=3, progress=False)
    assert out["n"].tolist() == [1, 1, 1, 3, 3, 3]
    assert out["id"].iloc[[0, 3]].tolist() == [40, 10]
    assert out.groupby("n")["score"].apply(lambda s: s.is_monotonic_decreasing).all()


def test_embeddings_join_without_a_session() -> None:
    left = pd.DataFrame({"v": [[1.0, 0.0], [0.0, 1.0]]})
    right = pd.DataFrame({"w": [[0.0, 2.0], [3.0, 0.1]], "name": ["up", "right"]})
    out = left.skytells.join(right, on=("v", "w"))
    assert out["name"].tolist() == ["right", "up"]
    assert out.skytells.report.requests == 0


def test_pairs_that_the_model_does_not_confirm_are_left_out(
    tmp_path: Path, left: pd.DataFrame, right: pd.DataFrame
) -> None:
    judge = Judge()
    frame = left[left["n"] < 3]
    with served(generator=judge) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.join(right, "text", k=2, confirm="Is it the same animal?", progress=False)
        asked = len(judge.asked)
        again = frame.skytells.join(right, "text", k=2, confirm="Is it the same animal?", progress=False)
    assert out["text_y"].tolist() == ["a cat sleeps"]
    assert asked == len(judge.asked) == 2
    assert all("Is it the same animal?" in system for system, _ in judge.asked)
    assert judge.asked[0][1].startswith("First: a cat sleeps\n\nSecond: ")
    pd.testing.assert_frame_equal(out, again)
    assert out.skytells.report.requests == 3
    assert again.skytells.report.requests == 0


def test_a_pair_without_an_answer_is_an_error_of_its_left_row(
    tmp_path: Path, left: pd.DataFrame, right: pd.DataFrame
) -> None:
    with (
        served(generator=Judge()) as server,
        connected(server, tmp_path / "c.sqlite") as session,
        pytest.warns(SkytellsWarning, match="1 of 2 pairs failed and are left out"),
    ):
        out = left.skytells.join(right, "text", confirm=True, how="left", progress=False)
    assert out["id"].isna().tolist() == [False, True, True]
    report = out.skytells.report
    assert list(report.errors) == [2]
    assert (report.rows, report.failed, report.skipped) == (7, 1, 0)
    assert left.skytells.report == report
    assert session.reports == [report]


def test_embeddings_are_confirmed_by_their_texts(tmp_path: Path, left: pd.DataFrame, right: pd.DataFrame) -> None:
    judge = Judge()
    with served(generator=judge) as server, connected(server, tmp_path / "c.sqlite"):
        mine = left.iloc[:2].skytells.embed("text", progress=False)
        theirs = right.skytells.embed("text", progress=False)
        out = mine.skytells.join(theirs, "embedding", confirm=True, progress=False)
    assert out["id"].tolist() == [40]
    assert len(judge.asked) == 1


@pytest.mark.parametrize(("texts", "others"), [([], ["a"]), (["a"], []), ([None], ["a"]), (["a"], [None]), ([], [])])
@pytest.mark.parametrize("how", ["inner", "left"])
def test_nothing_to_compare_sends_nothing(server: LocalServer, texts: Any, others: Any, how: Any) -> None:
    left = pd.DataFrame({"t": pd.Series(texts, dtype=object)})
    right = pd.DataFrame({"u": pd.Series(others, dtype=object)})
    out = left.skytells.join(right, ("t", "u"), how=how, confirm=True, progress=False)
    assert out.columns.tolist() == ["t", "u", "score"]
    assert len(out) == (len(left) if how == "left" else 0)
    assert not server.stats.records


def test_several_pairs_may_share_a_request(server: LocalServer, left: pd.DataFrame, right: pd.DataFrame) -> None:
    left.skytells.join(right, "text", k=3, confirm=True, rows_per_request=6, on_error="null", progress=False)
    assert server.stats["chat"].requests >= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: a.skytells.join([1], "text"), "other must be a DataFrame, got list"),
        (lambda a, b: a.skytells.join(b, "n"), "must hold texts or embeddings, got int64"),
        (lambda a, b: a.skytells.join(b, ("text", "nope")), "no column 'nope'"),
        (lambda a, b: a.skytells.join(b, ("text", "text", "n")), "the pair of a left and a right one"),
        (lambda a, b: a.skytells.join(b, "text", k=0), "k must be a positive integer"),
        (lambda a, b: a.skytells.join(b, "text", threshold=2), "above 0 and at most 1"),
        (lambda a, b: a.skytells.join(b, "text", how="outer"), "how must be 'inner' or 'left', got 'outer'"),
        (lambda a, b: a.skytells.join(b, "text", confirm=""), "confirm must be True, False or a question"),
        (lambda a, b: a.skytells.join(b, "text", suffixes="_r"), "suffixes must be two strings"),
        (lambda a, b: a.skytells.join(b, "text", suffixes=("", "")), "two columns 'text'"),
        (lambda a, b: a.skytells.join(b, "text", into="n"), "two columns 'n'"),
        (lambda a, b: a.skytells.join(b, "text", rows_per_request=0), "rows_per_request must be an integer"),
        (lambda a, b: a.assign(v=[[1.0]] * 3, u="x").skytells.join(b, ("v", "text"), confirm=True), "name it with"),
        (lambda a, b: a.set_axis([["t", "n"], ["", ""]], axis=1).skytells.join(b, "text"), "have one level"),
        (
            lambda a, b: a.assign(v=[[1.0]] * 3).skytells.join(b.assign(w=[[1.0, 2.0]] * 4), ("v", "w")),
            "Column 'v' has 1 dimensions and column 'w' has 2",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: LocalServer, left: pd.DataFrame, right: pd.DataFrame, call: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(left, right)
    assert not server.stats.records
