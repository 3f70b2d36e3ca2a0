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
from skytells_nb.plots.project import pca, place, project

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
        points, shares = pca(matrix, 3)
        centred = matrix - matrix.mean(axis=0)
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        np.testing.assert_allclose(np.abs(points), np.abs(left * values)[:, :3], atol=2e-3)
        np.testing.assert_allclose(shares, (values**2 / (values**2).sum())[:3], atol=1e-4)


def test_the_sign_of_a_component_is_fixed() -> None:
    """The largest loading is positive: the coordinate grows with the feature that weighs most."""
    matrix = np.zeros((20, 5), dtype=np.float32)
    matrix[:, 3] = np.arange(20)
    points, _ = pca(matrix, 1)
    assert np.all(np.diff(points[:, 0]) > 0)
    reversed_points, _ = pca(matrix[::-1].copy(), 1)
    np.testing.assert_allclose(reversed_points[::-1], points, atol=1e-4)


@given(arrays(np.float32, st.tuples(st.integers(0, 8), st.integers(1, 6)), elements=st.floats(-5, 5, width=32)))
def test_any_matrix_has_finite_points(matrix: Floats) -> None:
    """No vectors, one vector, vectors of zeros, equal vectors: always one finite point each."""
    for metric in ("cosine", "euclidean"):
        points = project(matrix, method="pca", metric=metric).points
        assert points.shape == (len(matrix), 2)
        assert np.isfinite(points).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_below_four_vectors_umap_gives_way_to_pca(n: int) -> None:
    """UMAP is not even loaded, and the words say so."""
    found = project(clusters(n)[0], method="umap")
    assert found.method == "pca"
    assert "UMAP needs 4" in found.how or "equal" in found.how


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
        "import numpy as np; from skytells_nb.plots.project import project;"
        "np.save('points.npy', project(np.load('matrix.npy')).points)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=200)
    np.testing.assert_array_equal(np.load(tmp_path / "points.npy"), points)


@pytest.mark.parametrize(("variable", "kept"), [("XDG_CACHE_HOME", "skytells-nb"), ("NUMBA_CACHE_DIR", "")])
@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG_CACHE_HOME is not read there")
def test_compiled_code_goes_to_the_cache_directory_of_the_user(tmp_path: Path, variable: str, kept: str) -> None:
    """Where NUMBA_CACHE_DIR is not set, it is set before numba loads; where it is, it stays."""
    code = (
        "import os, sys; from skytells_nb.plots.project import keep_compiled_code; keep_compiled_code();"
        "assert 'numba' not in sys.modules; print(os.environ['NUMBA_CACHE_DIR'])"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {variable: str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == str(tmp_path / kept / "numba" if kept else tmp_path)
