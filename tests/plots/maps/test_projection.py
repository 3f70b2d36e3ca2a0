"""The projection: the policy by number of rows, repeatable and cached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.maps.projection import ON_DISK, Projection, project, store_cached
from skytells_nb.vectors.neighbors import nearest_by_distance, place
from skytells_nb.vectors.pca import principal_axes

Floats = NDArray[np.float32]


def clusters(n: int, d: int = 24, k: int = 4, seed: int = 0) -> tuple[Floats, NDArray[np.intp]]:
    """Vectors around ``k`` far centres, and the centre of each."""
    random = np.random.default_rng(seed)
    label = np.arange(n) % k
    return (random.normal(size=(k, d))[label] * 4 + random.normal(size=(n, d))).astype(np.float32), label


def test_pca_gives_the_principal_components() -> None:
    """Coordinates and variance shares are those of a singular value decomposition, for tall and for wide matrices."""
    for shape in ((200, 12), (12, 200)):
        matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        axes = principal_axes(matrix, 3)
        points, shares = axes.coordinates(matrix), axes.shares
        centred = matrix - matrix.mean(axis=0)
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(np.abs(points), np.abs(left * values)[:, :3], atol=2e-3)
        np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:3], atol=1e-4)


def test_the_sign_of_a_component_is_fixed() -> None:
    """The largest loading is positive: the coordinate grows with the feature that weighs most."""
    matrix = np.zeros((20, 5), dtype=np.float32)
    matrix[:, 3] = np.arange(20)
    points = principal_axes(matrix, 1).coordinates(matrix)
    assert np.all(np.diff(points[:, 0]) > 0)
    reversed_points = principal_axes(matrix[::-1].copy(), 1).coordinates(matrix[::-1])
    np.testing.assert_allclose(reversed_points[::-1], points, atol=1e-4)


@given(arrays(np.float32, st.tuples(st.integers(0, 8), st.integers(1, 6)), elements=st.floats(-5, 5, width=32)))
def test_any_matrix_has_finite_points(matrix: Floats) -> None:
    """No vectors, one vector, vectors of zeros, equal vectors: always one finite point each."""
    for metric in ("cosine", "euclidean"):
        points = project(matrix, method="pca", metric=metric).points
        assert points.shape == (len(matrix), 2)
        assert np.isfinite(points).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_below_four_vectors_umap_gives_way_to_pca(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP is not even loaded, and the words say so."""
    monkeypatch.setitem(sys.modules, "umap", None)
    vectors = clusters(4, seed=67)[0]
    with pytest.raises(ImportError):
        project(vectors, method="umap")
    found = project(vectors[:n], method="umap")
    assert found.method == "pca"
    assert found.how.endswith("all vectors are equal" if n == 1 else "(UMAP needs 4 different vectors)")
    np.testing.assert_array_equal(found.points, project(vectors[:n], method="pca").points)


def test_vectors_that_are_all_equal_share_one_point() -> None:
    """Fifty equal vectors are one different vector: one point, no UMAP."""
    found = project(np.ones((50, 8), dtype=np.float32))
    assert not found.points.any()
    assert found.how == "all vectors are equal"


def test_cosine_distance_ignores_length() -> None:
    """A vector and its double lie on one point under cosine, and apart under Euclidean distance."""
    matrix = clusters(20)[0]
    both = np.vstack([matrix, 2 * matrix])
    cosine = project(both, method="pca").points
    np.testing.assert_allclose(cosine[:20], cosine[20:], atol=1e-4)
    euclidean = project(both, method="pca", metric="euclidean").points
    assert not np.allclose(euclidean[:20], euclidean[20:], atol=1e-1)


def test_the_same_question_is_answered_from_memory() -> None:
    """The second projection of equal content is the first one, whatever array holds it; other parameters are not."""
    matrix = clusters(30)[0]
    first = project(matrix, method="pca")
    assert project(matrix.copy(), method="pca") is first
    assert project(matrix, method="pca", metric="euclidean") is not first
    assert not first.points.flags.writeable


def test_memory_of_projections_does_not_hold_the_vectors() -> None:
    """What is kept owns its few bytes."""
    points = project(clusters(40)[0], method="pca").points
    assert points.base is None or points.base.nbytes <= points.nbytes


@pytest.mark.parametrize("shape", [(1, 3), (7, 2), (400, 30)])
def test_nearest_vectors_are_those_of_all_distances(shape: tuple[int, int]) -> None:
    """In order of distance, each vector first among its own, whatever the number asked for."""
    matrix = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    every = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    places, apart = nearest_by_distance(matrix, matrix, 5, own=True)
    np.testing.assert_array_equal(places, np.argsort(every, axis=1)[:, :5])
    np.testing.assert_allclose(apart, np.sort(every, axis=1)[:, :5], atol=1e-5)


