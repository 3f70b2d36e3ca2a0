"""Names and outlines of clusters."""

from __future__ import annotations

import html
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
from skytells_nb.plots.maps.clusters import CHARACTER_PX, CORE_SHARE, LINE_PX, PLOT_PX, outline


def frame(n: int = 200, groups: int = 4, names: list[Any] | None = None) -> pd.DataFrame:
    random = np.random.default_rng(0)
    group = np.arange(n) % groups
    matrix = (random.normal(size=(groups, 12))[group] * 3 + random.normal(size=(n, 12))).astype(np.float32)
    names = names or [f"cluster {k}" for k in range(groups)]
    return pd.DataFrame({"embedding": from_matrix(matrix), "cluster": [names[g] for g in group]})


def draw(data: pd.DataFrame, **wanted: Any) -> go.Figure:
    return semantic_map(data, **{"method": "pca", "label": "cluster", "hover": [], **wanted})


def names_on(figure: go.Figure) -> dict[str, Any]:
    return {html.unescape(a.text): a for a in figure.layout.annotations if a.name == "cluster"}


def hulls_of(figure: go.Figure) -> list[Any]:
    return [trace for trace in figure.data if trace.fill == "toself"]


def test_the_name_of_a_cluster_stands_at_the_median_of_its_points() -> None:
    """Every cluster is named once, and coloured by its name unless another column is asked for."""
    data = frame()
    figure = draw(data)
    found = names_on(figure)
    assert set(found) == set(data["cluster"])
    for trace in figure.data:
        note = found[trace.legendgroup]
        assert (note.x, note.y) == pytest.approx((np.median(trace.x), np.median(trace.y)))


def test_no_name_lies_on_another_at_the_usual_size() -> None:
    """Thirty clusters on one heap: names move aside or are left out, and the caption says how many were."""
    data = frame(n=300, groups=30)
    figure = draw(data, color=None)
    found = names_on(figure)
    xy = np.concatenate([np.stack([t.x, t.y], axis=1) for t in figure.data if t.mode == "markers"])
    scale = min(np.asarray(PLOT_PX) / np.ptp(xy, axis=0))
    boxes = []
    for text, note in found.items():
        x, y = note.x * scale + (note.ax or 0), -note.y * scale + (note.ay or 0)
        wide = len(text) * CHARACTER_PX / 2
        boxes.append((x - wide, y - LINE_PX / 2, x + wide, y + LINE_PX / 2))
    for at, a in enumerate(boxes):
        for b in boxes[at + 1 :]:
            assert not (a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3])
    caption = next(a.text for a in figure.layout.annotations if a.name == "caption").replace("<br>", " ")
    assert (f"{30 - len(found)} of 30 names found no room" in caption) == (len(found) < 30)


def test_the_name_of_a_single_row_does_not_hide_it() -> None:
    """It stands beside its point."""
    note = names_on(draw(frame(n=5, groups=5)))
    assert all(n.showarrow and (n.ax or n.ay) for n in note.values())


def test_rows_without_a_name_belong_to_no_cluster() -> None:
    """A null names nothing and is outlined by nothing."""
    figure = draw(frame(names=["a", None, "b", float("nan")]), hulls=True)
    assert set(names_on(figure)) == {"a", "b"}
    assert len(hulls_of(figure)) == 2


def test_names_of_clusters_are_not_trusted() -> None:
    """Markup in a name is written out on the map and in the legend group."""
    evil = '<a href="https://example.org">x</a> $y$'
    figure = draw(frame(names=[evil, "b", "c", "d"]), hulls=True)
    texts = [a.text for a in figure.layout.annotations if a.name == "cluster"]
    texts += [trace.legendgroup for trace in figure.data]
    assert any("&lt;a href" in text for text in texts)
    assert not any(set("<>$") & set(text) for text in texts)


def test_a_hull_goes_with_its_cluster_when_the_legend_switches_it() -> None:
    """Points and outline share a legend group and a colour."""
    figure = draw(frame(), hulls=True)
    points = {trace.legendgroup: trace.marker.color for trace in figure.data if trace.mode == "markers"}
    assert {hull.legendgroup: hull.line.color for hull in hulls_of(figure)} == points


def test_a_hull_holds_the_core_of_its_cluster() -> None:
    """At least four fifths of the points lie inside, and the outline is drawn under them."""
    figure = draw(frame(), hulls=True)
    assert all(trace.fill == "toself" for trace in figure.data[:4])
    for hull in hulls_of(figure):
        (points,) = [t for t in figure.data if t.mode == "markers" and t.legendgroup == hull.legendgroup]
        corners = np.stack([hull.x, hull.y], axis=1)[:-1]
        edges = np.roll(corners, -1, axis=0) - corners
        away = np.stack([points.x, points.y], axis=1)[:, None, :] - corners
        inside = (edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0] >= -1e-6).all(axis=1)
        assert inside.mean() >= CORE_SHARE - 0.02


@given(arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(2, 3)), elements=st.floats(-9, 9, width=32)))
def test_an_outline_keeps_its_distance_from_every_point(points: Any) -> None:
    """Seen from each of its directions, the outline is beyond all points by the pad."""
    bare, corners = outline(points, 0.0), outline(points, 0.5)
    ways = (corners - bare) / 0.5
    reach = (corners * ways).sum(axis=1)
    assert (reach >= (points @ ways.T).max(axis=0) + 0.49).all()


@pytest.mark.parametrize("same", [0.0, 3.0])
def test_points_on_one_spot_have_no_outline(same: float) -> None:
    """There is nothing to outline, and no circle is drawn around nothing."""
    data = frame(20)
    data["embedding"] = from_matrix(np.full((20, 3), same, dtype=np.float32))
    assert hulls_of(draw(data, hulls=True)) == []


def test_hulls_without_names_are_refused() -> None:
    """The error says which argument names the clusters."""
    with pytest.raises(InputError, match="pass label="):
        draw(frame(), label=None, hulls=True)


def test_in_space_names_and_hulls_are_drawn_too() -> None:
    """As annotations of the scene and as meshes."""
    figure = draw(frame(), hulls=True, dimensions=3)
    assert len(figure.layout.scene.annotations) == 4
    assert sum(isinstance(trace, go.Mesh3d) for trace in figure.data) == 4
    assert sum(isinstance(trace, go.Scatter3d) for trace in figure.data) == 4
