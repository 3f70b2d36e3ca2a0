"""Projections: the method by number of rows, reproducibility and the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from skytells_nb.errors import InputError
from skytells_nb.plots.maps.projection import MAX_ON_DISK, Projection, project, store_cached
from skytells_nb.plots.maps.umap_layout import without_umap_warnings
from skytells_nb.vectors.neighbors import interpolate_points, nearest_by_distance
from skytells_nb.vectors.pca import principal_axes

Floats = NDArray[np.float32]


def clusters(n: int, d: int = 24, k: int = 4, seed: int = 0) -> tuple[Floats, NDArray[np.intp]]:
    """Vectors around ``k`` distant centers, and the center of each."""
    random = np.random.default_rng(seed)
    label = np.arange(n) % k
    return (random.normal(size=(k, d))[label] * 4 + random.normal(size=(n, d))).astype(np.float32), label


def test_pca_computes_the_principal_components() -> None:
    """Coordinates and variance shares are those of a singular value decomposition, for tall and for wide matrices."""
    for shape in ((200, 12), (12, 200)):
        matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        axes = principal_axes(matrix, 3)
        points, shares = axes.coordinates(matrix), axes.shares
        centered = matrix - matrix.mean(axis=0)
        left, values, _ = np.linalg.svd(centered, full_matrices=False)
        np.testing.assert_allclose(np.abs(points), np.abs(left * values)[:, :3], atol=2e-3)
        np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:3], atol=1e-4)


def test_the_sign_of_a_component_is_fixed() -> None:
    """The largest loading is positive: the coordinate increases with the feature of the largest weight."""
    matrix = np.zeros((20, 5), dtype=np.float32)
    matrix[:, 3] = np.arange(20)
    points = principal_axes(matrix, 1).coordinates(matrix)
    assert np.all(np.diff(points[:, 0]) > 0)
    reversed_points = principal_axes(matrix[::-1].copy(), 1).coordinates(matrix[::-1])
    np.testing.assert_allclose(reversed_points[::-1], points, atol=1e-4)


@given(arrays(np.float32, st.tuples(st.integers(0, 8), st.integers(1, 6)), elements=st.floats(-5, 5, width=32)))
def test_any_matrix_has_finite_points(matrix: Floats) -> None:
    """Also without vectors, with one vector, with zeros and with equal vectors."""
    for metric in ("cosine", "euclidean"):
        points = project(matrix, method="pca", metric=metric).points
        assert points.shape == (len(matrix), 2)
        assert np.isfinite(points).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_below_four_vectors_pca_replaces_umap(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """UMAP is not imported, and the description says so."""
    monkeypatch.setitem(sys.modules, "umap", None)
    vectors = clusters(4, seed=67)[0]
    with pytest.raises(ImportError):
        project(vectors, method="umap")
    projection = project(vectors[:n], method="umap")
    assert projection.method == "pca"
    assert projection.description.endswith("all vectors are equal" if n == 1 else "(UMAP needs 4 distinct vectors)")
    np.testing.assert_array_equal(projection.points, project(vectors[:n], method="pca").points)


def test_vectors_that_are_all_equal_share_one_point() -> None:
    """Fifty equal vectors are one distinct vector: one point, without UMAP."""
    projection = project(np.ones((50, 8), dtype=np.float32))
    assert not projection.points.any()
    assert projection.description == "all vectors are equal"


def test_cosine_distance_ignores_length() -> None:
    """A vector and its double share a point for cosine, but not for Euclidean distance."""
    matrix = clusters(20)[0]
    both = np.vstack([matrix, 2 * matrix])
    cosine = project(both, method="pca").points
    np.testing.assert_allclose(cosine[:20], cosine[20:], atol=1e-4)
    euclidean = project(both, method="pca", metric="euclidean").points
    assert not np.allclose(euclidean[:20], euclidean[20:], atol=1e-1)


def test_equal_projections_are_cached_in_memory() -> None:
    """Equal vectors in another array give the same object; other parameters do not."""
    matrix = clusters(30)[0]
    first = project(matrix, method="pca")
    assert project(matrix.copy(), method="pca") is first
    assert project(matrix, method="pca", metric="euclidean") is not first
    assert not first.points.flags.writeable


def test_cached_projections_do_not_hold_the_vectors() -> None:
    """The cached array owns its memory."""
    points = project(clusters(40)[0], method="pca").points
    assert points.base is None or points.base.nbytes <= points.nbytes


@pytest.mark.parametrize("shape", [(1, 3), (7, 2), (400, 30)])
def test_nearest_vectors_are_those_of_all_distances(shape: tuple[int, int]) -> None:
    """They are ordered by distance, and each vector is its own first neighbor."""
    matrix = np.random.default_rng(3).normal(size=shape).astype(np.float32)
    all_distances = np.linalg.norm(matrix[:, None] - matrix[None], axis=2)
    places, distances = nearest_by_distance(matrix, matrix, 5, self_first=True)
    np.testing.assert_array_equal(places, np.argsort(all_distances, axis=1)[:, :5])
    np.testing.assert_allclose(distances, np.sort(all_distances, axis=1)[:, :5], atol=1e-5)


def test_a_vector_is_its_own_nearest_among_equal_ones() -> None:
    """With more equal vectors than requested neighbors, because UMAP needs each row in its own list."""
    places, distances = nearest_by_distance(
        np.ones((40, 3), np.float32), np.ones((40, 3), np.float32), 4, self_first=True
    )
    np.testing.assert_array_equal(places[:, 0], np.arange(40))
    assert not distances.any()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_rows_of_the_basis_stay_where_they_were(metric: Any) -> None:
    """New vectors are placed on the axes of the basis; its own vectors keep their points in any order."""
    matrix = clusters(60)[0]
    basis, new = matrix[:40], matrix[40:]
    alone = project(basis, method="pca", metric=metric)
    both = project(np.vstack([new, basis[::-1]]), method="pca", metric=metric, basis=basis)
    np.testing.assert_array_equal(both.points[20:], alone.points[::-1])
    assert "laid out on 40 rows, 20 placed among them" in both.description
    again = project(np.vstack([basis, basis[:1] * 2]), method="pca", basis=basis).points
    np.testing.assert_allclose(again[-1], again[0], atol=1e-4)


def test_three_dimensions_are_the_first_three_axes() -> None:
    """The first two of them are the map in 2D."""
    matrix = clusters(50)[0]
    space = project(matrix, method="pca", dimensions=3).points
    assert space.shape == (50, 3)
    np.testing.assert_allclose(space[:, :2], project(matrix, method="pca").points, atol=1e-5)


def test_a_basis_with_other_dimensions_raises() -> None:
    """The error names both dimensions; an empty basis raises as well."""
    with pytest.raises(InputError, match="have 24 dimensions, but those of basis= have 8"):
        project(clusters(5)[0], basis=clusters(5, d=8)[0])
    with pytest.raises(InputError, match="has no vectors"):
        project(clusters(5)[0], basis=clusters(5)[0][:0])


LOAD = (
    "from skytells_nb.plots.maps.projection import load_cached; found = load_cached('a1');"
    "print(found and (found.description, found.points.sum()))"
)


def loaded_elsewhere(**environment: str) -> str:
    """What another process loads from the cache."""
    variables = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", LOAD], env=variables, capture_output=True, text=True, check=True)
    return done.stdout.strip() + done.stderr.strip()


def test_the_next_process_finds_a_layout_on_disk(tmp_path: Path) -> None:
    """Points and description; not with the cache off."""
    projection = Projection(np.ones((3, 2), np.float32), "umap", "UMAP of three")
    store_cached("a1", projection)
    assert "UMAP of three" in loaded_elsewhere()
    assert loaded_elsewhere(SKYTELLS_CACHE="off") == "None"
    (file,) = Path(os.environ["SKYTELLS_CACHE_DIR"]).glob("maps/*")
    assert file.name == "a1.npz"


@pytest.mark.parametrize("damage", [b"", b"PK not an archive", None], ids=["empty", "other bytes", "cut"])
def test_a_damaged_layout_is_computed_again(damage: bytes | None) -> None:
    """Any damage of the file is reported and counts as not found."""
    store_cached("a1", Projection(np.ones((300, 2), np.float32), "umap", "UMAP"))
    file = Path(os.environ["SKYTELLS_CACHE_DIR"]) / "maps" / "a1.npz"
    file.write_bytes(file.read_bytes()[:900] if damage is None else damage)
    output = loaded_elsewhere()
    assert output.startswith("None")
    assert "cannot be read and is computed again" in output


def test_the_oldest_layouts_are_deleted() -> None:
    """The folder keeps a limited number, those that were used last."""
    folder = Path(os.environ["SKYTELLS_CACHE_DIR"]) / "maps"
    for number in range(MAX_ON_DISK + 3):
        store_cached(f"b{number}", Projection(np.ones((1, 2), np.float32), "umap", "UMAP"))
        os.utime(folder / f"b{number}.npz", (number, number))
    store_cached("last", Projection(np.ones((1, 2), np.float32), "umap", "UMAP"))
    left = {path.stem for path in folder.iterdir()}
    assert len(left) == MAX_ON_DISK
    assert "last" in left
    assert "b0" not in left


def test_placed_rows_are_near_their_neighbors() -> None:
    """A vector equal to a known one gets its point; one between two vectors lies between their points."""
    known = np.eye(6, dtype=np.float32)
    points = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_allclose(interpolate_points(known, known, points, k=3), points, atol=1e-2)
    between = ((known[0] + known[1]) / 2)[None]
    np.testing.assert_allclose(
        interpolate_points(between, known, points, k=2)[0], (points[0] + points[1]) / 2, atol=1e-3
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "tsne"}, '"umap" or "pca", got \'tsne\''),
        ({"metric": "hamming"}, "hamming"),
        ({"n_neighbors": 1}, "at least 2"),
        ({"min_dist": 3.0}, "between 0 and 1"),
    ],
)
def test_invalid_parameters_raise(options: dict[str, Any], message: str) -> None:
    """Before anything is computed."""
    with pytest.raises(InputError, match=message):
        project(clusters(10)[0], **options)


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("n", [4, 5, 10, 49, 300])
def test_umap_lays_out_small_sets_without_warnings(n: int, recwarn: pytest.WarningsRecorder) -> None:
    """Four vectors suffice; the number of neighbors is limited by the number of rows."""
    projection = project(clusters(n)[0])
    assert projection.method == "umap"
    assert np.isfinite(projection.points).all()
    assert f"{min(15, n - 1)} neighbors" in projection.description
    assert [str(w.message) for w in recwarn if "umap" in str(w.message).lower() + w.filename] == []


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_new_rows_are_placed_in_their_clusters_and_move_nothing(dimensions: Any) -> None:
    """Rows that are not in a UMAP layout are placed near the center of their group."""
    matrix, label = clusters(260)
    old, new = slice(0, 200), slice(200, 260)
    alone = project(matrix[old], dimensions=dimensions).points
    both = project(matrix, dimensions=dimensions, basis=matrix[old]).points
    np.testing.assert_array_equal(both[old], alone)
    centers = np.stack([np.median(alone[label[old] == k], axis=0) for k in range(4)])
    landed = np.linalg.norm(both[new][:, None] - centers, axis=2).argmin(axis=1)
    assert (landed == label[new]).mean() > 0.95


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_layout_reports_its_stages_in_order() -> None:
    """Up to the last epoch; a cached map reports nothing."""
    calls: list[tuple[str, int, int]] = []
    matrix = clusters(120, seed=9)[0]
    project(matrix, on_progress=lambda *stage: calls.append(stage))
    stages = list(dict.fromkeys(stage for stage, _, _ in calls if stage != "loading UMAP"))
    assert stages == ["finding neighbors", "compiling", "laying out"]
    epochs = [(done, total) for stage, done, total in calls if stage == "laying out"]
    assert epochs == [(at, len(epochs)) for at in range(len(epochs))]
    calls.clear()
    project(matrix, on_progress=lambda *stage: calls.append(stage))
    assert calls == []


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_map_on_disk_is_drawn_without_umap() -> None:
    """The second process does not import UMAP."""
    code = (
        "import sys, numpy as np; from skytells_nb.plots.maps.projection import project;"
        "print(float(project(np.eye(60, dtype=np.float32)).points.sum()), 'umap' in sys.modules)"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=280).stdout
        for _ in range(2)
    )
    assert first.replace("True", "False") == second


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_umap_keeps_clusters_together_and_is_reproducible(tmp_path: Path) -> None:
    """Nearest points share a cluster, equal vectors share a point, and a seed gives the same map in every process."""
    matrix, label = clusters(200)
    matrix[4] = matrix[0]
    points = project(matrix).points
    distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(len(points)) * 1e9
    assert (label[distances.argmin(axis=1)] == label).mean() > 0.98
    np.testing.assert_array_equal(points[4], points[0])
    np.save(tmp_path / "matrix.npy", matrix)
    code = (
        "import numpy as np; from skytells_nb.plots.maps.projection import project;"
        "np.save('points.npy', project(np.load('matrix.npy')).points)"
    )
    environment = {**os.environ, "SKYTELLS_CACHE": "off"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=280)
    np.testing.assert_array_equal(np.load(tmp_path / "points.npy"), points)


@pytest.mark.parametrize(("variable", "folder"), [("XDG_CACHE_HOME", "skytells-nb"), ("NUMBA_CACHE_DIR", "")])
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG_CACHE_HOME is not read there")
def test_compiled_code_goes_to_the_cache_directory_of_the_user(tmp_path: Path, variable: str, folder: str) -> None:
    """NUMBA_CACHE_DIR is set before numba is imported, unless the user set it."""
    code = (
        "import os, sys; from skytells_nb.plots.maps.umap_layout import set_numba_cache_dir; set_numba_cache_dir();"
        "assert 'numba' not in sys.modules; print(os.environ['NUMBA_CACHE_DIR'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {variable: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(tmp_path / folder / "numba" if folder else tmp_path)


def test_a_function_that_cannot_be_cached_is_no_warning() -> None:
    """Numba tells it of UMAP's search for neighbors with the name of its file; other warnings are shown."""
    message = 'Cannot cache compiled function "nn_descent" as it uses dynamic globals'
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        with without_umap_warnings():
            warnings.warn_explicit(message, UserWarning, "/lib/pynndescent/pynndescent_.py", 424)
            warnings.warn_explicit("something else", UserWarning, "/lib/other.py", 1)
    assert [str(warning.message) for warning in shown] == ["something else"]