def test_a_vector_is_its_own_nearest_among_equal_ones() -> None:
    """More equal vectors than neighbours asked for: UMAP counts on finding each row in its own list."""
    places, apart = nearest_by_distance(np.ones((40, 3), np.float32), np.ones((40, 3), np.float32), 4, own=True)
    np.testing.assert_array_equal(places[:, 0], np.arange(40))
    assert not apart.any()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rows_of_the_basis_stay_where_they_were(metric: Any) -> None:
    """New vectors are put on the axes of the basis; its own vectors keep their points, in whatever order they come."""
    matrix = clusters(60)[0]
    basis, new = matrix[:40], matrix[40:]
    alone = project(basis, method="pca", metric=metric)
    both = project(np.vstack([new, basis[::-1]]), method="pca", metric=metric, basis=basis)
    np.testing.assert_array_equal(both.points[20:], alone.points[::-1])
    assert "laid out on 40 rows, 20 placed among them" in both.how
    again = project(np.vstack([basis, basis[:1] * 2]), method="pca", basis=basis).points
    np.testing.assert_allclose(again[-1], again[0], atol=1e-4)


def test_three_dimensions_are_the_first_three_axes() -> None:
    """The first two of them are the flat map."""
    matrix = clusters(50)[0]
    space = project(matrix, method="pca", dimensions=3).points
    assert space.shape == (50, 3)
    np.testing.assert_allclose(space[:, :2], project(matrix, method="pca").points, atol=1e-5)


def test_a_basis_of_other_vectors_is_refused() -> None:
    """The error gives both numbers of dimensions; an empty basis has nothing to place among."""
    with pytest.raises(InputError, match="have 24 dimensions and those of basis= have 8"):
        project(clusters(5)[0], basis=clusters(5, d=8)[0])
    with pytest.raises(InputError, match="holds no vector"):
        project(clusters(5)[0], basis=clusters(5)[0][:0])


RECALL = (
    "from skytells_nb.plots.maps.projection import load_cached; found = recall('a1');"
    "print(found and (found.how, found.points.sum()))"
)


def recalled(**environment: str) -> str:
    """What another process finds under a key."""
    ours = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", RECALL], env=ours, capture_output=True, text=True, check=True)
    return done.stdout.strip() + done.stderr.strip()


def test_the_next_process_finds_a_layout_on_disk(tmp_path: Path) -> None:
    """Points and words; with the cache off nothing is looked for."""
    kept = Projection(np.ones((3, 2), np.float32), "umap", "UMAP of three")
    store_cached("a1", kept)
    assert "UMAP of three" in recalled()
    assert recalled(SKYTELLS_CACHE="off") == "None"
    (file,) = Path(os.environ["SKYTELLS_CACHE_DIR"]).glob("maps/*")
    assert file.name == "a1.npz"


@pytest.mark.parametrize("damage", [b"", b"PK no archive", None], ids=["empty", "other bytes", "cut"])
def test_a_damaged_layout_is_made_again(damage: bytes | None) -> None:
    """It is reported and not found, whatever happened to the file."""
    store_cached("a1", Projection(np.ones((300, 2), np.float32), "umap", "UMAP"))
    file = Path(os.environ["SKYTELLS_CACHE_DIR"]) / "maps" / "a1.npz"
    file.write_bytes(file.read_bytes()[:900] if damage is None else damage)
    said = recalled()
    assert said.startswith("None")
    assert "cannot be read and is made again" in said


def test_the_oldest_layouts_leave() -> None:
    """The folder holds a limited number of them, those that were used last."""
    folder = Path(os.environ["SKYTELLS_CACHE_DIR"]) / "maps"
    for at in range(ON_DISK + 3):
        store_cached(f"b{at}", Projection(np.ones((1, 2), np.float32), "umap", "UMAP"))
        os.utime(folder / f"b{at}.npz", (at, at))
    store_cached("last", Projection(np.ones((1, 2), np.float32), "umap", "UMAP"))
    left = {path.stem for path in folder.iterdir()}
    assert len(left) == ON_DISK
    assert "last" in left
    assert "b0" not in left


