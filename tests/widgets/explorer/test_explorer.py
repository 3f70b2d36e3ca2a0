"""The explorer from Python: what is selected, near, named, and what is refused."""

from __future__ import annotations

import doctest
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hostile import PAGE_PAYLOADS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from local_fakes import EchoGenerator, HashEmbedder
from served import connected, served, wait_until_idle

from skytells_nb.errors import InputError
from skytells_nb.local.server import LocalServer
from skytells_nb.plots.theme import scale_colors
from skytells_nb.session import Session
from skytells_nb.widgets.explorer.coloring import color_points
from skytells_nb.widgets.explorer.explorer import Explorer
from skytells_nb.widgets.explorer.rows import Rows
from skytells_nb.widgets.explorer.snapshot import HEIGHT, MARGIN, WIDTH, _draw_map
from skytells_nb.widgets.explorer.sync import LinkedViews

TEXTS = ["a red cat", "a blue cat", "a tax form", "form of tax", "red red paint", "the sea"]


class Wide(EchoGenerator):
    context = 100_000


@pytest.fixture
def generator() -> Wide:
    return Wide()


@pytest.fixture
def server(generator: Wide) -> Iterator[LocalServer]:
    with served(generator=generator) as server:
        yield server


@pytest.fixture
def session(server: LocalServer, tmp_path: Path) -> Session:  # type: ignore[override]
    return connected(server, tmp_path / "answers.sqlite")


@pytest.fixture
def frame() -> pd.DataFrame:
    vectors = list(HashEmbedder().encode(TEXTS))
    vectors[5] = None  # type: ignore[assignment]
    columns = {"text": TEXTS, "kind": list("ccttpp"), "size": [1.0, 2.0, 3.0, None, 5.0, 6.0], "embedding": vectors}
    return pd.DataFrame(columns, index=list("uvwxyz"))


@pytest.fixture
def explorer(frame: pd.DataFrame) -> Iterator[Explorer]:
    with Explorer(frame, method="pca") as explorer:
        yield explorer


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}


def until(fact: Callable[[], object]) -> None:
    """Wait for a condition; fail if it does not become true."""
    deadline = time.monotonic() + 60
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def pixels(png: bytes) -> Any:
    """The pixels (height, width, 4) of a PNG without filters."""
    at, data, size = 8, b"", (0, 0)
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        chunk = png[at + 8 : at + 8 + length]
        assert struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0] == zlib.crc32(kind + chunk)
        size = struct.unpack(">II", chunk[:8]) if kind == b"IHDR" else size
        data += chunk if kind == b"IDAT" else b""
        at += 12 + length
    assert size == (WIDTH, HEIGHT)
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(HEIGHT, 1 + 4 * WIDTH)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(HEIGHT, WIDTH, 4)


def points_selected(explorer: Explorer, *points: int) -> None:
    """What the page sends when these points were drawn around."""
    data = memoryview(np.array(points, dtype="<u4").tobytes())
    explorer._on_message(None, {"kind": "select"}, [data])


@pytest.mark.parametrize(
    "wanted",
    [[3, 1, 1], np.array([1, 3]), [False, True, False, True, False, False], pd.Index(["x", "v"])],
    ids=["positions", "array", "mask", "labels"],
)
def test_a_selection_is_a_part_of_the_frame_in_its_order(explorer: Explorer, frame: pd.DataFrame, wanted: Any) -> None:
    """However it was given."""
    explorer.selection = wanted

    assert explorer.selected.tolist() == [1, 3]
    pd.testing.assert_frame_equal(explorer.selection, frame.iloc[[1, 3]])


def test_a_part_of_the_frame_selects_its_rows(explorer: Explorer, frame: pd.DataFrame) -> None:
    """A filtered frame and a mask made of a column both do."""
    explorer.selection = frame[frame["kind"] == "t"]
    assert explorer.selected.tolist() == [2, 3]

    explorer.selection = frame["size"] > 4
    assert explorer.selected.tolist() == [4, 5]