COMPILE_AND_COUNT = """
import json, numpy as np
from numba.core import event
from skytells_nb.plots.maps.umap_layout import compile_umap, umap_points

compile_umap()
import umap  # some of its functions are compiled when they are imported, whatever the cache
compiled = []
class Listener(event.Listener):
    def on_start(self, event):
        compiled.append(event.data["dispatcher"].py_func.__module__)
    def on_end(self, event):
        pass
event.register("numba:compile", Listener())
matrix = np.random.default_rng(1).normal(size=(900, 24)).astype(np.float32)
points = umap_points(
    matrix, dimensions=2, n_neighbors=15, min_dist=0.1, seed=42, on_progress=lambda stage, done, total: None
)
print(json.dumps({"compiled": compiled, "points": points.tolist()}))
"""


@pytest.mark.slow
@pytest.mark.xdist_group("umap")
@pytest.mark.timeout(600)
def test_umap_is_compiled_once_for_all_processes() -> None:
    """The second process compiles none of its functions, and has the same points."""
    first, second = (
        json.loads(
            subprocess.run(
                [sys.executable, "-c", COMPILE_AND_COUNT], capture_output=True, text=True, check=True, timeout=280
            ).stdout
        )
        for _ in range(2)
    )
    assert [name for name in second["compiled"] if name.startswith(("umap", "pynndescent"))] == []
    assert second["points"] == first["points"]


def test_the_place_of_a_row_does_not_depend_on_other_new_rows() -> None:
    """Alone, in another order or with distant rows: the same point, so that maps of parts agree."""
    known, new = clusters(300)[0], np.vstack([clusters(40, seed=1)[0], 9 * clusters(9, seed=2)[0]])
    points = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    together = interpolate_points(new, known, points)
    np.testing.assert_allclose(interpolate_points(new[::-1], known, points)[::-1], together, atol=1e-5)
    np.testing.assert_allclose(
        np.vstack([interpolate_points(row[None], known, points) for row in new]), together, atol=1e-5
    )
