"""The names on an explorer's map, the colors that it begins with, and what a saved one begins with."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

import skytells_nb  # noqa: F401  (registers the accessor)
from skytells_nb import plots
from skytells_nb.errors import InputError
from skytells_nb.plots.pages.rows import attached_rows
from skytells_nb.widgets.explorer.explorer import Explorer

WORDS = ("kitten whiskers purring", "dividend stock market", "guitar melody <script>")


def islands(rows: int = 40) -> pd.DataFrame:
    """Three islands of rows whose texts have words of their own."""
    generator = np.random.default_rng(7)
    group = np.repeat(np.arange(3), rows)
    centers = np.array([[0.0, 0.0], [30.0, 5.0], [10.0, 40.0]])
    places = centers[group] + generator.normal(0, 1.5, (3 * rows, 2))
    vectors = np.eye(3, dtype=np.float32)[group] + generator.normal(0, 0.05, (3 * rows, 3)).astype(np.float32)
    texts = [f"{WORDS[at]} number {number}" for number, at in enumerate(group)]
    return pd.DataFrame({"text": texts, "x": places[:, 0], "y": places[:, 1], "embedding": list(vectors)})


def test_topics_are_those_of_the_static_map() -> None:
    """The same names and counts as ``plots.semantic_map`` writes, at the places of their rows."""
    frame = islands()
    with Explorer(frame, coordinates=("x", "y")) as explorer:
        topics = explorer.widget.topics
        summary = plots.summary(plots.semantic_map(frame, coordinates=("x", "y")))
        points = explorer._points.astype(np.int64)
        frozen = explorer.freeze()

    assert len(topics) == 3
    for topic in topics:
        assert f"{topic['name']} {topic['count']}" in summary
        group = next(at for at, words in enumerate(WORDS) if topic["name"].split(",")[0].split(" ")[0] in words)
        own = points[group * 40 : (group + 1) * 40]
        assert (own.min(axis=0) <= topic["place"]).all()
        assert (topic["place"] <= own.max(axis=0)).all()
    assert f"Topics: {topics[0]['name']} (40)" in frozen.text
    assert "<script>" not in frozen.html()


def test_clusters_are_the_topics_where_the_frame_has_them() -> None:
    """The names that ``cluster`` gave, and its column colors the map at once."""
    frame = islands()
    names = np.array(["cats", "money", "<b>music</b>"])[np.repeat(np.arange(3), 40)]
    frame["topic"] = pd.Categorical(names)
    frame["topic_score"] = 1.0
    with Explorer(frame, coordinates=("x", "y")) as explorer:
        assert explorer.color == "topic"
        assert {topic["name"]: topic["count"] for topic in explorer.widget.topics} == dict.fromkeys(names, 40)
        assert [entry["count"] for entry in explorer.widget.legend["entries"]] == [40] * 3
        assert "<b>" not in explorer.freeze().html()


def test_few_rows_have_no_topics() -> None:
    """Below the number from which a semantic map has them; rows without texts have none either."""
    with Explorer(islands(19), coordinates=("x", "y")) as explorer:
        assert explorer.widget.topics == []
        assert "Topics" not in explorer.freeze().html()
    with Explorer(islands().drop(columns="text"), coordinates=("x", "y")) as explorer:
        assert explorer.widget.topics == []


@pytest.mark.parametrize(
    ("columns", "color"),
    [
        ({"kind": pd.Categorical(["a", "b", "a"])}, "kind"),
        ({"old": pd.Categorical(["a", "b", "a"]), "new": pd.Categorical([1, 2, None])}, "new"),
        ({"kind": pd.Categorical(["a", "b", "a"]), "same": pd.Categorical(["a", "a", None])}, "kind"),
        ({"kind": ["a", "b", "a"], "number": [1, 2, 3]}, None),
        ({"found": pd.Categorical([0, 1, 0], categories=[0, 1]).rename_categories([(1,), (2,)])}, None),
    ],
)
def test_a_column_of_categories_colors_at_once(columns: dict[str, object], color: str | None) -> None:
    """The newest with more than one value; another color, or one color, can be chosen."""
    frame = pd.DataFrame({"embedding": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], **columns})
    with Explorer(frame, method="pca") as explorer:
        assert explorer.color == color
        explorer.color = None
        assert explorer.widget.legend == {"kind": "none"}


def test_a_saved_explorer_hides_the_view_that_is_lost() -> None:
    """The output two before the table, which is the widget's, unless it is shown."""
    with Explorer(islands(), coordinates=("x", "y")) as explorer:
        image, table = explorer._static_bundles()
        name = explorer.widget.saved_class

    child = ".jp-OutputArea-child"
    lost = f"{child}:has(+ {child} + {child} .{name}):not(:has(.skytells-explorer))"
    assert table["text/html"].endswith(f"<style>{lost}{{display: none !important}}</style>")
    assert set(image) == {"image/png", "text/plain"}
    assert "<style>" not in explorer.freeze().mime_bundles()[1]["text/html"]


