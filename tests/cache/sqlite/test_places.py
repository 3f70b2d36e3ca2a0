"""What a cache path may name by mistake: nothing of anybody's is changed, and the message says what is wrong."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import connected, served

import skytells_nb as sky
from skytells_nb.cache import ReplayStore, SqliteStore, open_store
from skytells_nb.cache.sqlite import store as sqlite_store
from skytells_nb.cache.sqlite.database import connect_in_place, describe_error, foreign_access, may_be_cache
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.errors import CacheError, ConfigurationError, SkytellsWarning

KEY, OTHER = bytes(32), b"\1" * 32


@contextmanager
def every_warning() -> Iterator[list[str]]:
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [str(warning.message) for warning in caught]


def use(path: Path) -> tuple[list[bytes | None], list[str]]:
    """Write and read one response with this cache path; return what is read, and the warnings."""
    with every_warning() as texts:
        store = open_store(path, default_dir=path.parent)
        found = store.get_many([KEY])
        store.put_many([(KEY, b"paid")])
        found += store.get_many([KEY])
        store.close()
    return found, texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("reviews.csv", b"id,text\n" + b"1,my only copy\n" * 500),
        ("notes.txt", b"a"),
        ("short", b"SQLite format 3"),
        ("photo.png", b"\x89PNG\r\n\x1a\n" + bytes(5000)),
        ("answers.sqlite.bak", b"not a database " * 100),
        ("data.parquet", b"PAR1" + os.urandom(9000) + b"PAR1"),
        ("cache.sqlite", b'{"settings": true}' * 50),
    ],
)
def test_a_file_of_somebody_is_left_as_it_is(tmp_path: Path, name: str, content: bytes) -> None:
    """What is paid for meanwhile is held in memory."""
    path = tmp_path / name
    path.write_bytes(content)
    found, texts = use(path)
    assert found == [None, b"paid"]
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == [name]
    (text,) = texts
    assert f"{path} is not a cache and was not changed; choose another path" in text
    with pytest.raises(CacheError, match="is not a cache"):
        SqliteStore(path).prune(max_bytes=0)
    assert path.read_bytes() == content


@pytest.mark.parametrize("kind", ["csv", "pipe", "database", "link to a device"])
def test_no_profile_is_kept_beside_what_is_no_cache(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mine"
    if kind == "csv":
        path.write_bytes(b"id,text\n" * 500)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "database":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table photos (name text)")
    else:
        path.symlink_to(os.devnull)
    assert not may_be_cache(path)
    with served() as server, connected(server, path) as session, warnings.catch_warnings(record=True):
        assert session.engine.run(completion_job("gpt-5"), ["a"]).values[0]
    assert os.listdir(tmp_path) == ["mine"]
    assert not Path(f"{os.devnull}.profiles.json").exists()


def test_where_a_cache_is_or_can_be_profiles_are_kept_beside_it(tmp_path: Path) -> None:
    for name in ("new.sqlite", "empty", "new.sqlite"):
        if name == "empty":
            (tmp_path / name).touch()
        assert may_be_cache(tmp_path / name)
        use(tmp_path / name)


@pytest.mark.parametrize("spec", [5, True, ["a.sqlite"], object()])
def test_what_is_no_path_is_refused(spec: Any, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=f"cache must be a path.*got {type(spec).__name__}"):
        sky.connect("sk-x", base_url="http://127.0.0.1:1", cache=spec)
    with pytest.raises(CacheError, match=f"cache must be a path.*got {type(spec).__name__}"):
        open_store(spec, default_dir=tmp_path)


def test_a_path_of_bytes_and_the_name_that_sqlite_has_for_memory(tmp_path: Path) -> None:
    store = open_store(os.fsencode(tmp_path / "b.sqlite"), default_dir=tmp_path)  # type: ignore[arg-type]
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "b.sqlite"
    assert open_store(":memory:", default_dir=tmp_path).url == "memory://"
    with pytest.raises(ConfigurationError, match="an address of the kind file:"):
        open_store("file:a.sqlite?mode=ro", default_dir=tmp_path)


def test_words_on_a_full_disk_are_true_where_sqlite_has_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the memory that processes share beside the file cannot grow, it says that input or output failed."""
    problem = sqlite3.OperationalError("disk I/O error")
    problem.sqlite_errorcode = sqlite3.SQLITE_IOERR
    assert describe_error(problem, tmp_path / "c.sqlite") == "disk I/O error; choose another path"
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4096))
    assert describe_error(problem, tmp_path / "c.sqlite") == "the disk is full; free some space"


