"""df.skytells.cluster and .topics: what a column is about, under names that a model gave."""

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

from skytells_nb.accessor.methods.cluster import good_names
from skytells_nb.errors import InputError, RowError, SkytellsWarning
from skytells_nb.local.server import LocalServer
from skytells_nb.topics.names import NAME_CHARACTERS, unique_names
from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.kmeans import (
    SAMPLE_ROWS,
    _initial_centers,
    _total_distance,
    choose_n_clusters,
    kmeans,
    sample_rows,
    silhouette,
)

ANIMALS = ["cat cat tail", "cat cat paw", "cat cat nose"]
MONEY = ["stocks bonds bonds", "stocks bonds bonds now"]
matrices = st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any), min_size=1, max_size=40)


class NamingGenerator(EchoGenerator):
    """Names a group after its first word; says no name to a group about stocks when ``shy``."""

    context = 4000

    def __init__(self, shy: bool = False) -> None:
        super().__init__()
        self.shy = shy
        self.shown: list[str] = []

    def stream(self, messages: list[dict[str, Any]], **settings: Any) -> Iterator[EchoPiece]:
        text = next(message["content"] for message in messages if message["role"] == "user")
        self.shown.append(text)
        word = text.split("Texts of this group:\n- ")[1].split()[0]
        said = "no name" if self.shy and word == "stocks" else json.dumps({"name": word.title()})
        plain = {**settings, "schema": None, "json": False}
        return super().stream([{"role": "user", "content": said}], **plain)


@pytest.fixture
def talk() -> pd.DataFrame:
    return pd.DataFrame({"text": [*ANIMALS, None, *MONEY], "n": range(6)}, index=list("abcdef"))


def blobs(number: int, each: int = 30, d: int = 12) -> Floats:
    rng = np.random.default_rng(5)
    centers = np.eye(d)[:number]
    return unit_vectors(
        (np.repeat(centers, each, axis=0) + 0.15 * rng.standard_normal((number * each, d))).astype(np.float32)
    )


@settings(deadline=None)
@given(matrices, st.integers(1, 6))
def test_every_vector_belongs_to_its_nearest_centre(rows: list[list[int]], n: int) -> None:
    matrix = unit_vectors(np.array(rows, dtype=np.float32))
    found = kmeans(matrix, n)
    cosines = matrix.astype(np.float64) @ found.centers.astype(np.float64).T
    np.testing.assert_allclose(found.similarity, cosines[np.arange(len(matrix)), found.labels], atol=1e-6)
    np.testing.assert_allclose(found.similarity, cosines.max(axis=1), atol=1e-6)
    sizes = np.bincount(found.labels, minlength=len(found.centers))
    assert len(sizes) <= n
    assert sizes.tolist() == sorted(sizes, reverse=True)
    assert sizes.min() > 0


@settings(deadline=None)
@given(matrices, st.integers(2, 5))
def test_equal_input_gives_equal_clusters(rows: list[list[int]], n: int) -> None:
    matrix = unit_vectors(np.array(rows, dtype=np.float32))
    np.testing.assert_array_equal(kmeans(matrix, n).labels, kmeans(matrix.copy(), n).labels)


@pytest.mark.parametrize("number", [2, 4, 7])
def test_the_number_of_clusters_is_that_of_separate_groups(number: int) -> None:
    matrix = blobs(number)
    assert choose_n_clusters(matrix) == number
    found = kmeans(matrix, number).labels.reshape(number, -1)
    assert all(len(set(group)) == 1 for group in found.tolist())