def halves(rows: int = 120) -> pd.DataFrame:
    """Two clusters of rows, each of two subjects with vectors and words of their own."""
    generator = np.random.default_rng(3)
    subjects = ("kitten whiskers", "puppy leash", "dividend market", "mortgage loan")
    subject = np.repeat(np.arange(4), rows // 4)
    vectors = np.eye(4, dtype=np.float32)[subject] + 2 * np.eye(4, dtype=np.float32)[subject // 2 * 2]
    vectors += generator.normal(0, 0.05, vectors.shape).astype(np.float32)
    return pd.DataFrame(
        {
            "text": [f"{subjects[at]} {number}" for number, at in enumerate(subject)],
            "x": 40.0 * (subject // 2) + generator.normal(0, 1, rows),
            "y": 3.0 * (subject % 2) + generator.normal(0, 1, rows),
            "embedding": list(vectors),
            "cluster": pd.Categorical(np.array(["pets", "money"])[subject // 2]),
            "cluster_score": np.float32(1),
        }
    )


def test_parts_of_topics_are_the_same_for_table_map_and_explorer() -> None:
    """A tree of two levels: in ``topics``, on the page of a map, and in the explorer once the page asks for it."""
    frame = halves()
    table = frame.skytells.topics(text="text", levels=2)
    parts = table[table["part_of"].notna()]
    assert table.loc[table["part_of"].isna(), "name"].tolist() == ["money", "pets"]
    assert parts["size"].tolist() == [30, 30, 30, 30]
    assert parts["part_of"].tolist() == ["money", "money", "pets", "pets"]
    assert {name.split(",")[0].split()[0] for name in parts["name"]} == {"dividend", "mortgage", "kitten", "puppy"}
    assert frame.skytells.topics(text="text")["size"].tolist() == [60, 60]
    figure = plots.semantic_map(frame, coordinates=("x", "y"))
    rows = attached_rows(figure)
    assert rows is not None
    assert [name.name for name in rows.names() if name.level == 2] == parts["name"].tolist()
    with Explorer(frame, coordinates=("x", "y")) as explorer:
        assert explorer.widget.parts == []
        explorer._on_message(explorer.widget, {"kind": "parts"}, [])
        deadline = time.monotonic() + 60
        while not explorer.widget.parts and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [part["name"] for part in explorer.widget.parts] == parts["name"].tolist(), explorer.widget.status
        assert [part["count"] for part in explorer.widget.parts] == [30] * 4


def test_parts_need_embeddings() -> None:
    """Nothing is sent, so they are read from a column."""
    frame = halves().drop(columns="embedding")
    with pytest.raises(InputError, match=r"no column 'embedding'.*Pass the column of embeddings as column="):
        frame.skytells.topics(text="text", levels=2)
    with pytest.raises(InputError, match="levels must be 1 or 2, got 3"):
        frame.skytells.topics(text="text", levels=3)