def test_a_damaged_database_of_another_program_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table photos (name text)")
        connection.executemany("insert into photos values (?)", [("x" * 500,)] * 500)
        connection.commit()
    damaged = bytearray(path.read_bytes())
    damaged[100:4000] = random.Random(1).randbytes(3900)
    path.write_bytes(damaged)
    assert use(path)[0] == [None, b"paid"]
    assert path.read_bytes() == damaged
    assert not list(tmp_path.glob("*.corrupt-*"))


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_cache_of_any_name_is_set_aside(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "mine"
    store = SqliteStore(path)
    store.put_many([(bytes([n]) * 32, os.urandom(5000)) for n in range(200)])
    store.close()
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    else:
        with path.open("r+b") as file:
            file.seek(100)
            file.write(random.Random(2).randbytes(3000))
    assert use(path)[0] == [None, b"paid"]
    assert len(list(tmp_path.glob("mine.corrupt-*"))) == 1


def test_a_cache_in_use_that_becomes_something_else_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was opened, so it was a cache, whatever is left of it."""
    monkeypatch.setattr(sqlite_store, "CHECK_FILE_EVERY_S", 0.0)
    path = tmp_path / "mine"
    store = SqliteStore(path)
    store.put_many([(bytes([n]) * 32, os.urandom(5000)) for n in range(200)])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(passive)")
    store.put_many([(KEY, b"seen")])
    path.write_bytes(b"shorter")
    store.put_many([(OTHER, b"new")])
    with pytest.warns(SkytellsWarning, match="renamed"):
        store.emit_warnings()
    store.close()
    assert use(path)[0] == [None, b"paid"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_or_a_device_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    plug = socket.socket(socket.AF_UNIX)
    plug.bind(str(tmp_path / "socket"))
    folder = tmp_path / "folder" / "answers.sqlite"
    folder.mkdir(parents=True)
    for path, kind in [
        (pipe, "a pipe"),
        (Path("/dev/null"), "a device or socket"),
        (Path("/dev/zero"), "a device or socket"),
        (tmp_path / "socket", "a device or socket"),
        (folder.parent, "a folder"),
    ]:
        mode = stat.S_IFMT(path.stat().st_mode)
        found, texts = use(path)
        assert found == [None, b"paid"]
        assert len(texts) == 1
        assert f"must be a file, got {kind}, which was not changed" in texts[0]
        assert stat.S_IFMT(path.stat().st_mode) == mode
    plug.close()


@pytest.mark.parametrize("spec", ["a\0b", "x" * 5000, "x" * 250, "~nobody-of-this-name/x", "x/" * 3000])
def test_a_path_that_no_file_can_have_is_rejected_at_once(tmp_path: Path, spec: str) -> None:
    for call in (
        lambda: open_store(spec, default_dir=tmp_path),
        lambda: open_store(f"replay:{spec}", default_dir=tmp_path),
        lambda: open_store(None, default_dir=Path(spec * 2)),
    ):
        with pytest.raises(CacheError, match=r"cache must be a (shorter path|valid file path), got") as caught:
            call()
        assert len(str(caught.value)) < 600


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners of files are those of POSIX")
def test_a_file_that_others_may_write_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    assert use(path) == ([None, b"paid"], [])
    path.chmod(0o666)
    found, texts = use(path)
    assert found == [b"paid"] * 2
    (text,) = texts
    assert f"The cache {path} may be written by other users" in text
    path.chmod(0o644)
    assert use(path)[1] == []
    path.chmod(0o600)
    tmp_path.chmod(0o777)
    assert "in a folder in which other users may replace it" in use(path)[1][0]
    tmp_path.chmod(0o1777)
    assert use(path)[1] == []
    assert foreign_access(tmp_path / "none") is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    use(path)
    os.chown(path, 1234, 1234)
    found, texts = use(path)
    assert found == [b"paid"] * 2
    assert "belongs to another user" in texts[0]


def test_a_recording_with_an_odd_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="shorter path"):
        ReplayStore(tmp_path / ("x" * 300))


FULL = """
import os, sys
from pathlib import Path
from skytells_nb.cache import SqliteStore

path = Path(sys.argv[1]) / "answers.sqlite"
store = SqliteStore(path)
for start in range(0, 200, 20):
    store.put_many([((start + n).to_bytes(32, "big"), os.urandom(3000)) for n in range(20)])
store.close()
store = SqliteStore(path)
store.stats()
filler = os.open(path.with_name("filler"), os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    pass
before = path.stat().st_size
print(store.prune(max_bytes=100_000), store.stats().entries, path.stat().st_size < before)
last = (199).to_bytes(32, "big")
print(store.get_many([last])[0] is not None)
store.put_many([(bytes(31) + b"x", b"new")])
store.close()
print(SqliteStore(path).get_many([bytes(31) + b"x"]))
"""


def test_a_cache_is_pruned_on_a_full_disk(tmp_path: Path) -> None:
    """Where not a byte can be added."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk")
    try:
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(disk)], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["167 33 True", "True", "[b'new']"]


def test_a_file_that_another_process_uses_is_not_changed_in_place(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "c.sqlite")
    store.put_many([(KEY, b"paid")])
    with pytest.raises(sqlite3.OperationalError):
        connect_in_place(store.path)
    assert store.get_many([KEY]) == [b"paid"]
    store.close()
    connect_in_place(store.path).close()
    assert use(store.path)[0] == [b"paid"] * 2