def twenty_groups(seed: int) -> tuple[Floats, Any]:
    """Groups that are clear, in random directions, and so many that a start without one of them is likely."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(20), 60)
    drawn = 1.5 * rng.standard_normal((20, 64))[truth] + 0.6 * rng.standard_normal((1200, 64))
    return unit_vectors(drawn.astype(np.float32)), truth


@pytest.mark.parametrize("seed", range(10))
def test_twenty_clear_groups_are_found(seed: int) -> None:
    matrix, truth = twenty_groups(seed)
    assert len(set(zip(truth.tolist(), kmeans(matrix, 20).labels.tolist(), strict=True))) == 20


def test_initial_centers_are_as_good_as_those_of_scikit_learn() -> None:
    """The squared distance of unit vectors is twice that of cosines, so that both minimize the same sum."""
    from sklearn.cluster import kmeans_plusplus

    matrix, _ = twenty_groups(0)
    rng = np.random.default_rng(0)
    ours = [_total_distance(matrix, _initial_centers(matrix, 20, rng, lambda: None)) for _ in range(40)]
    theirs = []
    for seed in range(40):
        centers, _ = kmeans_plusplus(matrix, 20, random_state=seed)
        theirs.append(float((1 - (matrix @ centers.T).max(axis=1)).sum(dtype=np.float64)))
    assert np.mean(ours) <= 1.03 * np.mean(theirs)


@pytest.mark.parametrize("seed", range(3))
def test_vectors_are_as_near_to_their_centers_as_with_scikit_learn(seed: int) -> None:
    """Also where there are no groups to be found."""
    from sklearn.cluster import KMeans

    matrix = unit_vectors(np.random.default_rng(seed).standard_normal((600, 16)).astype(np.float32))
    theirs = KMeans(12, n_init=10, random_state=seed).fit(matrix)
    centers = unit_vectors(theirs.cluster_centers_.astype(np.float32))
    apart = float((1 - (matrix @ centers.T).max(axis=1)).sum(dtype=np.float64))
    assert float((1 - kmeans(matrix, 12).similarity).sum(dtype=np.float64)) <= 1.02 * apart


def test_above_the_sample_size_every_vector_is_assigned_and_moves_the_centers() -> None:
    """A tenth more vectors than the sample holds, in three groups of unlike size."""
    rows = SAMPLE_ROWS + SAMPLE_ROWS // 10
    rng = np.random.default_rng(11)
    group = rng.choice(3, rows, p=[0.6, 0.3, 0.1])
    matrix = unit_vectors((np.eye(6)[group] + 0.2 * rng.standard_normal((rows, 6))).astype(np.float32))
    found = kmeans(matrix, 3)
    assert found.labels.shape == found.similarity.shape == (rows,)
    assert (found.labels == group).mean() > 0.99
    cosines = matrix.astype(np.float64) @ found.centers.astype(np.float64).T
    np.testing.assert_array_equal(found.labels, cosines.argmax(axis=1))
    np.testing.assert_allclose(found.similarity, cosines.max(axis=1), atol=1e-6)
    means = unit_vectors(np.stack([matrix[found.labels == number].sum(axis=0) for number in range(3)]))
    # Those of the sample alone are up to 1e-5 away.
    assert (1 - (means * found.centers).sum(axis=1)).max() < 1e-6


def test_a_sample_is_so_many_different_vectors_in_their_order() -> None:
    matrix = np.arange(40, dtype=np.float32).reshape(20, 2)
    for most in (1, 7, 19):
        sample = sample_rows(matrix, most, np.random.default_rng(3))
        assert sample.shape == (most, 2)
        assert np.all(np.diff(sample[:, 0]) > 0)
        assert np.isin(sample[:, 0], matrix[:, 0]).all()
    for most in (20, 21):
        assert np.array_equal(sample_rows(matrix, most, np.random.default_rng(3)), matrix)


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_vectors_that_are_all_alike_are_one_cluster(rows: int) -> None:
    assert choose_n_clusters(unit_vectors(np.ones((rows, 5), dtype=np.float32))) == 1


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), min_size=2, max_size=12))
def test_the_silhouette_is_the_mean_over_the_vectors(pairs: list[tuple[int, int]]) -> None:
    drawn, points = np.array(pairs).T
    label = np.unique(drawn, return_inverse=True)[1].astype(np.int64)
    apart = np.abs(points[:, None] - points)
    values = []
    for row, own in enumerate(label):
        means = {
            group: np.mean([apart[row, i] for i in np.flatnonzero(label == group) if i != row] or [np.nan])
            for group in set(label.tolist())
        }
        alone = (label == own).sum() == 1
        a, b = means.pop(int(own)), min(means.values(), default=0.0)
        values.append(0.0 if alone or not means or max(a, b) == 0 else (b - a) / max(a, b))
    wanted = float(np.mean(values))
    assert silhouette(apart.astype(np.float32), label) == pytest.approx(wanted, abs=1e-4)


@settings(deadline=None)
@given(st.lists(st.none() | st.text(max_size=80) | st.sampled_from(["a", "a (2)", "cluster 2"]), max_size=12))
def test_names_are_short_and_each_another(given: list[str | None]) -> None:
    names = unique_names(given)
    assert len(set(names)) == len(names) == len(given)
    assert all(name.strip() and "\n" not in name and len(name) <= NAME_CHARACTERS + 5 for name in names)


def test_clusters_are_named_by_the_model_the_largest_first(tmp_path: Path, talk: pd.DataFrame) -> None:
    generator = NamingGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        before = talk.copy(deep=True)
        out = talk.skytells.cluster("text", n=2, progress=False)
    assert out["cluster"].cat.categories.tolist() == ["Cat", "Stocks"]
    assert out["cluster"].astype(object).where(out["cluster"].notna(), None).tolist() == [
        *["Cat"] * 3,
        None,
        *["Stocks"] * 2,
    ]
    assert out["cluster_score"].isna().tolist() == [False] * 3 + [True] + [False] * 2
    assert out.index.equals(talk.index)
    pd.testing.assert_frame_equal(talk, before)
    assert len(generator.shown) == 2
    animals = next(text for text in generator.shown if "this group:\n- cat" in text)
    others, own = animals.split("Texts of this group:")
    assert all(text in own for text in ANIMALS)
    assert "stocks" in others


def test_the_same_clusters_are_named_for_free_again(tmp_path: Path, talk: pd.DataFrame) -> None:
    generator = NamingGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        first = talk.skytells.cluster("text", n=2, progress=False)
        asked = len(generator.shown)
        again = talk.skytells.cluster("text", n=2, progress=False)
    pd.testing.assert_frame_equal(first, again)
    assert len(generator.shown) == asked
    assert again.skytells.report.requests == 0


def test_the_report_has_the_rows_of_the_frame_and_the_costs_of_both_runs(tmp_path: Path, talk: pd.DataFrame) -> None:
    with served(generator=NamingGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        report = talk.skytells.cluster("text", n=2, progress=False).skytells.report
        sent = [server.stats[endpoint] for endpoint in ("embeddings", "chat")]
    assert (report.operation, report.rows, report.nulls, report.answered) == ("cluster", 6, 1, 5)
    assert len(report.model.split(", ")) == 2
    assert report.requests == sum(counts.requests for counts in sent) == 3
    assert report.tokens_out > 0
    assert talk.skytells.report == report


def test_a_cluster_that_got_no_name_has_a_number_and_a_warning(tmp_path: Path, talk: pd.DataFrame) -> None:
    with served(generator=NamingGenerator(shy=True)) as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.warns(SkytellsWarning, match="The model did not name 1 of 2 clusters"):
            out = talk.skytells.cluster("text", n=2, progress=False)
        with pytest.raises(RowError):
            talk.skytells.cluster("text", n=2, on_error="raise", progress=False)
    assert out["cluster"].cat.categories.tolist() == ["Cat", "bonds, stocks"]


def test_names_that_are_given_twice_give_way_to_words(server: LocalServer, talk: pd.DataFrame) -> None:
    """This server's model names everything "text"."""
    out = talk.skytells.cluster("text", n=2, progress=False)
    assert out["cluster"].cat.categories.tolist() == ["cat, nose, paw", "bonds, stocks"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Cats", True),
        ("Pets: cats and their paws", True),
        ("Python 3.10.1.RELEASE", False),
        ("Aeropan-Aeropan-Aeropan", False),
        ("The basics of the basics of the basics", False),
        ("cat " * 30, False),
        ("Space travel", False),
        ("Cats 2024", False),
        ("", False),
        (None, False),
    ],
)
def test_a_name_that_says_nothing_of_the_texts_gives_way_to_words(given: str | None, kept: bool) -> None:
    """It repeats itself, is cut or missing, or has no word or a number that no text has."""
    names = good_names([given, "Bonds"], [*ANIMALS, *MONEY], np.array([0, 0, 0, 1, 1]))
    assert names == [given if kept else "cat, nose, paw", "Bonds"]


