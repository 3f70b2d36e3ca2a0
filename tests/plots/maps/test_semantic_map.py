"""The semantic map: what is drawn for which frame, and what is said about it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from skytells_nb.columns import from_matrix
from skytells_nb.errors import InputError
from skytells_nb.plots import semantic_map, summary
from skytells_nb.plots.maps.semantic_map import HOVER_MAX_POINTS


def frame(n: int = 30, groups: int = 3) -> pd.DataFrame:
    """Rows in groups of equal meaning, with a text, a score and a weight each."""
    random = np.random.default_rng(0)
    matrix = random.normal(size=(n, 8)).astype(np.float32) + 5 * np.eye(8, dtype=np.float32)[np.arange(n) % groups % 8]
    return pd.DataFrame(
        {
            "embedding": from_matrix(matrix, index=range(100, 100 + n)),
            "topic": [f"topic {i % groups}" for i in range(n)],
            "text": [f"a somewhat longer text of row {i}" for i in range(n)],
            "score": np.linspace(0, 1, n),
            "weight": np.arange(n),
        },
        index=range(100, 100 + n),
    )


def draw(data: pd.DataFrame, **wanted: Any) -> go.Figure:
    return semantic_map(data, **{"method": "pca", **wanted})


def texts_of(figure: go.Figure) -> list[str]:
    return [text for trace in figure.data for text in trace.hovertext]


def caption_of(figure: go.Figure) -> str:
    return str(next(a.text for a in figure.layout.annotations if a.name == "caption")).replace("<br>", " ")


def test_every_row_is_one_point_that_knows_its_position() -> None:
    """Together the traces hold each row once; customdata is the position in the frame."""
    figure = draw(frame(), color="topic")
    positions = np.concatenate([trace.customdata for trace in figure.data])
    assert sorted(positions.tolist()) == list(range(30))
    for trace in figure.data:
        assert {f"topic {at % 3}" for at in trace.customdata} == {trace.name.rpartition(" (")[0]}


def test_categories_are_traces_the_legend_can_switch() -> None:
    """One trace for each value, with its count, each with its own colour and symbol."""
    figure = draw(frame(90, groups=15), color="topic")
    assert len(figure.data) == 15
    assert figure.layout.showlegend
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 15
    assert figure.data[0].name.endswith(" (6)")


def test_forty_categories_are_twenty_and_other() -> None:
    """The most frequent keep their names; the rest is one grey trace that says how many values it holds."""
    data = frame(80, groups=40)
    data.loc[data.index[-20:], "topic"] = "topic 0"
    figure = draw(data, color="topic")
    assert len(figure.data) == 21
    in_legend = sorted(figure.data, key=lambda trace: trace.legendrank)
    assert in_legend[0].name == "topic 0 (22)"
    assert in_legend[-1].name.startswith("other, 20 values")
    assert figure.data[0] is in_legend[-1], "it is drawn under the rest"
    assert sum(len(trace.x) for trace in figure.data) == 80


def test_null_categories_are_a_trace_of_their_own() -> None:
    """A missing value is neither a category nor left out."""
    data = frame()
    data["topic"] = data["topic"].where(data["topic"] != "topic 1", None)
    traces = sorted(draw(data, color="topic").data, key=lambda trace: trace.legendrank)
    assert [trace.name for trace in traces] == ["topic 0 (10)", "topic 2 (10)", "no topic (10)"]


def test_numbers_become_a_colour_bar() -> None:
    """One trace with a colour-blind-safe scale; rows without a number are grey and said."""
    data = frame()
    data.loc[[100, 101], "score"] = [np.nan, np.inf]
    grey, scaled = draw(data, color="score").data
    assert grey.name == "no score (2)"
    assert scaled.marker.showscale
    assert scaled.marker.colorscale[0][1] == "#00224e"
    assert scaled.marker.colorbar.title.text == "score"
    assert np.isfinite(np.asarray(scaled.marker.color)).all()


@pytest.mark.parametrize("dtype", ["Int64", "float64[pyarrow]", "uint8"])
def test_numbers_of_any_dtype_are_numbers(dtype: Any) -> None:
    """Nullable and Arrow numbers are drawn as numbers too."""
    data = frame()
    data["score"] = pd.Series(range(30), index=data.index).astype(dtype)
    assert draw(data, color="score", size="score").data[0].marker.showscale


@pytest.mark.parametrize("values", [[True, False], [["a"], {"b": 1}], [pd.Timestamp("2024-01-01"), None]])
def test_values_of_any_kind_can_be_categories(values: list[Any]) -> None:
    """Booleans, dates and values that cannot be hashed are shown by their text."""
    data = frame(2)
    data["kind"] = pd.Series(values, index=data.index, dtype=object)
    assert len(draw(data, color="kind").data) == 2


def test_size_is_drawn_as_area() -> None:
    """Four times the value is twice the diameter above the smallest; null is smallest."""
    data = frame(3)
    data["weight"] = [1.0, 4.0, np.nan]
    sizes = np.asarray(draw(data, size="weight").data[0].marker.size)
    assert sizes[2] == sizes.min()
    assert (sizes[1] - sizes[2]) == pytest.approx(2 * (sizes[0] - sizes[2]))


def test_rows_without_an_embedding_are_left_out_and_said() -> None:
    """The caption and the summary say how many."""
    data = frame()
    data.loc[100, "embedding"] = None
    figure = draw(data)
    assert len(figure.data[0].x) == 29
    assert 0 not in figure.data[0].customdata
    assert "29 rows" in caption_of(figure)
    assert "1 row without an embedding left out" in caption_of(figure)
    assert "1 row without an embedding left out" in summary(figure)


@pytest.mark.parametrize("data", [frame(5).assign(embedding=None), frame(0)], ids=["nulls", "empty"])
def test_a_frame_without_vectors_says_so(data: pd.DataFrame) -> None:
    """The figure has no points and one sentence."""
    figure = draw(data, color="topic", theme="light")
    assert len(figure.data) == 0
    assert any("No embeddings to draw" in a.text for a in figure.layout.annotations)


def test_a_sample_is_seeded_and_said() -> None:
    """``max_points`` draws the same random rows each time, at the places they have on the whole map."""
    data = frame(60)
    whole, part = draw(data), draw(data, max_points=20)
    assert "a random 20 of 60 drawn" in caption_of(part)
    assert part.data[0].customdata.tolist() == draw(data, max_points=20).data[0].customdata.tolist()
    np.testing.assert_array_equal(part.data[0].x, np.asarray(whole.data[0].x)[part.data[0].customdata])


def test_hover_shows_the_row_and_the_longest_text_by_default() -> None:
    """The label of the row and the text column, without being asked."""
    assert draw(frame()).data[0].hovertext[0] == "row 100<br>a somewhat longer text of row 0"
    assert draw(frame(), hover=[]).data[0].hovertext[0] == "row 100"


def test_hover_takes_columns_by_name() -> None:
    """Several columns are shown with their names, nulls as such."""
    data = frame(2).assign(note=[np.nan, 3])
    assert draw(data, hover=["note", "topic"]).data[0].hovertext[0] == "row 100<br>note: null<br>topic: topic 0"
    assert draw(data, hover="topic").data[0].hovertext[0] == "row 100<br>topic 0"


EVIL = '<a href="https://example.org">click</a> <b>$x$</b> %{meta.summary}'


def test_untrusted_text_is_shown_as_it_is_wherever_it_lands() -> None:
    """Title, legend, hover, colour bar and caption hold no tag but our line breaks."""
    data = frame(4).rename(columns={"score": EVIL + "1", "weight": EVIL + "2"})
    data["topic"] = EVIL
    data["text"] = EVIL
    data.index = [EVIL, "b", "c", "d"]
    for color in ("topic", EVIL + "1"):
        figure = draw(data, color=color, size=EVIL + "2", hover=["text", EVIL + "1"], title=EVIL)
        seen = [figure.layout.title.text, figure.layout.legend.title.text or "", caption_of(figure), *texts_of(figure)]
        seen += [trace.name for trace in figure.data]
        seen += [trace.marker.colorbar.title.text or "" for trace in figure.data]
        for text in seen:
            bare = text.replace("<br>", "")
            assert not set("<>$") & set(bare), text
            assert "%{" not in bare
        assert any("&lt;a href" in text for text in seen)
        assert all(trace.hovertemplate is None for trace in figure.data)


def test_hover_text_is_cut_and_wrapped() -> None:
    """A long text is shown in lines of 50 to its hundredth character."""
    data = frame(1).assign(text="word " * 1_000)
    lines = draw(data).data[0].hovertext[0].split("<br>")[1:]
    assert all(len(line) <= 50 for line in lines)
    assert sum(map(len, lines)) <= 100
    assert lines[-1].endswith("…")


def test_very_large_maps_leave_the_columns_of_hover_out() -> None:
    """Only the labels of the rows stay, and the caption says so."""
    data = frame(HOVER_MAX_POINTS + 1)
    figure = draw(data)
    assert figure.data[0].hovertext[0] == "row 100"
    assert "hover texts left out above 50,000 points" in caption_of(figure)


def test_a_map_in_space_has_three_coordinates() -> None:
    """The same points with a third axis, without axes of its own."""
    flat, space = draw(frame(), color="topic"), draw(frame(), color="topic", dimensions=3)
    assert all(isinstance(trace, go.Scatter3d) for trace in space.data)
    np.testing.assert_allclose(space.data[0].x, flat.data[0].x, atol=1e-5)
    assert len(space.data[0].z) == len(space.data[0].x)


def test_quality_is_in_the_caption_and_in_numbers() -> None:
    """As words for the reader, in ``layout.meta`` for a program, and only where it is asked for."""
    figure = draw(frame(), quality=True)
    numbers = figure.layout.meta["quality"]
    assert 0.5 < numbers["trustworthiness"] <= 1
    assert f"trustworthiness {numbers['trustworthiness']:.2f}, {numbers['preserved']:.0%}" in caption_of(figure)
    assert summary(figure)
    assert "trustworthiness" not in caption_of(draw(frame()))
    assert "too few different rows" in caption_of(draw(frame(4), quality=True))


def test_rows_added_to_a_frame_leave_the_others_where_they_were() -> None:
    """With the earlier frame as ``basis`` its rows keep their points, and the caption says how many were placed."""
    data = frame(40)
    before = draw(data.iloc[:30])
    after = draw(data, basis=data.iloc[:30])
    np.testing.assert_array_equal(np.asarray(after.data[0].x)[:30], before.data[0].x)
    assert "laid out on 30 rows, 10 placed among them" in caption_of(after)
    with pytest.raises(InputError, match="not from a list"):
        draw(data, basis=[])


def test_nan_in_a_vector_names_the_rows() -> None:
    """The labels of the rows, before anything is laid out."""
    data = frame()
    data.at[104, "embedding"] = np.array([np.nan] * 8, dtype=np.float32)
    with pytest.raises(InputError, match=r"NaN or infinite numbers in 1 row \(row 104\)"):
        draw(data)


def test_large_maps_are_drawn_by_webgl_and_small_ones_as_svg() -> None:
    """Above 5,000 points Scattergl; the figure stays small because numbers travel as typed arrays."""
    assert isinstance(draw(frame(300)).data[0], go.Scatter)
    figure = draw(frame(6_000), hover=[], theme="dark")
    assert isinstance(figure.data[0], go.Scattergl)
    assert '"bdata"' in figure.to_json()
    assert len(figure.to_json()) < 400_000


def test_colouring_again_keeps_every_point() -> None:
    """Another colour, or none, is the same map."""
    data = frame()
    plain = draw(data)
    colored = draw(data, color="topic")
    for trace in colored.data:
        np.testing.assert_array_equal(trace.x, np.asarray(plain.data[0].x)[trace.customdata])


def test_the_summary_says_what_is_drawn() -> None:
    """Rows, method, parameters and the colours with their counts, in words."""
    words = summary(draw(frame(), color="topic"))
    assert words.startswith("Semantic map of embedding: 30 rows · PCA of unit vectors")
    assert "topic 0 10, topic 1 10, topic 2 10" in words


def test_lists_and_arrow_columns_are_drawn_alike() -> None:
    """The kind of the column does not change the map."""
    data = frame()
    lists = data.assign(embedding=[vector.tolist() for vector in data["embedding"]])
    np.testing.assert_array_equal(draw(lists).data[0].x, draw(data).data[0].x)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"embedding": "vectors"}, "no column 'vectors'; the frame has embedding, topic"),
        ({"color": "colour"}, "no column 'colour'"),
        ({"hover": ["text", "nothing"]}, "no column 'nothing'"),
        ({"size": "topic"}, "size= takes a column of numbers"),
        ({"embedding": "text"}, "not a column of vectors"),
        ({"method": "tsne"}, "tsne"),
        ({"theme": "blue"}, "blue"),
        ({"max_points": 0}, "at least 1"),
        ({"dimensions": 4}, "dimensions is 2 or 3, not 4"),
        ({"label": "group"}, "no column 'group'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(wanted: dict[str, Any], found: str) -> None:
    """The error names what was found and what there is."""
    with pytest.raises(InputError, match=found):
        draw(frame(), **wanted)


def test_only_a_frame_is_drawn() -> None:
    """A Series has no columns to colour by."""
    with pytest.raises(InputError, match="not from a Series"):
        semantic_map(frame()["embedding"])  # type: ignore[arg-type]


def test_a_column_name_that_is_there_twice_is_refused() -> None:
    """Which of the two is meant cannot be known."""
    data = pd.concat([frame(), frame()[["topic"]]], axis=1)
    with pytest.raises(InputError, match="more than one column 'topic'"):
        draw(data, color="topic")


def test_the_frame_is_not_changed() -> None:
    """Drawing only reads."""
    data = frame()
    before = data.copy(deep=True)
    draw(data, color="score", size="weight", hover=["text"])
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_umap_is_the_default_method() -> None:
    """Without a method the map is UMAP's, and its caption names the parameters."""
    figure = semantic_map(frame(), color="topic")
    assert "UMAP of cosine distance, 15 neighbours, min_dist 0.1, seed 42" in caption_of(figure)


