"""The map without arguments: topics, their names, and what it says."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from skytells_nb.columns import from_matrix
from skytells_nb.plots import semantic_map, summary

SUBJECTS = {
    "animals": "the cat and the dog sleep near the warm stove number",
    "markets": "stocks and bonds fell as investors sold shares number",
    "kitchen": "bake bread with flour and yeast in the oven number",
}


def frame(n: int = 240) -> pd.DataFrame:
    """Rows about three subjects, in separate regions of the vectors."""
    random = np.random.default_rng(0)
    of_row = np.arange(n) % 3
    centers = 6 * np.eye(3, 16, dtype=np.float32)
    matrix = centers[of_row] + random.normal(size=(n, 16)).astype(np.float32) * 0.7
    texts = [f"{list(SUBJECTS.values())[subject]} {row}" for row, subject in enumerate(of_row)]
    return pd.DataFrame(
        {"embedding": from_matrix(matrix), "note": texts, "subject": [list(SUBJECTS)[s] for s in of_row]}
    )


def draw(data: pd.DataFrame, **options: Any) -> go.Figure:
    return semantic_map(data, **{"method": "pca", **options})


def names_of(figure: go.Figure) -> list[str]:
    texts = [a.text for a in figure.layout.annotations if a.name == "cluster"]
    return [re.sub("<[^>]+>", " ", text) for text in texts]


def test_a_map_without_arguments_finds_and_names_its_topics() -> None:
    """Three regions, each with words of its own texts and the number of its rows, in one trace."""
    data = frame()
    figure = draw(data)
    (trace,) = figure.data
    assert sorted(trace.customdata.tolist()) == list(range(240))
    assert not figure.layout.showlegend
    codes = np.asarray(trace.marker.color)
    names = names_of(figure)
    assert len(names) == 3
    for name in names:
        words = re.findall("[a-z]+", name)
        assert any(set(words) & set(text.split()) for text in SUBJECTS.values())
        (subject,) = [key for key, text in SUBJECTS.items() if set(words) <= set(text.split())]
        members = np.flatnonzero(data["subject"] == subject)
        assert len(set(codes[members].tolist()) - {3}) == 1
        assert int(re.findall(r"\d+", name)[-1]) == pytest.approx(80, abs=30)
    assert len({code for code in codes.tolist() if code < 3}) == 3


def test_the_texts_say_what_is_seen() -> None:
    """A title, a sentence below it, and in the caption how far distances can be trusted."""
    figure = draw(frame())
    assert figure.layout.title.text == "240 rows by the meaning of their note"
    assert figure.layout.title.subtitle.text.startswith("Near means similar note; the largest of 3 topics is “")
    assert draw(frame(), title="Mine").layout.title.text == "Mine"
    caption = next(a.text for a in figure.layout.annotations if a.name == "caption").replace("<br>", " ")
    assert re.search(r"(faithful|fair|loose) map: \d+% of neighbors kept", caption)
    assert re.search(r"\S\. Near means similar note; .+\. Topics: .+\.$", summary(figure))


def test_a_glow_of_the_density_is_below_the_points() -> None:
    """As an image over the whole view."""
    figure = draw(frame())
    (image,) = figure.layout.images
    assert image.layer == "below"
    assert image.source.startswith("data:image/png;base64,")
    left, right = figure.layout.xaxis.range
    assert (image.x, image.sizex) == (left, pytest.approx(right - left))


def test_points_are_small_where_there_are_many() -> None:
    """2 to 3 pixels for 3,000 rows, without an outline."""
    sizes = {}
    for n in (60, 300, 3_000, 20_000):
        random = np.random.default_rng(0)
        data = pd.DataFrame({"embedding": from_matrix(random.normal(size=(n, 4)).astype(np.float32))})
        (trace,) = draw(data, hover=[], topics=n != 20_000).data
        sizes[n] = trace.marker.size
        assert (trace.marker.line.width == 0) == (n > 100)
    assert 2 <= sizes[3_000] <= 3
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    assert sizes[20_000] >= 1


def test_hover_texts_have_the_topic() -> None:
    """After the text of the row."""
    (trace,) = draw(frame()).data
    assert any("<br>topic: " in text for text in trace.hovertext)


def test_far_rows_are_counted_and_outside_of_the_view() -> None:
    """The caption says how to see them."""
    random = np.random.default_rng(1)
    data = pd.DataFrame(
        {
            "embedding": from_matrix(random.normal(size=(200, 4)).astype(np.float32)),
            "x": random.uniform(-2, 2, size=200),
        }
    ).assign(y=random.uniform(-2, 2, size=200))
    data.loc[[0, 1], ["x", "y"]] = 90.0
    figure = draw(data, coordinates=("x", "y"))
    assert "2 rows far from all others outside of the view (double-click shows all)" in summary(figure)
    assert figure.layout.xaxis.range[1] < 10
    assert figure.layout.yaxis.scaleanchor == "x"
    assert draw(data).layout.yaxis.scaleanchor is None


@pytest.mark.parametrize(
    "options", [{"color": "subject"}, {"label": "subject"}, {"topics": False}, {"dimensions": 3}], ids=str
)
def test_other_maps_have_no_topics(options: dict[str, Any]) -> None:
    """With a column for the colors, in 3D, and on request."""
    figure = draw(frame(), **options)
    assert not figure.layout.images
    assert "Topics:" not in summary(figure)


def test_clusters_of_the_frame_are_the_topics() -> None:
    """With their names, also one that no region would be; numbers get words."""
    data = frame()
    data["cluster"] = pd.Categorical(data["subject"].str.title(), ["Animals", "Kitchen", "Unused", "Markets"])
    assert "Topics: " in summary(draw(data))
    data["cluster_score"] = np.float32(0.5)
    data.loc[:8, "cluster"] = None
    figure = draw(data)
    assert {re.findall("[A-Z][a-z]+", name)[0] for name in names_of(figure)} == {"Animals", "Kitchen", "Markets"}
    assert (np.asarray(figure.data[0].marker.color)[:9] == 3).all()
    numbered = draw(data.assign(cluster=pd.Categorical(np.arange(240) % 3)))
    assert any("cat" in name for name in names_of(numbered))
    assert "Animals" not in summary(draw(data.rename(columns={"cluster_score": "score"})))


def test_few_rows_make_no_topics() -> None:
    """Nor do rows without texts have names."""
    assert not draw(frame(30)).layout.images
    figure = draw(frame().drop(columns=["note", "subject"]))
    assert names_of(figure) == []
    assert len(figure.layout.images) == 1


def test_texts_are_escaped() -> None:
    """Words of texts are no markup, and the column's name neither."""
    data = frame().drop(columns="subject")
    data["note"] = [f"<b>{text}</b> <img/src=x>" for text in data["note"]]
    figure = draw(data.rename(columns={"note": "<i>note</i>"}))
    shown = [figure.layout.title.text, figure.layout.title.subtitle.text, *figure.data[0].hovertext]
    assert not any("<" in text.replace("<br>", "") for text in shown)
    allowed = re.compile(r'</?b>|<br>|<span style="font-size:10px;font-weight:normal">|</span>')
    for annotation in figure.layout.annotations:
        assert "<" not in allowed.sub("", annotation.text)


def test_a_wider_figure_has_its_width() -> None:
    """Names are laid out for it."""
    figure = draw(frame(), width=1_400, height=800)
    assert (figure.layout.width, figure.layout.height) == (1_400, 800)


@pytest.mark.parametrize("theme", [None, "light", "dark", "print"])
def test_names_have_a_halo_of_the_background(theme: Any) -> None:
    """Also of one that is not known before it is shown."""
    figure = draw(frame(), theme=theme)
    shadows = [a.font.shadow for a in figure.layout.annotations if a.name == "cluster"]
    assert shadows
    expected = {"light": "#ffffff", "print": "#ffffff", "dark": "#111111", None: "Canvas"}[theme]
    assert all(expected in shadow for shadow in shadows)
    assert all(a.bgcolor is None for a in figure.layout.annotations)
