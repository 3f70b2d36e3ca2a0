"""The semantic map: points, colors, captions and summaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from map_figures import UNTRUSTED, draw, frame

from skytells_nb.embedding_columns import unit_vectors_of
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.plots import semantic_map, summary
from skytells_nb.plots.maps.points import marker_sizes
from skytells_nb.plots.maps.semantic_map import HOVER_MAX_POINTS
from skytells_nb.plots.theme import scale_colors


def texts_of(figure: go.Figure) -> list[str]:
    return [text for trace in figure.data for text in trace.hovertext]


def caption_of(figure: go.Figure) -> str:
    return str(next(a.text for a in figure.layout.annotations if a.name == "caption")).replace("<br>", " ")


def test_every_row_is_one_point_with_its_position() -> None:
    """The traces contain each row once; customdata is the position in the frame."""
    figure = draw(frame(), color="topic")
    positions = np.concatenate([trace.customdata for trace in figure.data])
    assert sorted(positions.tolist()) == list(range(30))
    for trace in figure.data:
        assert {f"topic {at % 3}" for at in trace.customdata} == {trace.name.rpartition(" (")[0]}


def test_categories_are_traces_of_the_legend() -> None:
    """One trace for each value, with its count and its own color and symbol."""
    figure = draw(frame(90, n_groups=15), color="topic")
    assert len(figure.data) == 15
    assert figure.layout.showlegend
    assert len({(trace.marker.color, trace.marker.symbol) for trace in figure.data}) == 15
    assert figure.data[0].name.endswith(" (6)")


def test_forty_categories_are_twenty_and_other() -> None:
    """The most frequent values have traces; the rest is one gray trace with the number of its values."""
    data = frame(80, n_groups=40)
    data.loc[data.index[-20:], "topic"] = "topic 0"
    figure = draw(data, color="topic")
    assert len(figure.data) == 21
    in_legend = sorted(figure.data, key=lambda trace: trace.legendrank)
    assert in_legend[0].name == "topic 0 (22)"
    assert in_legend[-1].name.startswith("other, 20 values")
    assert figure.data[0] is in_legend[-1], "it is drawn below the others"
    assert sum(len(trace.x) for trace in figure.data) == 80


def test_missing_categories_are_a_separate_trace() -> None:
    """A missing value is neither a category nor omitted."""
    data = frame()
    data["topic"] = data["topic"].where(data["topic"] != "topic 1", None)
    traces = sorted(draw(data, color="topic").data, key=lambda trace: trace.legendrank)
    assert [trace.name for trace in traces] == ["topic 0 (10)", "topic 2 (10)", "no topic (10)"]


def test_numbers_get_a_color_bar() -> None:
    """One trace with a color-blind-safe scale; rows without a number are gray and counted."""
    data = frame()
    data.loc[[100, 101], "score"] = [np.nan, np.inf]
    gray, scaled = draw(data, color="score").data
    assert gray.name == "no score (2)"
    assert scaled.marker.showscale
    assert [shade for _, shade in scaled.marker.colorscale] == scale_colors(9)
    assert scaled.marker.colorbar.title.text == "score"
    assert np.isfinite(np.asarray(scaled.marker.color)).all()


@pytest.mark.parametrize("dtype", ["Int64", "float64[pyarrow]", "uint8"])
def test_numbers_of_any_dtype_are_numbers(dtype: Any) -> None:
    """Nullable and Arrow numbers are drawn as numbers too."""
    data = frame()
    data["score"] = pd.Series(range(30), index=data.index).astype(dtype)
    assert draw(data, color="score", size="score").data[0].marker.showscale


@pytest.mark.parametrize("values", [[True, False], [["a"], {"b": 1}], [pd.Timestamp("2024-01-01"), None]])
def test_values_of_any_type_can_be_categories(values: list[Any]) -> None:
    """Booleans, dates and unhashable values are shown as text."""
    data = frame(2)
    data["kind"] = pd.Series(values, index=data.index, dtype=object)
    assert len(draw(data, color="kind").data) == 2


def test_size_is_drawn_as_area() -> None:
    """Four times the value is twice the diameter above the smallest; missing values are smallest."""
    data = frame(3)
    data["weight"] = [1.0, 4.0, np.nan]
    sizes = np.asarray(draw(data, size="weight").data[0].marker.size)
    assert sizes[2] == sizes.min()
    assert (sizes[1] - sizes[2]) == pytest.approx(2 * (sizes[0] - sizes[2]))


def test_points_are_as_large_as_the_figure_has_space() -> None:
    """Two to three pixels at 3,000 rows, smaller with more; a figure made larger has larger points."""
    sizes = {n: marker_sizes(None, n) for n in (30, 3_000, 20_000, 100_000)}
    assert 2 <= sizes[3_000] <= 3
    assert sizes[30] > sizes[3_000] > sizes[20_000] > sizes[100_000] >= 1.4
    usual, large = (draw(frame(400), width=width).data[0].marker.size for width in (860, 1600))
    assert large > usual


def test_rows_without_an_embedding_are_omitted_and_counted() -> None:
    """In the caption and in the summary."""
    data = frame()
    data.loc[100, "embedding"] = None
    figure = draw(data)
    assert len(figure.data[0].x) == 29
    assert 0 not in figure.data[0].customdata
    assert "29 rows" in caption_of(figure)
    assert "1 row without an embedding omitted" in caption_of(figure)
    assert "1 row without an embedding omitted" in summary(figure)


@pytest.mark.parametrize("data", [frame(5).assign(embedding=None), frame(0)], ids=["missing", "empty"])
def test_a_frame_without_vectors_gives_a_message(data: pd.DataFrame) -> None:
    """The figure has one sentence and no points."""
    figure = draw(data, color="topic", theme="light")
    assert len(figure.data) == 0
    assert any("No embeddings to draw" in a.text for a in figure.layout.annotations)


def test_a_sample_is_seeded_and_in_the_caption() -> None:
    """``max_points`` draws the same random rows each time, at their points on the whole map."""
    data = frame(60)
    whole, part = draw(data), draw(data, max_points=20)
    assert "random sample of 20 of 60" in caption_of(part)
    assert part.data[0].customdata.tolist() == draw(data, max_points=20).data[0].customdata.tolist()
    np.testing.assert_array_equal(part.data[0].x, np.asarray(whole.data[0].x)[part.data[0].customdata])


def test_hover_shows_the_row_and_the_longest_text_by_default() -> None:
    """The label of the row and the text column."""
    assert draw(frame()).data[0].hovertext[0] == "row 100<br>a somewhat longer text of row 0"
    assert draw(frame(), hover=[]).data[0].hovertext[0] == "row 100"


def test_hover_shows_columns_by_name() -> None:
    """Several columns are shown with their names, missing values as "missing"."""
    data = frame(2).assign(note=[np.nan, 3])
    assert draw(data, hover=["note", "topic"]).data[0].hovertext[0] == "row 100<br>note: missing<br>topic: topic 0"
    assert draw(data, hover="topic").data[0].hovertext[0] == "row 100<br>topic 0"


def test_untrusted_text_is_escaped_everywhere() -> None:
    """Title, legend, hover texts, color bar and caption have no tags except line breaks."""
    data = frame(4).rename(columns={"score": UNTRUSTED + "1", "weight": UNTRUSTED + "2"})
    data["topic"] = UNTRUSTED
    data["text"] = UNTRUSTED
    data.index = [UNTRUSTED, "b", "c", "d"]
    for color in ("topic", UNTRUSTED + "1"):
        figure = draw(data, color=color, size=UNTRUSTED + "2", hover=["text", UNTRUSTED + "1"], title=UNTRUSTED)
        texts = [figure.layout.title.text, figure.layout.legend.title.text or "", caption_of(figure), *texts_of(figure)]
        texts += [trace.name for trace in figure.data]
        texts += [trace.marker.colorbar.title.text or "" for trace in figure.data]
        for text in texts:
            rest = text.replace("<br>", "")
            assert not set("<>$") & set(rest), text
            assert "%{" not in rest
        assert any("&lt;a href" in text for text in texts)
        assert all(trace.hovertemplate is None for trace in figure.data)


def test_hover_text_is_shortened_and_wrapped() -> None:
    """Lines of 50 characters, 100 in total."""
    data = frame(1).assign(text="word " * 1_000)
    lines = draw(data).data[0].hovertext[0].split("<br>")[1:]
    assert all(len(line) <= 50 for line in lines)
    assert sum(map(len, lines)) <= 100
    assert lines[-1].endswith("…")


def test_very_large_maps_omit_columns_on_hover() -> None:
    """Only the labels of the rows are shown, and the caption says so."""
    data = frame(HOVER_MAX_POINTS + 1)
    figure = draw(data)
    assert figure.data[0].hovertext[0] == "row 100"
    assert "hover texts omitted above 50,000 points" in caption_of(figure)


def test_a_map_in_3d_has_three_coordinates() -> None:
    """The first two are those of the map in 2D."""
    flat, space = draw(frame(), color="topic"), draw(frame(), color="topic", dimensions=3)
    assert all(isinstance(trace, go.Scatter3d) for trace in space.data)
    np.testing.assert_allclose(space.data[0].x, flat.data[0].x, atol=1e-5)
    assert len(space.data[0].z) == len(space.data[0].x)


def test_quality_is_in_the_caption_and_in_numbers() -> None:
    """As text in the caption and as numbers in ``layout.meta``, only if requested."""
    figure = draw(frame(), quality=True)
    numbers = figure.layout.meta["quality"]
    assert 0.5 < numbers["trustworthiness"] <= 1
    assert f"trustworthiness {numbers['trustworthiness']:.2f}, {numbers['preserved']:.0%}" in caption_of(figure)
    assert summary(figure)
    assert "trustworthiness" not in caption_of(draw(frame()))
    assert "too few distinct rows" in caption_of(draw(frame(4), quality=True))


def test_new_rows_do_not_move_the_rows_of_the_basis() -> None:
    """The caption counts the rows that were placed."""
    data = frame(40)
    before = draw(data.iloc[:30])
    after = draw(data, basis=data.iloc[:30])
    np.testing.assert_array_equal(np.asarray(after.data[0].x)[:30], before.data[0].x)
    assert "laid out on 30 rows, 10 placed among them" in caption_of(after)
    with pytest.raises(InputError, match="got list"):
        draw(data, basis=[])


def test_nan_in_a_vector_raises() -> None:
    """The error names the labels of the rows."""
    data = frame()
    data.at[104, "embedding"] = np.array([np.nan] * 8, dtype=np.float32)
    with pytest.raises(InputError, match=r"NaN or infinite numbers in 1 row \(row 104\)"):
        draw(data, on_error="raise")


def test_large_maps_use_webgl_and_small_maps_svg() -> None:
    """WebGL above 5,000 points; the figure is small, as numbers are stored as typed arrays."""
    assert isinstance(draw(frame(300)).data[0], go.Scatter)
    figure = draw(frame(6_000), hover=[], theme="dark")
    assert isinstance(figure.data[0], go.Scattergl)
    assert '"bdata"' in figure.to_json()
    assert len(figure.to_json()) < 400_000


def test_other_colors_do_not_move_points() -> None:
    """With other colors, or without, the map is the same."""
    data = frame()
    plain = draw(data)
    colored = draw(data, color="topic")
    for trace in colored.data:
        np.testing.assert_array_equal(trace.x, np.asarray(plain.data[0].x)[trace.customdata])


def test_the_summary_describes_the_map() -> None:
    """Rows, method, parameters and the colors with their counts."""
    text = summary(draw(frame(), color="topic"))
    assert text.startswith("Semantic map of embedding: 30 rows · PCA of unit vectors")
    assert "topic 0 10, topic 1 10, topic 2 10" in text


def test_lists_and_arrow_columns_give_the_same_map() -> None:
    """The type of the column does not matter."""
    data = frame()
    lists = data.assign(embedding=[vector.tolist() for vector in data["embedding"]])
    np.testing.assert_array_equal(draw(lists).data[0].x, draw(data).data[0].x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": "vectors"}, "no column 'vectors'. The columns are: 'embedding', 'topic'"),
        ({"color": "shade"}, "no column 'shade'"),
        ({"hover": ["text", "nothing"]}, "no column 'nothing'"),
        ({"size": "topic"}, "size must be a numeric column"),
        ({"embedding": "text"}, "must be a column of vectors"),
        ({"method": "tsne"}, "tsne"),
        ({"theme": "blue"}, "blue"),
        ({"max_points": 0}, "at least 1"),
        ({"dimensions": 4}, "dimensions must be 2 or 3, got 4"),
        ({"label": "group"}, "no column 'group'"),
    ],
)
def test_invalid_arguments_raise(options: dict[str, Any], message: str) -> None:
    """The error names the value, and the options or columns."""
    with pytest.raises(InputError, match=message):
        draw(frame(), **options)


def test_a_series_raises() -> None:
    """A map needs a DataFrame."""
    with pytest.raises(InputError, match="needs a DataFrame, got Series"):
        semantic_map(frame()["embedding"])  # type: ignore[arg-type]


def test_a_duplicate_column_name_raises() -> None:
    """The name is ambiguous."""
    data = pd.concat([frame(), frame()[["topic"]]], axis=1)
    with pytest.raises(InputError, match="'topic' must be unique, got 2 columns"):
        draw(data, color="topic")


def test_the_frame_is_not_changed() -> None:
    """Drawing does not modify it."""
    data = frame()
    before = data.copy(deep=True)
    draw(data, color="score", size="weight", hover=["text"])
    pd.testing.assert_frame_equal(data, before)


@pytest.mark.xdist_group("umap")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_umap_is_the_default_method() -> None:
    """The caption names its parameters."""
    figure = semantic_map(frame(), color="topic")
    assert "UMAP of cosine distance, 15 neighbors, min_dist 0.1, seed 42" in caption_of(figure)


def test_categories_with_the_same_beginning_have_separate_entries() -> None:
    """The legend shortens texts, not groups, and an outline is in the group of its points."""
    data = frame()
    data["topic"] = "A name so long that no legend can show all of it: " + data["topic"]
    figure = draw(data, label="topic", hulls=True)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert len({trace.legendgroup for trace in points}) == len({trace.name for trace in points}) == 3
    outlines = {trace.legendgroup for trace in figure.data if trace.mode == "lines"}
    assert outlines == {trace.legendgroup for trace in points}


def test_many_dates_get_a_color_bar_and_few_are_categories() -> None:
    """The color bar shows the first and the last date, hover texts each date; missing dates are a separate trace."""
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


def test_coordinates_from_columns_are_not_changed() -> None:
    """For rows with a vector; the caption names the columns, and invalid columns raise."""
    frame = pd.DataFrame({"embedding": [[1.0, 0.0], None, [0.0, 1.0]], "x": [3, 4, 5], "y": [0.5, None, 2.0]})
    figure = semantic_map(frame, coordinates=("x", "y"))

    assert (list(figure.data[0].x), list(figure.data[0].y)) == ([3, 5], [0.5, 2.0])
    assert "2 rows · at x and y" in figure.layout.meta["summary"]
    cases = ((("x", "no"), "no column 'no'"), ("xy", "two columns"), (("x", "embedding"), "must be numeric"))
    for coordinates, message in cases:
        with pytest.raises(InputError, match=message):
            semantic_map(frame, coordinates=coordinates)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="dimensions=3"):
        semantic_map(frame, coordinates=("x", "y"), dimensions=3)
    with pytest.raises(InputError, match="1 rows have no finite"):
        semantic_map(frame.assign(y=[1.0, 2.0, np.nan]), coordinates=("x", "y"))


def test_ordered_categories_keep_their_order_on_a_sequential_scale() -> None:
    """From light to dark or back, with one symbol, however many rows each has."""
    sizes = np.repeat(["low", "mid", "high"], [6, 14, 10])
    data = frame().assign(level=pd.Categorical(sizes, ["low", "mid", "unused", "high"], ordered=True))
    traces = draw(data, color="level").data
    assert [trace.name for trace in traces] == ["low (6)", "mid (14)", "high (10)"]
    luminances = [sum(bytes.fromhex(trace.marker.color[1:])) for trace in traces]
    assert luminances == sorted(luminances)
    assert {trace.marker.symbol for trace in traces} == {"circle"}


def test_intervals_with_missing_rows_keep_their_order() -> None:
    """The edges are those of the categories, whole numbers too."""
    values = pd.cut(pd.Series([15.0, 5.0, 25.0, None] * 8)[:30], [0, 10, 20, 30]).set_axis(frame().index)
    shown = [trace.name for trace in draw(frame(), color=values.rename("band")).data]
    assert [name for name in shown if name[0] == "("] == ["(0, 10] (8)", "(10, 20] (8)", "(20, 30] (7)"]
    assert "no band (7)" in shown


def test_missing_numbers_are_open_squares() -> None:
    """A filled gray is the middle of the color scale."""
    data = frame().assign(score=[None, *np.linspace(0, 1, 29)])
    missing, known = draw(data, color="score").data
    assert (missing.marker.symbol, len(missing.x)) == ("square-open", 1)
    assert known.marker.symbol == "circle"


@pytest.mark.parametrize(
    "make", [list, np.array, pd.Series, pd.Categorical], ids=["list", "array", "series", "category"]
)
def test_a_color_can_be_values(make: Any) -> None:
    """One for each row, in the order of the rows; the frame is unchanged."""
    data = frame()
    values = make(data["topic"].tolist())
    figure = draw(data, color=values)
    assert [trace.name for trace in figure.data] == ["topic 0 (10)", "topic 1 (10)", "topic 2 (10)"]
    assert list(data.columns) == list(frame().columns)


def test_a_series_of_colors_is_read_by_label_where_it_has_the_labels() -> None:
    data = frame()
    shuffled = data["topic"].sample(frac=1, random_state=1).rename("group")
    expected = draw(data, color="topic")
    figure = draw(data, color=shuffled)
    assert [list(trace.customdata) for trace in figure.data] == [list(trace.customdata) for trace in expected.data]
    assert figure.layout.legend.title.text == "group"


def test_values_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="one value for each of the 30 rows, got 2 values"):
        draw(frame(), color=["a", "b"])


def test_vectors_of_zeros_are_counted_and_not_drawn() -> None:
    """They have no direction, so no place among the others; Euclidean distance gives them one."""
    data = frame()
    matrix = np.stack(data["embedding"].tolist())
    matrix[[0, 4]] = 0
    data["embedding"] = list(matrix)
    figure = draw(data)
    assert "2 rows with all-zero embeddings omitted" in summary(figure)
    assert sorted(figure.data[0].customdata) == [row for row in range(30) if row not in (0, 4)]
    assert len(draw(data, metric="euclidean").data[0].x) == 30
    only = data.assign(embedding=[np.zeros(3)] * 30)
    assert "30 rows and nothing but zeros" in summary(draw(only))


@pytest.mark.parametrize("dtype", ["int64", "Int64", "uint64"])
def test_whole_numbers_keep_all_digits(dtype: str) -> None:
    """An id in the hover text is the id."""
    data = frame().assign(key=pd.Series(range(30), index=range(100, 130)).astype(dtype) + 2**53)
    (trace,) = draw(data, color="key").data
    assert [text.rsplit(" ", 1)[1] for text in trace.hovertext] == [str(2**53 + row) for row in range(30)]


def legend_of(figure: go.Figure) -> list[str]:
    """The names in the legend without their counts, in its order."""
    traces = sorted(figure.data, key=lambda trace: trace.legendrank)
    return [trace.name.rpartition(" (")[0] for trace in traces]


def colors_of(figure: go.Figure) -> dict[str, str]:
    return {trace.name.rpartition(" (")[0]: str(trace.marker.color).lower() for trace in figure.data}


def test_values_have_the_colors_that_are_passed() -> None:
    """In any notation of CSS; the other values have colors of their own, none of them twice."""
    found = colors_of(draw(frame(), color="topic", colors={"topic 1": "Teal", "topic 0": "#F00", "unused": "gray"}))
    assert (found["topic 0"], found["topic 1"]) == ("#ff0000", "#008080")
    assert len(set(found.values())) == 3
    taken = colors_of(draw(frame(), color="topic", colors={"topic 2": "#0072b2"}))
    assert len(set(taken.values())) == 3


@pytest.mark.parametrize(
    ("values", "colors"),
    [
        ([0, 1] * 15, {0: "green", 1: "rgb(10, 20, 30)"}),
        ([0, 1, None] * 10, {0: "green", 1: "rgb(10, 20, 30)"}),
        ([False, True] * 15, {False: "green", True: "rgb(10, 20, 30)"}),
    ],
)
def test_numbers_with_colors_are_categories(values: list[Any], colors: dict[Any, str]) -> None:
    """Also those of a column that missing values made one of floats; a missing value stays hollow."""
    data = frame().assign(kind=pd.Series(values, index=range(100, 130)))
    figure = draw(data, color="kind", colors=colors)
    found = colors_of(figure)
    assert [found[str(value)] for value in colors] == ["#008000", "#0a141e"]
    assert [trace.marker.symbol for trace in figure.data].count("square-open") == int(None in values)


def test_a_color_of_a_rare_value_puts_it_into_the_legend() -> None:
    """Of 200 categories 20 are shown: those with a color or a place of their own, then the most frequent."""
    data = frame(600, n_groups=200)
    figure = draw(data, color="topic", colors={"topic 199": "black"}, sort=["topic 198"])
    names = legend_of(figure)
    assert names[0] == "topic 198"
    assert "topic 199" in names
    assert len(names) == 21
    assert names[-1] == "other, 180 values"
    assert sum(len(trace.x) for trace in figure.data) == 600


@pytest.mark.parametrize(
    ("values", "sort", "expected"),
    [
        (["b", "a", "a", "c", "c", "c"], None, ["c", "a", "b"]),
        (["b", "a", "a", "c", "c", "c"], "value", ["a", "b", "c"]),
        (["b", "a", "a", "c", "c", "c"], ["b", "nowhere"], ["b", "c", "a"]),
        ([10, 9, 9, 100, 100, 100], "value", ["9", "10", "100"]),
        ([True, False, False, None, True, True], "value", ["False", "True", "no kind"]),
        (["x", 1, 1, 1, 2.5, "x"], "value", ["1", "2.5", "x"]),
    ],
)
def test_categories_are_sorted_as_asked(values: list[Any], sort: Any, expected: list[str]) -> None:
    """By their rows, by value or as listed."""
    data = frame(6).assign(kind=pd.Series(values, index=range(100, 106), dtype=object))
    assert legend_of(draw(data, color="kind", sort=sort)) == expected


def test_ordered_categories_can_be_sorted_by_their_rows() -> None:
    """Their colors stay those of their order."""
    kinds = pd.Categorical(["low", "high", "high"] * 10, ["low", "high"], ordered=True)
    own, by_count = (draw(frame(), color=kinds, sort=sort) for sort in (None, "count"))
    assert legend_of(own) == ["low", "high"]
    assert legend_of(by_count) == ["high", "low"]
    assert colors_of(own) == colors_of(by_count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "topic", "colors": {"topic 9": "red"}}, "such as 'topic 0', got .'topic 9'"),
        ({"color": "topic", "colors": {"topic 0": "blurple"}}, "got 'blurple'"),
        ({"color": "topic", "colors": {"topic 0": "rgb(0, 0, 300)"}}, "got 'rgb"),
        ({"color": "topic", "colors": ["red"]}, "a dict of values and their colors, got list"),
        ({"color": "topic", "sort": "size"}, "got 'size'"),
        ({"color": "topic", "sort": ["topic 9"]}, "such as 'topic 0'"),
        ({"color": "score", "color_scale": "log", "sort": "value"}, "are for categories"),
        ({"sort": "value"}, "Pass color= too"),
        ({"on_error": "ignore"}, "on_error must be one of 'warn', 'null', 'raise', got 'ignore'"),
    ],
)
def test_colors_and_orders_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(frame(), **options)


def test_topics_have_the_colors_that_are_passed() -> None:
    """By their names, on the points and, dark enough to read, in the text."""
    side = np.arange(120) % 2
    place = np.random.default_rng(0).normal(size=(120, 2)) + 30 * side[:, None]
    words = np.array(["cats purring", "stock market"])[side]
    data = frame(120, n_groups=2).assign(text=words, x=place[:, 0], y=place[:, 1])
    figure = draw(data, coordinates=("x", "y"))
    named = [note.text.partition("<br>")[0] for note in figure.layout.annotations if note.name == "cluster"]
    assert len(named) == 2
    topic = summary(figure).partition("Topics: ")[2].partition(";")[0].rpartition(" ")[0]
    colored = draw(data, colors={topic: "#ff0000"}, coordinates=("x", "y"))
    assert "#ff0000" in str(colored.data[0].marker.colorscale)
    with pytest.raises(InputError, match="colors must have values of the column, such as"):
        draw(data, colors={"no such topic": "red"}, coordinates=("x", "y"))


def test_embeddings_that_are_not_finite_are_left_out_and_counted() -> None:
    """Beside those of zeros and missing ones, each by its reason; the other rows are where they would be without."""
    data = frame()
    cells: list[Any] = data["embedding"].tolist()
    cells[0], cells[1], cells[2], cells[3] = np.full(8, np.nan), np.full(8, np.inf), np.zeros(8), None
    broken = data.assign(embedding=pd.Series(cells, index=data.index))
    with pytest.warns(SkytellsWarning, match="leaves out 2 rows with NaN or infinite numbers in 'embedding'"):
        figure = draw(broken)
    silent = draw(broken, on_error="null")
    for drawn in (figure, silent):
        assert drawn.data[0].customdata.tolist() == list(range(4, 30))
        caption = caption_of(drawn)
        for reason in ("1 row without an", "2 rows with NaN or infinite numbers in the", "1 row with all-zero"):
            assert reason in caption
    np.testing.assert_allclose(np.asarray(figure.data[0].x), np.asarray(draw(data[4:]).data[0].x), atol=1e-4)
    with pytest.raises(InputError, match="got NaN or infinite numbers in 2 rows"):
        draw(broken, on_error="raise")
    with pytest.raises(InputError, match="1 row with all-zero embeddings"):
        draw(broken[2:], on_error="raise")
    assert len(draw(data, on_error="raise").data[0].x) == 30
    assert "1 row with NaN or infinite numbers" in summary(draw(broken[:1], on_error="null"))


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_embeddings_that_are_not_finite_stay_an_error_elsewhere(metric: Any) -> None:
    """A map that left them out changes nothing for methods that need all of them."""
    data = pd.DataFrame({"embedding": [[1.0, 0.0], [np.nan, 1.0], [0.0, 1.0], [0.5, 1.0]], "text": list("abcd")})
    draw(data, on_error="null", metric=metric)
    with pytest.raises(InputError, match="finite numbers"):
        unit_vectors_of(data, "embedding")