def test_placed_rows_lie_at_their_neighbours() -> None:
    """A vector equal to a known one gets its point; one between two known ones lies between their points."""
    known = np.eye(6, dtype=np.float32)
    points = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_allclose(place(known, known, points, k=3), points, atol=1e-2)
    between = ((known[0] + known[1]) / 2)[None]
    np.testing.assert_allclose(place(between, known, points, k=2)[0], (points[0] + points[1]) / 2, atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        ({"method": "tsne"}, '"umap" or "pca", not \'tsne\''),
        ({"metric": "hamming"}, "hamming"),
        ({"n_neighbors": 1}, "at least 2"),
        ({"min_dist": 3.0}, "between 0 and 1"),
    ],
)
def test_wrong_parameters_are_refused(wrong: dict[str, Any], found: str) -> None:
    """Before any work is done."""
    with pytest.raises(InputError, match=found):
        project(clusters(10)[0], **wrong)


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("n", [4, 5, 10, 49, 300])
def test_umap_draws_small_and_middling_sets_without_warnings(n: int, recwarn: pytest.WarningsRecorder) -> None:
    """From four vectors on there is a map; the number of neighbours follows the number of rows."""
    found = project(clusters(n)[0])
    assert found.method == "umap"
    assert np.isfinite(found.points).all()
    assert f"{min(15, n - 1)} neighbours" in found.how
    assert [str(w.message) for w in recwarn if "umap" in str(w.message).lower() + w.filename] == []


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_new_rows_are_placed_in_their_clusters_and_move_nothing(dimensions: Any) -> None:
    """Rows left out of a UMAP layout land at the nearest centre of their own group."""
    matrix, label = clusters(260)
    old, new = slice(0, 200), slice(200, 260)
    alone = project(matrix[old], dimensions=dimensions).points
    both = project(matrix, dimensions=dimensions, basis=matrix[old]).points
    np.testing.assert_array_equal(both[old], alone)
    centres = np.stack([np.median(alone[label[old] == k], axis=0) for k in range(4)])
    landed = np.linalg.norm(both[new][:, None] - centres, axis=2).argmin(axis=1)
    assert (landed == label[new]).mean() > 0.95


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fit_tells_its_stages_in_order_to_the_last_epoch() -> None:
    """Neighbours by row and epochs by number; a map that is known tells nothing."""
    told: list[tuple[str, int, int]] = []
    matrix = clusters(120, seed=9)[0]
    project(matrix, tell=lambda *stage: told.append(stage))
    stages = list(dict.fromkeys(stage for stage, _, _ in told if stage != "loading UMAP"))
    assert stages == ["finding neighbours", "compiling", "laying out"]
    epochs = [(done, total) for stage, done, total in told if stage == "laying out"]
    assert epochs == [(at, len(epochs)) for at in range(len(epochs))]
    told.clear()
    project(matrix, tell=lambda *stage: told.append(stage))
    assert told == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_map_on_disk_is_drawn_without_umap() -> None:
    """The second process loads neither UMAP nor numba."""
    code = (
        "import sys, numpy as np; from skytells_nb.plots.maps.projection import project;"
        "print(float(project(np.eye(60, dtype=np.float32)).points.sum()), 'umap' in sys.modules)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200).stdout
        for _ in range(2)
    )
    assert first.replace("True", "False") == second


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_umap_keeps_clusters_together_and_repeats_itself(tmp_path: Path) -> None:
    """Nearest points share a cluster, equal vectors share a point, and one seed gives one map in every process."""
    matrix, label = clusters(200)
    matrix[4] = matrix[0]
    points = project(matrix).points
    apart = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(len(points)) * 1e9
    assert (label[apart.argmin(axis=1)] == label).mean() > 0.98
    np.testing.assert_array_equal(points[4], points[0])
    np.save(tmp_path / "matrix.npy", matrix)
    code = (
        "import numpy as np; from skytells_nb.plots.maps.projection import project;"
        "np.save('points.npy', project(np.load('matrix.npy')).points)"
    )
    ours = {**os.environ, "SKYTELLS_CACHE": "off"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=ours, check=True, timeout=200)
    np.testing.assert_array_equal(np.load(tmp_path / "points.npy"), points)


@pytest.mark.parametrize(("variable", "kept"), [("XDG_CACHE_HOME", "skytells-nb"), ("NUMBA_CACHE_DIR", "")])
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG_CACHE_HOME is not read there")
def test_compiled_code_goes_to_the_cache_directory_of_the_user(tmp_path: Path, variable: str, kept: str) -> None:
    """Where NUMBA_CACHE_DIR is not set, it is set before numba loads; where it is, it stays."""
    code = (
        "import os, sys; from skytells_nb.plots.maps.umap_layout import keep_compiled_code; keep_compiled_code();"
        "assert 'numba' not in sys.modules; print(os.environ['NUMBA_CACHE_DIR'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {variable: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(tmp_path / kept / "numba" if kept else tmp_path)


def test_where_a_row_is_placed_does_not_depend_on_those_that_come_with_it() -> None:
    """Alone, in another order or beside rows from elsewhere: the same point, so that maps of parts agree."""
    known, new = clusters(300)[0], np.vstack([clusters(40, seed=1)[0], 9 * clusters(9, seed=2)[0]])
    points = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    together = place(new, known, points)
    np.testing.assert_allclose(place(new[::-1], known, points)[::-1], together, atol=1e-5)
    np.testing.assert_allclose(np.vstack([place(row[None], known, points) for row in new]), together, atol=1e-5)