def test_words_are_names_without_a_request(server: LocalServer, talk: pd.DataFrame) -> None:
    """With a column of embeddings nothing is sent, and the same words come from texts."""
    vectors = talk.skytells.embed("text", progress=False)
    sent = len(server.stats.records)
    out = vectors.skytells.cluster(n=2, name="words")
    assert len(server.stats.records) == sent
    assert out["cluster"].cat.categories.tolist() == ["cat, nose, paw", "bonds, stocks"]
    again = talk.skytells.cluster("text", n=2, name="words", progress=False)
    assert again["cluster"].tolist()[:3] == out["cluster"].tolist()[:3]
    none = talk.skytells.cluster("text", n=2, name=None, progress=False)
    assert none["cluster"].cat.categories.tolist() == [0, 1]


def test_rows_of_tomorrow_get_the_clusters_of_today(server: LocalServer, talk: pd.DataFrame) -> None:
    """The categories are those of the earlier frame, also one that no row has; nothing is named."""
    earlier = talk.skytells.cluster("text", n=2, name="words", progress=False)
    asked = server.stats["chat"].requests
    new = pd.DataFrame({"text": ["stocks bonds", None, "stocks now"]}, index=[7, 8, 9])
    out = new.skytells.cluster("text", like=earlier, progress=False)
    assert out["cluster"].dtype == earlier["cluster"].dtype
    assert out["cluster"].tolist()[::2] == ["bonds, stocks"] * 2
    assert out["cluster"].isna().tolist() == [False, True, False]
    assert server.stats["chat"].requests == asked
    same = talk.skytells.cluster("text", like=earlier, progress=False)
    pd.testing.assert_series_equal(same["cluster"], earlier["cluster"])
    np.testing.assert_allclose(same["cluster_score"], earlier["cluster_score"], atol=1e-5)
    embedded = earlier.skytells.embed("text", progress=False)
    vectors = new.skytells.embed("text", progress=False).skytells.cluster(like=embedded)
    assert vectors["cluster"].equals(out["cluster"])


