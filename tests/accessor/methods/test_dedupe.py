"""df.skytells.dedupe: one row stands for those that mean nearly the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skytells_nb.accessor.methods.dedupe import dedupe_part
from skytells_nb.errors import InputError
from skytells_nb.local.server import LocalServer
from skytells_nb.vectors import near_duplicates as duplicates
from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.near_duplicates import near_duplicates, truncated_upper_bound

FAR = 1e-4
"""Cosines this near to a threshold may fall on either side of it."""


def leaders_one_by_one(matrix: Floats, threshold: float) -> dict[int, float]:
    """Each row's highest cosine with a representative before it, 1 for the representatives themselves."""
    exact = matrix.astype(np.float64) @ matrix.astype(np.float64).T
    leaders: list[int] = []
    best: dict[int, float] = {}
    for row in range(len(matrix)):
        nearest = max((exact[row, leader] for leader in leaders), default=-1.0)
        if nearest < threshold - duplicates.COSINE_TOLERANCE:
            leaders.append(row)
            nearest = 1.0
        best[row] = nearest
    return best


def spread_vectors(n: int, d: int) -> Floats:
    """Vectors whose directions carry less and less, like embeddings of texts, and every fourth nearly twice."""
    rng = np.random.default_rng(7)
    matrix = rng.standard_normal((n, d)) / np.arange(1, d + 1)
    matrix[::4] = matrix[1::4][: len(matrix[::4])] + rng.standard_normal((len(matrix[::4]), d)) * 0.02 / d
    return unit_vectors(matrix.astype(np.float32))


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=25),
    st.floats(0.05, 1.0),
)
def test_groups_are_those_found_row_by_row(rows: list[list[int]], threshold: float) -> None:
    matrix = unit_vectors(np.array(rows, dtype=np.float32))
    exact = matrix.astype(np.float64) @ matrix.astype(np.float64).T
    near = np.abs(exact - threshold) < FAR
    assume(threshold == 1.0 or not near.any())
    groups = near_duplicates(matrix, threshold)
    wanted = leaders_one_by_one(matrix, threshold)
    own = groups.representatives == np.arange(len(matrix))
    np.testing.assert_allclose(groups.similarity, list(wanted.values()), atol=1e-5)
    members = np.flatnonzero(~own)
    assert (groups.representatives[members] < members).all()
    assert own[groups.representatives].all()


@pytest.mark.parametrize("block", [7, 64])
def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    matrix = spread_vectors(300, 8)
    whole = near_duplicates(matrix, 0.95)
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", block)
    monkeypatch.setattr(duplicates, "BLOCK_REPRESENTATIVES", block * 2)
    parts = near_duplicates(matrix, 0.95)
    np.testing.assert_array_equal(parts.representatives, whole.representatives)
    assert len(set(whole.representatives)) < 290


