"""Methods on one batch of rows, as engines call them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import skytells_nb as sky
from skytells_nb.errors import InputError
from skytells_nb.local.server import LocalServer
from skytells_nb.partition import INSTEAD, ROW_METHODS, enrich
from skytells_nb.session import Session

CLASSIFY = {"method": "classify", "column": "text", "labels": ["cat", "dog"]}
TABLE = pa.table(
    {
        "id": pa.array([7, 8, 9], pa.int32()),
        "text": ["a cat", "a dog", None],
        "when": pa.array([1, 2, None], pa.timestamp("ms", "UTC")),
    }
)


def test_vectors_are_a_fixed_size_list(session: Session) -> None:
    """And the other columns stay as they are, types and all."""
    result = enrich(TABLE, "embed", column="text")
    assert result.drop_columns("embedding").equals(TABLE)
    assert result.schema.field("embedding").type == pa.list_(pa.float32(), 512)
    expected = sky.frame(TABLE.to_pandas()).embed("text", progress=False)["embedding"]
    assert result["embedding"].to_pylist()[:2] == [row.tolist() for row in expected[:2]]
    assert result["embedding"].null_count == 1


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch, pd.DataFrame])
def test_a_batch_comes_back_as_its_kind(session: Session, kind: type) -> None:
    """Also an empty one, and an index of pandas is kept."""
    batch: Any = TABLE.to_pandas().set_index("id") if kind is pd.DataFrame else TABLE
    batch = batch.to_batches()[0] if kind is pa.RecordBatch else batch
    for rows in (batch, batch[:0]):
        result = enrich(rows, "classify", column="text", labels=["cat", "dog"], via="embedding")
        assert isinstance(result, kind)
        assert len(result) == len(rows)
    if kind is pd.DataFrame:
        assert enrich(batch, "embed", column="text").index.equals(batch.index)


def test_labels_are_a_dictionary_with_all_of_them(session: Session) -> None:
    result = enrich(TABLE, "classify", column="text", labels=["cat", "dog", "fish"], via="embedding")
    labels = result["label"].combine_chunks()
    assert labels.to_pylist() == ["cat", "dog", None]
    assert labels.dictionary.to_pylist() == ["cat", "dog", "fish"]


def test_a_column_that_is_made_again_takes_its_place(session: Session) -> None:
    once = enrich(TABLE, "embed", column="text", dimensions=8)
    again = enrich(once, "embed", column="text", dimensions=16)
    assert again.column_names == once.column_names
    assert again.schema.field("embedding").type == pa.list_(pa.float32(), 16)


@pytest.mark.parametrize("method", ["moderate", "score", "complete", "translate", "extract", "filter"])
def test_every_method_that_works_by_row_gives_the_rows_of_pandas(
    session: Session, chat_weights: Path, method: str
) -> None:
    options: dict[str, dict[str, Any]] = {
        "moderate": {"column": "text"},
        "score": {"column": "text", "criterion": "how good", "low": 1, "high": 3},
        "complete": {"template": "{text}", "schema": {"legs": int, "names": list[str]}, "max_tokens": 30},
        "translate": {"column": "text", "to": "German", "max_tokens": 10},
        "extract": {"column": "text", "schema": {"animal": str}, "max_tokens": 30},
        "filter": {"column": "text", "question": "Is it a cat?", "max_tokens": 10},
    }
    chosen = options[method]
    result = enrich(TABLE, method, on_error="null", **chosen)  # type: ignore[arg-type]
    more = {"flatten": True} if method == "complete" else {}
    frame = pd.DataFrame({"text": ["a cat", "a dog", None]})
    expected = getattr(sky.frame(frame), method)(on_error="null", progress=False, **chosen, **more)
    assert result["id"].to_pylist() == [7 + row for row in expected.index]
    for name in expected.columns.difference(["text"]):
        assert [None if value is None else value for value in result[name].to_pylist()] == [
            None if value is None or value is pd.NA or value != value else value for value in expected[name].tolist()
        ]


def test_methods_that_need_all_rows_say_what_to_do(session: Session) -> None:
    """Every other method of the accessor has such a word, and is not in the list of those that work by row."""
    for method in INSTEAD:
        with pytest.raises(InputError, match="needs all rows"):
            enrich(TABLE, method, column="text")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="method must be one of classify, complete"):
        enrich(TABLE, "bogus", column="text")  # type: ignore[arg-type]
    assert not set(INSTEAD) & set(ROW_METHODS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "embed", "column": "nope"}, "no column 'nope'"),
        ({"method": "embed", "column": "text", "dtype": "numpy"}, "dtype must be"),
        ({"method": "embed", "column": "text", "to": "x.parquet"}, "to must be left out"),
        ({"method": "complete", "template": "{text}", "dry_run": True}, "dry_run must be left out"),
        (CLASSIFY | {"agree": 0.95}, "agree learns from all rows, and a partition has some of them"),
        (CLASSIFY | {"confidence": "proxy"}, "confidence='proxy' learns from all rows"),
        ({"method": "complete", "template": "{text}", "schema": {"a": int}, "flatten": False}, "flatten must be"),
        ({"method": "embed", "column": "text", "columns": 3}, "Unknown keyword 'columns'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    session: Session, server: LocalServer, options: dict[str, Any], message: str
) -> None:
    server.stats.reset()
    with pytest.raises(InputError, match=message):
        enrich(TABLE, **options)
    with pytest.raises(InputError, match="batch must be a pyarrow Table"):
        enrich([1, 2], "embed", column="text")  # type: ignore[list-item]
    assert not server.stats.records


RAY = """
import functools, ray, pandas as pd
from skytells_nb.partition import enrich
ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
ds = ray.data.from_pandas(pd.DataFrame({"id": range(60), "text": [f"text {n % 10}" for n in range(60)]})).repartition(3)
ds = ds.map_batches(functools.partial(enrich, method="embed", column="text"), batch_format="pyarrow")
rows = sorted(ds.take_all(), key=lambda row: row["id"])
print([row["id"] for row in rows] == list(range(60)), len(rows[0]["embedding"]), ds.schema().types[-1])
"""


@pytest.mark.slow
def test_ray_maps_it_over_its_batches(server: LocalServer, tmp_path: Path) -> None:
    """The two lines of docs/operations.md, where Ray is installed; each text is paid for once."""
    pytest.importorskip("ray")
    server.stats.reset()
    environment = {
        **os.environ,
        "SKYTELLS_API_KEY": server.api_key,
        "SKYTELLS_BASE_URL": server.base_url,
        "SKYTELLS_CACHE": str(tmp_path / "answers.sqlite"),
        "PYTHONPATH": str(Path(sky.__file__).parent.parent),
    }
    done = subprocess.run([sys.executable, "-c", RAY], capture_output=True, text=True, env=environment, timeout=110)
    assert done.stdout.split() == ["True", "512", "fixed_size_list<item:", "float>[512]"], done.stderr
    assert sum(record.inputs for record in server.stats.records) == 10
