"""Labels and outlines of clusters."""

from __future__ import annotations

import html
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skytells_nb.columns import from_matrix
from skytells_nb.errors import InputError
from skytells_nb.plots import semantic_map
from skytells_nb.plots.maps.clusters import CORE_SHARE, label_names, outline
from skytells_nb.plots.maps.labels import SIDE_PX, WIDTH_PX
from skytells_nb.plots.maps.names import MapName
from skytells_nb.plots.maps.semantic_map import TEXTS_PX


def frame(n: int = 200, n_groups: int = 4, names: list[Any] | None = None) -> pd.DataFrame:
    random = np.random.default_rng(0)
    group_of_row = np.arange(n) % n_groups
    matrix = (random.normal(size=(n_groups, 12))[group_of_row] * 3 + random.normal(size=(n, 12))).astype(np.float32)
    names = names or [f"cluster {k}" for k in range(n_groups)]
    return pd.DataFrame({"embedding": from_matrix(matrix), "cluster": [names[g] for g in group_of_row]})


def draw(data: pd.DataFrame, **options: Any) -> go.Figure:
    return semantic_map(data, **{"method": "pca", "label": "cluster", "hover": [], **options})


def labels_of(figure: go.Figure) -> dict[str, Any]:
    return {html.unescape(a.text.replace("<br>", " ")): a for a in figure.layout.annotations if a.name == "cluster"}


def hulls_of(figure: go.Figure) -> list[Any]:
    return [trace for trace in figure.data if trace.fill == "toself"]


def test_a_cluster_is_labeled_at_the_median_of_its_points() -> None:
    """Every cluster is labeled once, and colored by its name unless another column is passed."""
    data = frame()
    figure = draw(data)
    labels = labels_of(figure)
    assert set(labels) == set(data["cluster"])
    for trace in figure.data:
        label = labels[trace.legendgroup]
        assert (label.x, label.y) == pytest.approx((np.median(trace.x), np.median(trace.y)))


def test_labels_do_not_overlap_at_the_usual_size() -> None:
    """Thirty clusters close together: every label is written, and the caption counts those that are not."""
    figure = draw(frame(n=300, n_groups=30), color=None)
    labels = labels_of(figure)
    left, right = figure.layout.xaxis.range
    bottom, top = figure.layout.yaxis.range
    scale = (WIDTH_PX - 2 * SIDE_PX) / (right - left), (560 - TEXTS_PX) / (top - bottom)
    boxes = []
    for label in labels.values():
        x, y = (label.x - left) * scale[0], (top - label.y) * scale[1]
        x, y = x + (label.ax or label.xshift or 0), y + (label.ay or -(label.yshift or 0))
        lines = html.unescape(label.text).split("<br>")
        width, height = MapName(tuple(lines), label.font.size, (0, 0)).size
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    for at, a in enumerate(boxes):
        for b in boxes[at + 1 :]:
            assert not (a[0] < b[2] - 0.1 and b[0] < a[2] - 0.1 and a[1] < b[3] - 0.1 and b[1] < a[3] - 0.1)
    caption = next(a.text for a in figure.layout.annotations if a.name == "caption").replace("<br>", " ")
    assert (f"{30 - len(labels)} of 30 labels omitted for lack of space" in caption) == (len(labels) < 30)
    assert len(labels) >= 28


def test_of_very_many_labels_those_of_single_rows_are_left_out() -> None:
    """Which of them are written would be by chance; as many rows as labels cost little memory."""
    data = frame(n=60, n_groups=2)
    data["cluster"] = [name if row < 20 else f"row {row}" for row, name in enumerate(data["cluster"])]
    assert set(labels_of(draw(data))) == {"cluster 0", "cluster 1"}
    many = frame(n=6_000, n_groups=6_000)
    figure = draw(many)
    assert not labels_of(figure)
    tracemalloc.start()
    try:
        points = np.zeros((len(many), 2), dtype=np.float32)
        assert len(label_names(points, many["cluster"], None, {})) == 6_000
        # A mask for each would be 36 MB.
        assert tracemalloc.get_traced_memory()[1] < 15e6
    finally:
        tracemalloc.stop()


def test_the_label_of_a_single_row_does_not_hide_it() -> None:
    """It is placed beside its point."""
    labels = labels_of(draw(frame(n=5, n_groups=5)))
    assert all(label.ax or label.ay or label.yshift or label.xshift for label in labels.values())


def test_rows_without_a_name_belong_to_no_cluster() -> None:
    """Missing values get neither a label nor an outline."""
    figure = draw(frame(names=["a", None, "b", float("nan")]), hulls=True)
    assert set(labels_of(figure)) == {"a", "b"}
    assert len(hulls_of(figure)) == 2


def test_names_of_clusters_are_escaped() -> None:
    """On the map and in the legend group."""
    untrusted = '<a href="https://example.org">x</a> $y$'
    figure = draw(frame(names=[untrusted, "b", "c", "d"]), hulls=True)
    texts = [a.text for a in figure.layout.annotations if a.name == "cluster"]
    texts += [trace.legendgroup for trace in figure.data]
    assert any("&lt;a href" in text for text in texts)
    texts = [text.replace("<br>", "") for text in texts]
    assert not any(set("<>$") & set(text) for text in texts)


def test_the_legend_toggles_a_hull_with_its_cluster() -> None:
    """Points and outline share a legend group and a color."""
    figure = draw(frame(), hulls=True)
    points = {trace.legendgroup: trace.marker.color for trace in figure.data if trace.mode == "markers"}
    assert {hull.legendgroup: hull.line.color for hull in hulls_of(figure)} == points


def test_a_hull_contains_the_core_of_its_cluster() -> None:
    """At least four fifths of the points are inside, and the outline is drawn below them."""
    figure = draw(frame(), hulls=True)
    assert all(trace.fill == "toself" for trace in figure.data[:4])
    for hull in hulls_of(figure):
        (points,) = [t for t in figure.data if t.mode == "markers" and t.legendgroup == hull.legendgroup]
        corners = np.stack([hull.x, hull.y], axis=1)[:-1]
        edges = np.roll(corners, -1, axis=0) - corners
        offsets = np.stack([points.x, points.y], axis=1)[:, None, :] - corners
        inside = (edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0] >= -1e-6).all(axis=1)
        assert inside.mean() >= CORE_SHARE - 0.02


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(2, 3)), elements=st.floats(-9, 9, width=32)))
def test_an_outline_keeps_its_distance_from_every_point(points: Any) -> None:
    """In each of its directions, the outline is outside all points by the padding."""
    unpadded, corners = outline(points, 0.0), outline(points, 0.5)
    directions = (corners - unpadded) / 0.5
    extents = (corners * directions).sum(axis=1)
    assert (extents >= (points @ directions.T).max(axis=0) + 0.49).all()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_coinciding_points_have_no_outline(value: float) -> None:
    """Not even a circle around the point."""
    data = frame(20)
    data["embedding"] = from_matrix(np.full((20, 3), value, dtype=np.float32))
    assert hulls_of(draw(data, hulls=True)) == []


def test_hulls_without_labels_raise() -> None:
    """The error names the missing argument."""
    with pytest.raises(InputError, match="Pass label="):
        draw(frame(), label=None, hulls=True)


def test_labels_and_hulls_in_3d() -> None:
    """They are annotations of the scene and meshes."""
    figure = draw(frame(), hulls=True, dimensions=3)
    assert len(figure.layout.scene.annotations) == 4
    assert sum(isinstance(trace, go.Mesh3d) for trace in figure.data) == 4
    assert sum(isinstance(trace, go.Scatter3d) for trace in figure.data) == 4