@pytest.mark.parametrize("block", [7, 1024])
def test_parts_one_after_the_other_make_no_difference(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Each with what is kept of those before it."""
    monkeypatch.setattr(duplicates, "BLOCK_ROWS", block)
    vectors = spread_vectors(300, 8)
    vectors[[5, 120]] = 0
    vectors[200] = vectors[3]
    frame = pd.DataFrame({"v": list(vectors), "n": range(300)}, index=range(9, 309))
    frame.loc[[12, 70], "v"] = None
    for keep in ("first", "groups"):
        earlier, parts = np.empty((0, 0), dtype=np.float32), []
        for rows in (frame[:1], frame[1:1], frame[1:130], frame[130:]):
            part, earlier = dedupe_part(rows, earlier, "v", 0.95, keep, "group")  # type: ignore[arg-type]
            parts.append(part)
        expected = frame.skytells.dedupe("v", 0.95, keep=keep, progress=False)
        pd.testing.assert_frame_equal(pd.concat(parts), expected)


def test_a_short_form_bounds_every_cosine_from_above() -> None:
    matrix = spread_vectors(4200, 160)
    short = truncated_upper_bound(matrix, 0.95)
    assert short is not None
    assert short.shape[1] < matrix.shape[1]
    rows = matrix[:500]
    assert (short[:500] @ short[:500].T >= rows @ rows.T - 1e-5).all()


def test_screening_finds_the_same_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = spread_vectors(4200, 160)
    screened = near_duplicates(matrix, 0.95)
    monkeypatch.setattr(duplicates, "truncated_upper_bound", lambda matrix, min_cosine: None)
    plain = near_duplicates(matrix, 0.95)
    np.testing.assert_array_equal(screened.representatives, plain.representatives)
    np.testing.assert_array_equal(screened.similarity, plain.similarity)
    assert len(set(plain.representatives)) <= 4200 * 3 // 4


def test_more_candidates_than_are_looked_at_at_once_are_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors without a main direction: the short form rules few pairs out; the last third are nearly the first."""
    matrix = np.random.default_rng(1).standard_normal((4200, 160)).astype(np.float32)
    matrix[2800:] = matrix[:1400] + 0.3 * matrix[1400:2800]
    matrix = unit_vectors(matrix)
    monkeypatch.setattr(duplicates, "MAX_CANDIDATE_SHARE", 1.0)
    assert truncated_upper_bound(matrix, 0.6) is not None
    screened = near_duplicates(matrix, 0.6)
    np.testing.assert_array_equal(screened.representatives[2800:], np.arange(1400))
    np.testing.assert_allclose(screened.similarity[2800:], (matrix[2800:] * matrix[:1400]).sum(axis=1), atol=1e-5)


def test_vectors_without_a_main_direction_are_not_screened() -> None:
    noise = np.random.default_rng(1).standard_normal((4200, 160)).astype(np.float32)
    assert truncated_upper_bound(unit_vectors(noise), 0.3) is None


def test_a_chain_of_small_steps_does_not_join_its_ends() -> None:
    angles = np.radians([0, 20, 40, 60])
    frame = pd.DataFrame({"embedding": list(np.stack([np.cos(angles), np.sin(angles)], axis=1))})
    out = frame.skytells.dedupe(threshold=0.93, keep="groups")
    assert out["group"].tolist() == [0, 0, 1, 1]


def test_dedupe_keeps_the_first_of_each_group_and_rows_without_a_text(server: LocalServer, df: pd.DataFrame) -> None:
    before = df.copy(deep=True)
    out = df.skytells.dedupe("text", progress=False)
    assert out.index.tolist() == ["v", "w", "y", "z"]
    assert out.columns.tolist() == ["text", "n"]
    assert out.skytells.report.rows == 5
    pd.testing.assert_frame_equal(df, before)


def test_groups_name_their_representative_and_how_near_it_is(server: LocalServer, df: pd.DataFrame) -> None:
    out = df.skytells.dedupe("text", keep="groups", progress=False)
    assert out["group"].dtype == "Int64"
    assert out["group"].astype(object).where(out["group"].notna(), None).tolist() == [0, 1, 0, None, 2]
    assert out["group_representative"].tolist() == [True, True, False, True, True]
    assert out["group_score"].dropna().tolist() == pytest.approx([1.0] * 4)
    kept = df.skytells.dedupe("text", progress=False)
    assert out.index[out["group_representative"]].equals(kept.index)


def test_a_threshold_of_one_joins_equal_vectors_only() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((40, 77)).astype(np.float32)
    frame = pd.DataFrame({"embedding": list(np.concatenate([matrix, matrix * 3]))})
    assert frame.skytells.dedupe(threshold=1).index.tolist() == list(range(40))


def test_embeddings_of_zeros_are_near_to_nothing() -> None:
    frame = pd.DataFrame({"embedding": [[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]})
    assert len(frame.skytells.dedupe()) == 3


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("keep", ["first", "groups"])
def test_few_rows_are_no_special_case(n: int, keep: Any) -> None:
    frame = pd.DataFrame({"embedding": [np.ones(3, dtype=np.float32)] * n}, index=list("a" * n))
    out = frame.skytells.dedupe(keep=keep)
    assert out.index.equals(frame.index)


def test_duplicate_labels_and_levels_of_columns_stay(server: LocalServer) -> None:
    frame = pd.DataFrame({("a", "x"): ["p q", "p q", "r"]}, index=[1, 1, 1])
    out = frame.skytells.dedupe(("a", "x"), keep="groups", progress=False)
    assert out[("group", "")].tolist() == [0, 0, 1]
    assert out[("group_score", "")].notna().all()
    assert out.index.tolist() == [1, 1, 1]


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan"), "0.9", True, None])
def test_a_threshold_that_is_no_cosine_is_refused_unsent(server: LocalServer, df: pd.DataFrame, threshold: Any) -> None:
    with pytest.raises(InputError, match="above 0 and at most 1"):
        df.skytells.dedupe("text", threshold, progress=False)
    assert not server.stats.records


def test_another_keep_is_refused_unsent(server: LocalServer, df: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="keep must be 'first' or 'groups', got 'last'"):
        df.skytells.dedupe("text", keep="last", progress=False)
    assert not server.stats.records


def test_a_recall_below_one_is_stated_in_the_report() -> None:
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((200, 8))[rng.integers(200, size=21_000)] + 0.05 * rng.standard_normal((21_000, 8))
    frame = pd.DataFrame({"embedding": list(matrix.astype(np.float32))})
    exact = frame.skytells.dedupe(threshold=0.9, progress=False)
    assert exact.skytells.report.recall is None
    assert "recall" not in str(exact.skytells.report)
    found = frame.skytells.dedupe(threshold=0.9, recall=0.9, progress=False)
    assert 0.9 <= found.skytells.report.recall <= 1
    assert "measured on a sample" in str(found.skytells.report)
    assert len(exact) <= len(found) < 1.5 * len(exact)


@pytest.mark.parametrize("recall", [0, 1.01, "0.9", True, float("nan")])
def test_a_recall_that_is_none_is_refused(recall: Any) -> None:
    frame = pd.DataFrame({"embedding": [np.ones(3, dtype=np.float32)]})
    with pytest.raises(InputError, match="recall must be a number above 0 and at most 1, got"):
        frame.skytells.dedupe(recall=recall, progress=False)
    with pytest.raises(InputError, match="recall must be"):
        frame.skytells.join(frame, "embedding", recall=recall, progress=False)