def test_observers_hear_each_change_once(explorer: Explorer) -> None:
    """Also for a change from the page, and not if the same rows are selected again."""
    heard: list[list[int]] = []
    explorer.observe(lambda change: heard.append(change["new"].tolist()), "selected")

    explorer.selected = [2]
    explorer.selected = np.array([2])
    points_selected(explorer, 0, 4)
    explorer.selected = []
    explorer.selected = []

    assert heard == [[2], [0, 4], []]


def test_points_of_the_page_are_rows_that_have_a_vector(frame: pd.DataFrame) -> None:
    """A row without a vector has no point, so the points after it count on."""
    frame = frame.iloc[[5, 0, 1]]
    with Explorer(frame, method="pca") as explorer:
        points_selected(explorer, 0)
        assert explorer.selection["text"].tolist() == ["a red cat"]
        assert "1 without an embedding" in explorer.freeze().caption


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([6], "must be from 0 to 5, got 6"),
        ([-1], "must be from 0 to 5, got -1"),
        ([True], "mask must have a value for each of 6 rows, got 1"),
        ([0.5], r"got \[0.5\]"),
        ("uv", "got 'uv'"),
        ([[1], [2, 3]], "A selection must be positions"),
        (pd.Index(["u", "no"]), "not in the frame's index: 'no'"),
        (pd.Series([True] * 6), "the index of the frame"),
    ],
)
def test_what_selects_nothing_is_refused_and_changes_nothing(explorer: Explorer, wanted: Any, said: str) -> None:
    """The error contains the wrong value."""
    explorer.selected = [0]
    with pytest.raises(InputError, match=said):
        explorer.selected = wanted
    assert explorer.selected.tolist() == [0]


def test_a_question_finds_the_rows_with_the_largest_cosine(
    explorer: Explorer, frame: pd.DataFrame, session: Session
) -> None:
    """The same rows and scores as numpy, with the scores as a column, nearest first."""
    vector = HashEmbedder().encode(["red cat"])[0]
    matrix = np.stack(frame["embedding"].dropna().tolist())
    cosines = matrix @ vector / np.linalg.norm(matrix, axis=1)
    best = np.argsort(-cosines, kind="stable")[:3]

    found = explorer.ask("red cat", k=3)

    assert found["text"].tolist() == [TEXTS[at] for at in best]
    np.testing.assert_allclose(found["score"], cosines[best], rtol=1e-5)
    pd.testing.assert_frame_equal(explorer.nearest, found)


@given(
    matrix=arrays(
        np.float32, st.tuples(st.integers(1, 30), st.integers(1, 4)), elements=st.sampled_from([-1, 0, 1, 2])
    ),
    k=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_the_nearest_of_any_vectors_are_those_of_a_full_sort(matrix: Any, k: int, seed: int) -> None:
    """Ties go to the first row; a vector of zeros as the question is as far from all as right angles."""
    # Rows of zeros have no point, so they are not near to anything.
    matrix[~matrix.any(axis=1), 0] = 1
    vector = np.random.default_rng(seed).integers(-2, 3, matrix.shape[1]).astype(np.float32)
    rows = Rows.read(pd.DataFrame({"embedding": list(matrix)}), "embedding")

    found, scores = rows.nearest(vector, k)

    everything, every_score = rows.nearest(vector, len(matrix))
    assert np.all(np.diff(every_score) <= 0)
    np.testing.assert_array_equal(found, everything[:k])
    lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector)
    wanted = np.divide(matrix @ vector, lengths, out=np.zeros(len(matrix)), where=lengths > 0)
    np.testing.assert_allclose(scores, wanted[found], atol=1e-5)
    ties = [at for at in range(len(found) - 1) if scores[at] == scores[at + 1]]
    assert all(found[at] < found[at + 1] for at in ties)


def test_the_same_question_is_paid_once(explorer: Explorer, session: Session, server: LocalServer) -> None:
    """The second answer comes from the cache and adds nothing to the cost."""
    explorer.ask("red cat")
    explorer.ask("red cat")

    assert wait_until_idle(server, "embeddings").requests == 1
    assert "from the cache" in str(explorer.widget.status)