def test_embeddings_are_named_from_the_column_of_texts(tmp_path: Path, talk: pd.DataFrame) -> None:
    with served(generator=NamingGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        vectors = talk.skytells.embed("text", progress=False)
        out = vectors.skytells.cluster(n=2, progress=False)
        named = vectors.assign(other="x").skytells.cluster(n=2, text="text", progress=False)
    assert out["cluster"].cat.categories.tolist() == ["Cat", "Stocks"]
    assert named["cluster"].equals(out["cluster"])


def test_clusters_without_names_ask_no_model_and_need_no_key() -> None:
    frame = pd.DataFrame({"embedding": [*blobs(3)]})
    out = frame.skytells.cluster(name=False)
    assert out["cluster"].cat.categories.tolist() == [0, 1, 2]
    assert out["cluster"].value_counts().tolist() == [30, 30, 30]
    assert out["cluster_score"].dtype == np.float32


def test_rows_whose_embedding_has_no_direction_are_in_no_cluster() -> None:
    frame = pd.DataFrame({"embedding": [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]})
    out = frame.skytells.cluster(n=2, name=False)
    assert out["cluster"].isna().tolist() == [True, False, False]


@pytest.mark.parametrize("cells", [[], [None, None], [[0.0, 0.0]]])
def test_nothing_to_cluster_is_an_empty_column(cells: list[Any]) -> None:
    frame = pd.DataFrame({"embedding": pd.Series(cells, dtype=object), "text": pd.Series(["t"] * len(cells))})
    out = frame.skytells.cluster()
    assert isinstance(out["cluster"].dtype, pd.CategoricalDtype)
    assert out["cluster"].isna().all()
    assert out["cluster_score"].dtype == np.float32
    assert out.skytells.topics(text="text").columns.tolist() == ["name", "size", "share", "examples"]


def test_topics_show_size_share_and_the_texts_nearest_to_the_centre(server: LocalServer, talk: pd.DataFrame) -> None:
    out = talk.skytells.cluster("text", n=2, name=False, progress=False)
    table = out.skytells.topics(examples=2)
    assert table["name"].tolist() == [0, 1]
    assert table["size"].tolist() == [3, 2]
    assert table["share"].tolist() == pytest.approx([0.6, 0.4])
    best = out[out["cluster"] == 0].sort_values("cluster_score", ascending=False, kind="stable")["text"]
    assert table["examples"][0] == best.tolist()[:2]


def test_topics_of_some_rows_leave_empty_clusters_out(server: LocalServer, talk: pd.DataFrame) -> None:
    out = talk.skytells.cluster("text", n=2, name=False, progress=False)
    table = out.loc[["d", "e", "f"]].skytells.topics()
    assert (table["name"].tolist(), table["size"].tolist()) == ([1], [2])


def test_clusters_of_columns_with_several_levels(server: LocalServer) -> None:
    frame = pd.DataFrame({("t", "x"): ["a a", "b b", "a a"], ("t", "n"): [1, 2, 3]}, index=[0, 0, 0])
    out = frame.skytells.cluster(("t", "x"), n=2, name=False, progress=False)
    assert out[("cluster", "")].tolist() == [0, 1, 0]
    assert out.skytells.topics()["examples"].tolist() == [["a a"], ["b b"]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.skytells.cluster("text", n=0), "n must be a positive integer, got 0"),
        (lambda d: d.skytells.cluster("text", n=2.0), "n must be a positive integer, got 2.0"),
        (
            lambda d: d.skytells.cluster("text", n=6),
            "n must be at most the number of rows of 'text' that are not missing, 5, got 6",
        ),
        (lambda d: d.skytells.cluster("n"), "must hold texts or embeddings, got int64"),
        (lambda d: d.skytells.cluster("text", name="text"), 'name must be "model", "words", None, True or False'),
        (lambda d: d.skytells.cluster("text", name="words", temperature=1), "name='words' asks none"),
        (lambda d: d.skytells.cluster("text", like=d), "no column 'cluster'"),
        (lambda d: d.skytells.cluster("text", like="x"), "like must be a DataFrame that cluster.. returned, got str"),
        (lambda d: d.skytells.cluster("text", like=d.assign(cluster="x")), "must hold the categories"),
        (lambda d: d.skytells.cluster("text", 2, like=d), "Leave out n="),
        (lambda d: d.skytells.cluster("text", into="text"), "would replace"),
        (lambda d: d.assign(v=[[1.0]] * 6, u="x").skytells.cluster("v"), "name it with text=.*: 'text', 'u'"),
        (lambda d: d.assign(v=[[1.0]] * 6).skytells.cluster("v", text="n"), "must hold text, got int64"),
        (lambda d: d.skytells.topics(), "no column 'cluster'"),
        (lambda d: d.assign(cluster="x", cluster_score=1.0).skytells.topics(), "must hold the categories"),
        (lambda d: d.skytells.topics(examples=0), "examples must be a positive integer"),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(
    server: LocalServer, talk: pd.DataFrame, call: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        call(talk)
    assert not server.stats.records