def test_names_with_one_beginning_are_switched_each_by_its_own_entry() -> None:
    """The legend cuts what it shows, not what it switches, and an outline goes with its points."""
    data = frame()
    data["topic"] = "A name so long that no legend can show all of it: " + data["topic"]
    figure = draw(data, label="topic", hulls=True)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert len({trace.legendgroup for trace in points}) == len({trace.name for trace in points}) == 3
    outlines = {trace.legendgroup for trace in figure.data if trace.mode == "lines"}
    assert outlines == {trace.legendgroup for trace in points}


def test_many_dates_are_a_scale_and_few_are_categories() -> None:
    """A legend of three hundred days helps nobody; the scale says its ends, the hover text the day, null is a trace."""
    data = frame(30)
    data["day"] = pd.date_range("2026-01-01", periods=30)
    data.iloc[4, data.columns.get_loc("day")] = pd.NaT
    figure = draw(data, color="day")
    assert [trace.name for trace in figure.data] == ["no day (1)", ""]
    scale = figure.data[-1]
    assert list(scale.marker.colorbar.ticktext)[:: len(scale.marker.colorbar.ticktext) - 1] == [
        "2026-01-01",
        "2026-01-30",
    ]
    assert scale.hovertext[0].endswith("<br>day: 2026-01-01")
    assert "from 2026-01-01" in summary(figure)
    few = draw(data.assign(day=data["day"].dt.to_period("M").dt.to_timestamp()), color="day")
    assert len(few.data) == 2
    assert few.data[-1].marker.colorbar.ticktext is None


def test_places_from_columns_are_taken_as_they_are() -> None:
    """For the rows that have a vector; the caption says where from, and what does not fit is refused."""
    frame = pd.DataFrame({"embedding": [[1.0, 0.0], None, [0.0, 1.0]], "x": [3, 4, 5], "y": [0.5, None, 2.0]})
    figure = semantic_map(frame, coordinates=("x", "y"))

    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([3, 5], [0.5, 2.0])
    assert "2 rows · at x and y" in figure.layout.meta["summary"]
    for wrong, said in ((("x", "no"), "no column 'no'"), ("xy", "two columns"), (("x", "embedding"), "hold numbers")):
        with pytest.raises(InputError, match=said):
            semantic_map(frame, coordinates=wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dimensions=3"):
        semantic_map(frame, coordinates=("x", "y"), dimensions=3)
    with pytest.raises(InputError, match="1 rows have no finite"):
        semantic_map(frame.assign(y=[1.0, 2.0, np.nan]), coordinates=("x", "y"))