def test_a_question_of_another_length_says_what_to_give(frame: pd.DataFrame, session: Session) -> None:
    """The dimensions of both, and the arguments that settle it."""
    with Explorer(frame, method="pca", dimensions=4) as explorer:
        with pytest.raises(
            InputError, match=r"'embedding' has 16 dimensions and the question 4: .*model=, dimensions="
        ):
            explorer.ask("red cat")
        assert explorer.nearest.empty


@pytest.mark.parametrize(("question", "k"), [("", 1), ("  ", 1), (None, 1), ("red", 0), ("red", True), ("red", 2.0)])
def test_a_question_without_words_or_rows_is_refused(
    explorer: Explorer, session: Session, server: LocalServer, question: Any, k: Any
) -> None:
    """Before anything is sent."""
    with pytest.raises(InputError):
        explorer.ask(question, k=k)
    assert server.stats["embeddings"].requests == 0


def test_a_name_comes_from_the_texts_of_the_selection(explorer: Explorer, session: Session, generator: Wide) -> None:
    """The model receives only the selected texts; rows, tokens and cost are reported, and the name is stored."""
    explorer.selected = [2, 3]
    name = explorer.name()

    asked = generator.messages[-1][-1]["content"]
    assert sorted(asked.splitlines()) == ['"a tax form"', '"form of tax"']
    assert name.rows == 2
    assert name.tokens_in > 0
    assert name.cost is not None
    assert explorer.cost == pytest.approx(name.cost)
    assert explorer.names.dropna().to_dict() == {"w": name.text, "x": name.text}
    assert name.facts in str(explorer.widget.status)


def test_naming_the_same_rows_again_costs_nothing(explorer: Explorer, session: Session, server: LocalServer) -> None:
    """The answer is in the cache."""
    first, second = explorer.name([0, 1]), explorer.name([1, 0])

    assert wait_until_idle(server, "chat").requests == 1
    assert (second.text, second.cost, second.cached) == (first.text, 0.0, True)


def test_a_name_needs_rows_with_texts(explorer: Explorer, session: Session) -> None:
    """An empty selection is refused, and so is a frame without texts."""
    with pytest.raises(InputError, match="Nothing is selected"):
        explorer.name()
    with Explorer(pd.DataFrame({"embedding": [[1.0, 0.0], [0.0, 1.0]]}), method="pca") as bare:
        with pytest.raises(InputError, match="no column of texts"):
            bare.name([0])
        with pytest.raises(InputError, match="no column of texts"):
            bare.search("x")


@pytest.mark.parametrize("how", ["python", "page"])
def test_what_search_question_and_legend_leave_is_selected(explorer: Explorer, session: Session, how: str) -> None:
    """Without a mouse; whatever was selected before, and after the later of question and search."""

    def shown() -> list[int]:
        explorer.selected = [0]
        if how == "python":
            explorer.select_shown()
        else:
            explorer._on_message(None, {"kind": "select_shown"}, None)
        return explorer.selected.tolist()

    assert shown() == list(range(6))
    explorer.search("RED")
    assert shown() == [0, 4]
    explorer.color = "kind"
    explorer.widget.hidden = [code for code, name in enumerate("ctp") if name == "c"]
    assert shown() == [4]
    nearest = explorer.ask("a tax form", k=3).index
    assert shown() == sorted(at for at in range(1, 6) if "uvwxyz"[at] in nearest and at != 1)
    explorer.search("")
    explorer._on_message(None, {"kind": "clear_question"}, None)
    assert shown() == [2, 3, 4]
    explorer.widget.hidden = []
    assert shown() == list(range(6))


def test_a_search_takes_words_as_they_are(explorer: Explorer, frame: pd.DataFrame) -> None:
    """No regular expression, no matter the case; empty words show every row."""
    assert explorer.search("RED")["text"].tolist() == ["a red cat", "red red paint"]
    assert explorer.search("r.d").empty
    assert explorer.search("(").empty
    pd.testing.assert_frame_equal(explorer.search(""), frame)


