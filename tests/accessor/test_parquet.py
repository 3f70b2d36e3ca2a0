"""Embeddings straight into a Parquet file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from local_fakes import HashEmbedder
from served import KEY, connected, served, wait_until_idle

import skytells_nb  # noqa: F401
from skytells_nb import columns
from skytells_nb.accessor.results import parquet
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
        ("others", "v", "which is not a part of this call"),
        (7, "v", "path of a Parquet"),
        ("a", 3, "into must be a string"),
        ("v.csv", "v", "must end in .parquet"),
        ("v.parquet.gz", "v", "must end in .parquet"),
        ("v.FEATHER", "v", "must end in .parquet"),
        ("v.arrow", "v", "must end in .parquet"),
        ("a\0.parquet", "v", "must be the path of a file"),
        (f"{'x' * 300}.parquet", "v", "must be the path of a file"),
        ("/dev/null", "v", "regular file"),
        ("~nobody-of-this-name/v.parquet", "v", "must be the path of a file"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any, into: Any, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("others").mkdir()
    Path("others", "notes.txt").write_text("of another program")
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


@pytest.mark.parametrize("name", ["v", "v.PARQUET", "v.pq", "v.parq", "v.snappy.parquet", f"{'ö' * 110}.parquet"])
def test_what_the_file_may_be_called(tmp_path: Path, name: str) -> None:
    with served() as server, connected(server, "memory"):
        path = pd.DataFrame({"text": texts(3)}).skytells.embed("text", to=tmp_path / name, progress=False)
    assert pd.read_parquet(path)["embedding"].notna().all()


KILLED = """
import sys
import pandas as pd
import skytells_nb as sky
from skytells_nb.accessor.results import parquet

parquet.ROWS_PER_GROUP = 1
session = sky.connect(sys.argv[4], base_url=sys.argv[1], cache="memory", inputs_per_request=2)
class Stop:
    def __init__(self): self.n = 0
    def __call__(self, event):
        if event.done >= int(sys.argv[3]):
            print("go", flush=True)
            import time; time.sleep(60)
frame = pd.DataFrame({"text": [f"word{n}" for n in range(40)]})
if int(sys.argv[3]) < 0:
    write = parquet._vectors
    def wait(*arguments):
        print("go", flush=True)
        import time; time.sleep(60)
    parquet._vectors = wait
    frame.skytells.embed("text", to=sys.argv[2], progress=False)
frame.skytells.embed("text", to=sys.argv[2], progress=Stop())
"""


@pytest.mark.skipif(os.name != "posix", reason="a file in use cannot be removed elsewhere")
@pytest.mark.parametrize("when", ["sending", "writing"])
def test_a_killed_call_leaves_nothing_once_the_next_begins(tmp_path: Path, when: str) -> None:
    """While vectors are collected there is nothing to see; what was being written is removed by the next call."""
    folder = tmp_path / "out"
    folder.mkdir()
    path = folder / "v.parquet"
    (folder / ".v.parquet.0123456789abcdef0123456789abcdef.vectors").write_bytes(b"left by an older version")
    (folder / ".v.parquet.notes").write_text("somebody's own")
    with served("latency=0.01") as server, connected(server, "memory"):
        command = [sys.executable, "-c", KILLED, server.base_url, str(path), "4" if when == "sending" else "-1", KEY]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"go\n"
            meanwhile = set(os.listdir(folder))
            running = sorted(name for name in meanwhile if name.endswith((".vectors", ".unfinished")))
            assert len(running) == (1 if when == "writing" else 0)
            # Another call with the same path leaves the file alone that is being written.
            pd.DataFrame({"text": texts(3)}).skytells.embed("text", to=path, progress=False)
            assert set(running) <= set(os.listdir(folder))
            process.kill()
        pd.DataFrame({"text": texts(3)}).skytells.embed("text", to=path, progress=False)
    assert sorted(os.listdir(folder)) == [".v.parquet.notes", "v.parquet"]


@pytest.mark.skipif(os.name != "posix", reason="limits of the size of files are those of POSIX")
@pytest.mark.parametrize(("cache", "said"), [("off", "stores no answers"), ("memory", "is in the cache; run again")])
def test_on_a_full_disk_it_is_said_where_the_answers_are(tmp_path: Path, cache: str, said: str) -> None:
    code = """
import os, resource, signal, sys
import pandas as pd
import skytells_nb as sky
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sky.connect(sys.argv[5], base_url=sys.argv[1], cache=sys.argv[3], inputs_per_request=4)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]),) * 2)
try:
    frame = pd.DataFrame({"text": [f"word{n} word{n * 3}" for n in range(64)]})
    frame["noise"] = [os.urandom(100) for _ in range(64)]
    frame.skytells.embed("text", to=sys.argv[2], progress=False)
except sky.errors.ScratchFileError as problem:
    print(problem, *getattr(problem, "__notes__", ()))
"""
    size = HashEmbedder().encode(["a"]).nbytes
    with served() as server, connected(server, "memory"):
        for limit in (20 * size, 64 * size + 10):  # full while vectors come, and full while the file is written
            command = [sys.executable, "-c", code, server.base_url, str(tmp_path / "v.parquet"), cache, str(limit), KEY]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
            assert said in done.stdout, done.stdout
            assert done.stdout.count("cache") == 1
            assert "File too large" in done.stdout
    assert os.listdir(tmp_path) == []
