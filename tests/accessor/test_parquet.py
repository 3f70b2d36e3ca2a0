"""Embeddings straight into a Parquet file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from local_fakes import HashEmbedder
from served import connected, served, wait_until_idle

import skytells_nb  # noqa: F401
from skytells_nb import columns
from skytells_nb.accessor import parquet
from skytells_nb.errors import AuthenticationError, InputError, SkytellsWarning


def texts(count: int) -> list[str]:
    return [f"word{n} and word{n * 7 % 50}" for n in range(count)]


def test_the_file_holds_the_frame_and_each_vector_at_its_own_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROWS_PER_GROUP", 16)
    rows: list[Any] = [*texts(50), None, *texts(10)]
    frame = pd.DataFrame({"n": range(61), "text": rows}, index=pd.RangeIndex(100, 161, name="id"))
    with served() as server, connected(server, tmp_path / "c.sqlite", inputs_per_request=7):
        path = frame.skytells.embed("text", to=tmp_path / "out.parquet", progress=False)
        assert wait_until_idle(server, "embeddings").inputs == 50
    assert path == tmp_path / "out.parquet"
    back = pd.read_parquet(path)
    pd.testing.assert_frame_equal(back[["n", "text"]], frame)
    matrix, valid = columns.to_matrix(back["embedding"])
    assert valid.tolist() == [row is not None for row in rows]
    assert np.array_equal(matrix, HashEmbedder().encode([row for row in rows if row is not None]))
    assert pq.ParquetFile(path).num_row_groups == 4
    assert frame.skytells.report.answered == 60


def test_nothing_but_the_file_is_left_behind(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with served() as server, connected(server, "memory"):
        pd.DataFrame({"text": texts(5)}).skytells.embed("text", to=str(folder / "v.parquet"), progress=False)
    assert os.listdir(folder) == ["v.parquet"]


def test_a_run_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "v.parquet").write_text("earlier")
    with served("status=401") as server, connected(server, "memory"), pytest.raises(AuthenticationError):
        pd.DataFrame({"text": texts(5)}).skytells.embed("text", to=folder / "v.parquet", progress=False)
    assert os.listdir(folder) == ["v.parquet"]
    assert (folder / "v.parquet").read_text() == "earlier"


def test_half_cached_rows_come_out_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": texts(60)})
    with served() as server, connected(server, tmp_path / "c.sqlite"):
        frame.iloc[::2].skytells.embed("text", progress=False)
        path = frame.skytells.embed("text", to=tmp_path / "v.parquet", progress=False)
    matrix, valid = columns.to_matrix(pd.read_parquet(path)["embedding"])
    assert valid.all()
    assert np.array_equal(matrix, HashEmbedder().encode(texts(60)))


def test_rows_that_fail_are_null(tmp_path: Path) -> None:
    with served("status=500") as server, connected(server, "memory", max_retries=0):
        frame = pd.DataFrame({"text": texts(3)})
        with pytest.warns(SkytellsWarning, match="3 of 3 rows"):
            path = frame.skytells.embed("text", to=tmp_path / "v.parquet", progress=False)
    assert pd.read_parquet(path)["embedding"].isna().all()


@pytest.mark.parametrize(
    ("to", "into", "reason"),
    [
        ("nowhere/v.parquet", "v", "must be in a folder that exists"),
        (".", "v", "must be the path of a file, got the folder"),
        (7, "v", "path of a Parquet"),
        ("a", 3, "into must be a string"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any, into: Any, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with served() as server, connected(server, "memory"):
        with pytest.raises(InputError, match=reason):
            pd.DataFrame({"text": texts(3)}).skytells.embed("text", to=to, into=into, progress=False)
        assert server.stats["embeddings"].requests == 0


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"text": ["a"], "n": [1j]}),
        pd.DataFrame({"text": ["a"], 3: [1]}),
        pd.DataFrame({"text": ["a", "b"], "mixed": [1, "x"]}),
    ],
    ids=["complex", "number as a name", "mixed"],
)
def test_a_frame_that_parquet_cannot_hold_is_refused_before_anything_is_sent(
    tmp_path: Path, frame: pd.DataFrame
) -> None:
    with served() as server, connected(server, "memory"):
        with pytest.raises(InputError, match=r"Parquet cannot store|string column names"):
            frame.skytells.embed("text", to=tmp_path / "v.parquet", progress=False)
        assert server.stats["embeddings"].requests == 0