def test_a_question_of_the_page_that_fails_is_told_there(explorer: Explorer, tmp_path: Path) -> None:
    """No cell could fail, so the error is the status; the explorer is free for the next question."""
    with served("rate=1,status=402") as server:
        connected(server, tmp_path / "other.sqlite")
        explorer._on_message(None, {"kind": "ask", "text": "red"}, [])
        until(lambda: not explorer.widget.busy)
    assert str(explorer.widget.status).startswith("PaymentRequiredError: ")
    assert explorer.nearest.empty


def test_a_message_that_makes_no_sense_is_answered(explorer: Explorer) -> None:
    """By an error in the status; points that do not exist are left out of a selection."""
    explorer._on_message(None, {"kind": "hover", "point": "x"}, [])
    assert "ValueError" in str(explorer.widget.status)
    points_selected(explorer, 0, 99)
    assert explorer.selected.tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"embedding": "vectors"}, "no column 'vectors'.*skytells.embed"),
        ({"embedding": "text"}, "must be a column of vectors"),
        ({"text": "words"}, "no column 'words'"),
        ({"color": "hue"}, "no column 'hue'"),
        ({"color": "embedding"}, "lists or vectors"),
        ({"coordinates": ("size", "kind")}, "must be numeric"),
        ({"coordinates": ("size", "size"), "text": "text"}, "1 rows have no finite coordinates"),
        ({"coordinates": "size"}, "two columns"),
        ({"method": "tsne"}, "tsne"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(frame: pd.DataFrame, arguments: dict[str, Any], said: str) -> None:
    """The error names the column and what to do."""
    with pytest.raises(InputError, match=said):
        Explorer(frame, **{"method": "pca", **arguments})


def test_something_else_than_a_frame_is_refused() -> None:
    with pytest.raises(InputError, match="must be a DataFrame, got a list"):
        Explorer([1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_frames_of_few_rows_have_a_map(rows: int, frame: pd.DataFrame) -> None:
    """Also one that is empty."""
    with Explorer(frame.iloc[:rows], method="pca") as explorer:
        assert len(explorer.selection) == 0
        assert explorer.freeze().png.startswith(b"\x89PNG")
        assert explorer.freeze().table["total"] == rows


def test_a_column_that_changes_later_changes_nothing_here(frame: pd.DataFrame) -> None:
    """The explorer keeps the rows that it laid out."""
    with Explorer(frame, method="pca") as explorer:
        frame["text"] = "other"
        del frame["kind"]
        explorer.selected = [0]
        assert explorer.selection["text"].tolist() == ["a red cat"]


def test_numbers_get_a_scale_and_words_get_a_colour_each() -> None:
    """The largest number has the last step of the scale, missing ones the gray after it; rare words share one."""
    scale = color_points(pd.Series([0.0, 5.0, 10.0, np.nan, np.inf]), 5)
    assert scale.codes.tolist() == [0, 127, 254, 255, 255]
    assert (scale.legend["low"], scale.legend["high"]) == ("0", "10")

    words = color_points(pd.Series([f"w{n}" for n in range(20)] + ["w3", None]), 22)
    assert words.legend["entries"][0]["name"] == "w3"
    assert [entry["count"] for entry in words.legend["entries"][-2:]] == [8, 1]
    assert len(words.palette) == max(words.codes.tolist()) + 1


def test_dates_and_constant_numbers_get_a_scale() -> None:
    """From the first date to the last; equal numbers are one color."""
    dates = color_points(pd.Series(pd.to_datetime(["2024-01-01", "2024-01-03", None])), 3)
    assert dates.codes.tolist() == [0, 254, 255]
    assert dates.legend["low"].startswith("2024-01-01")
    assert len(set(color_points(pd.Series([7, 7, 7]), 3).codes.tolist())) == 1


def test_vectors_without_a_place_have_no_point_and_are_counted() -> None:
    """Those of zeros, of NaN and of infinite numbers, beside missing ones; the others are not moved."""
    vectors: list[Any] = [[1.0, 0.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], None, [0.0, 1.0]]
    with Explorer(pd.DataFrame({"text": list("abcdef"), "embedding": vectors}), method="pca") as explorer:
        caption = explorer.widget.caption
        assert explorer.freeze().text.count("\n") >= 6
        assert explorer._rows.plotted.tolist() == [0, 5]
    assert "1 without an embedding and 3 with an embedding of zeros, NaN or infinite numbers have no point" in caption


def test_kinds_of_columns_are_those_of_a_semantic_map() -> None:
    """Ordered categories keep their order and get the scale; durations and decimals have one; integers all digits."""
    sizes = pd.Series(pd.Categorical(["XL", "S", "M", "S", None], ["S", "M", "L", "XL"], ordered=True))
    ordered = color_points(sizes, 5)
    assert [(entry["name"], entry["count"]) for entry in ordered.legend["entries"]] == [
        ("S", 2),
        ("M", 1),
        ("XL", 1),
        ("no value", 1),
    ]
    assert ordered.palette[:3] == scale_colors(3)
    for values, low in (
        (pd.to_timedelta([1, 2, 3], "h"), "1:00:00"),
        ([Decimal("0.10"), Decimal(2), Decimal(3)], "0.10"),
    ):
        scale = color_points(pd.Series(values, dtype=None if low == "1:00:00" else object), 3)
        assert scale.legend["kind"] == "numbers"
        assert scale.legend["low"].endswith(low)
    assert color_points(pd.Series([2**53 + 1, 5]), 2).legend["high"] == str(2**53 + 1)


@pytest.mark.parametrize("values", [[1.0, np.nan, 3.0], ["a", None, "b"], [True, None, False]])
def test_a_missing_value_is_hollow(values: list[Any]) -> None:
    """Its code is that of rings, on the page and in the saved image; without missing values there is none."""
    coloring = color_points(pd.Series(values), 3)
    assert coloring.codes.tolist().count(coloring.hollow) == 1
    assert coloring.codes[1] == coloring.hollow == coloring.legend["hollow"]
    assert color_points(pd.Series(values).iloc[[0, 2]], 2).hollow == -1
    points = np.array([[0, 0], [30_000, 30_000], [60_000, 60_000]], dtype=np.uint16)
    image = _draw_map(points, coloring, None)
    (top, middle, bottom) = (int(at) for at in np.linspace(MARGIN, HEIGHT - MARGIN, 3))
    side = (WIDTH - (bottom - top)) // 2
    assert image[middle, WIDTH // 2, 3] == 0
    assert image[middle - 4 : middle + 5, WIDTH // 2 - 4 : WIDTH // 2 + 5, 3].any()
    assert image[top, side, 3] == 255


def test_an_image_and_a_table_are_saved(explorer: Explorer) -> None:
    """The image has the colors of the selected rows, the table the selected rows."""
    explorer.color = "kind"
    explorer.selected = [0, 4]
    saved = explorer.freeze()

    inks = {tuple(color[:3]) for color in pixels(saved.png).reshape(-1, 4).tolist() if color[3] == 255}
    assert inks == {(0x00, 0x72, 0xB2), (0x00, 0x9E, 0x73)}
    assert saved.text.count("\n") == 4
    assert "2 rows selected" in saved.text
    assert "red red paint" in saved.html()


def test_hostile_cells_labels_and_columns_are_text(session: Session, generator: Wide) -> None:
    """In the saved table no tag but its own, and in what the page gets no terminal sequence."""
    bad = list(PAGE_PAYLOADS.values())
    hostile = pd.DataFrame(
        {"<img src=x onerror=1>": bad, "embedding": list(np.eye(len(bad), dtype=np.float32))}, index=bad
    )
    with Explorer(hostile, method="pca", color="<img src=x onerror=1>", title="<script>1</script>") as explorer:
        explorer.selected = range(len(bad))
        explorer.name([0])
        saved = explorer.freeze()
        tags = Tags(saved.html())
        assert tags.found == {"div", "p", "strong", "small", "span", "table", "thead", "tbody", "tr", "th", "td"}
        assert tags.attributes == {"class", "style"}
        cells = [cell for row in explorer.widget.table["rows"] for cell in row["cells"]]
        assert all(cell.isprintable() for cell in cells)


def test_the_state_of_a_large_explorer_is_small() -> None:
    """Points travel in messages: what a notebook saves of the widget does not grow with the rows."""
    n = 20_000
    vectors = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    large = pd.DataFrame({"x": vectors[:, 0], "y": vectors[:, 1], "embedding": list(vectors)})
    with Explorer(large, coordinates=("x", "y"), color="x") as explorer:
        explorer.selected = range(n)
        state = {name: value for name, value in explorer.widget.get_state().items() if name not in ("_esm", "_css")}
        assert len(str(state)) < 20_000


def test_a_closed_explorer_sends_nothing(explorer: Explorer, session: Session, server: LocalServer) -> None:
    """What it held stays readable."""
    explorer.selected = [1]
    explorer.close()
    explorer.close()
    with pytest.raises(InputError, match="closed"):
        explorer.ask("red")
    assert len(explorer.selection) == 1
    assert server.stats["embeddings"].requests == 0


METHODS = ("ask", "name", "search", "select_shown", "figure", "freeze", "close")


def test_every_public_method_is_known_to_the_examples() -> None:
    """One that is added must bring an example."""
    own = {
        key for kind in (Explorer, LinkedViews) for key, value in vars(kind).items() if isinstance(value, FunctionType)
    }
    assert {key for key in own if not key.startswith("_")} == set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_examples_of_the_methods_run(session: Session, name: str) -> None:
    """Each with the result that stands in its docstring."""
    tests = doctest.DocTestFinder(recurse=False).find(getattr(Explorer, name), name, globs={"Explorer": Explorer})
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.failed for result in results) == 0
    assert sum(result.attempted for result in results) > 0


def drawn(figure: Any) -> dict[int, Any]:
    """Of a figure of points, for the position of each row its trace."""
    return {int(at): trace for trace in figure.data for at in trace.customdata}


def test_a_figure_is_the_view(explorer: Explorer, frame: pd.DataFrame, session: Session) -> None:
    """A plain figure with the current points, colors, selection, legend and names."""
    plain = explorer.figure(theme="dark")
    assert type(plain).__name__ == "Figure"
    assert [trace.selectedpoints for trace in plain.data] == [None]
    assert not plain.layout.annotations or all(note.name != "cluster" for note in plain.layout.annotations)

    explorer.color = "kind"
    explorer.selected = [0, 2]
    name = explorer.name()
    explorer.widget.hidden = [1]
    figure = explorer.figure()
    traces = drawn(figure)

    assert sorted(traces) == [0, 1, 2, 3, 4]
    palette = explorer.widget.palette
    assert {at: trace.marker.color for at, trace in traces.items()} == {
        at: palette[code] for at, code in enumerate([0, 0, 1, 1, 2])
    }
    selected = {int(trace.customdata[at]) for trace in figure.data for at in trace.selectedpoints}
    assert selected == {0, 2}
    assert [traces[at].visible for at in range(5)] == [None, None, "legendonly", "legendonly", None]
    assert name.text in [note.text for note in figure.layout.annotations if note.name == "cluster"]


def test_a_figure_of_given_places_has_them(frame: pd.DataFrame) -> None:
    """As they are in the columns, up where y grows."""
    frame = frame.assign(x=range(6), y=[5, 3, 1, 0, 2, 4])
    with Explorer(frame, coordinates=("x", "y")) as explorer:
        explorer.search("red")
        figure = explorer.figure()
    trace = figure.data[0]
    assert (list(trace.x), list(trace.y)) == ([0, 1, 2, 3, 4], [5, 3, 1, 0, 2])
    assert json.loads(figure.to_json())["data"][0]["selectedpoints"] == [0, 4]


def test_naming_the_package_loads_no_explorer() -> None:
    """Neither the widget libraries nor the plots."""
    code = (
        "import sys, skytells_nb.widgets as w; assert 'Explorer' in dir(w);"
        "heavy = ('anywidget', 'umap', 'plotly', 'skytells_nb.widgets.explorer.explorer');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
