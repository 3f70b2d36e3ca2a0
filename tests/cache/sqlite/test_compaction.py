"""A cache that was pruned gives space back to the disk, in steps, whatever version made the file."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from skytells_nb.cache import SqliteStore
from skytells_nb.cache.sqlite import queries
from skytells_nb.errors import CacheError

VALUE = 3_000


def rows(start: int, count: int) -> list[tuple[bytes, bytes]]:
    return [(number.to_bytes(32, "big"), os.urandom(VALUE)) for number in range(start, start + count)]


def filled(path: Path, count: int = 4_000, *, old_form: bool = False) -> SqliteStore:
    """Return a store of so many responses; files of earlier versions cannot give back pages in steps."""
    store = SqliteStore(path)
    store.put_many(rows(0, 1))
    if old_form:
        store.close()
        plain = sqlite3.connect(path, isolation_level=None)
        plain.execute("pragma auto_vacuum = none")
        plain.execute("vacuum")
        assert plain.execute("pragma auto_vacuum").fetchone() == (0,)
        plain.close()
        store = SqliteStore(path)
    for start in range(1, count, 1_000):
        store.put_many(rows(start, min(1_000, count - start)))
    return store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


def test_a_new_file_shrinks_to_what_is_left(path: Path) -> None:
    """Also where little of it is freed."""
    store = filled(path)
    before = store.stats()
    assert before.file_bytes >= 4_000 * VALUE
    assert store.prune(max_bytes=3_000 * VALUE) == 1_000
    after = store.stats()
    assert after.free_bytes == 0
    assert 3_000 * VALUE < after.file_bytes < 3_500 * VALUE
    assert path.stat().st_size == after.file_bytes
    assert all(value is not None for value in store.get_many([key for key, _ in rows(1_000, 3_000)]))
    store.close()


def test_an_older_file_says_what_is_free_and_is_rewritten_on_demand(path: Path) -> None:
    store = filled(path, old_form=True)
    assert store.prune(max_bytes=3_000 * VALUE) == 1_000
    half = store.stats()
    assert half.free_bytes > 900 * VALUE
    assert path.stat().st_size >= 4_000 * VALUE
    assert store.prune(compact=True) == 0
    after = store.stats()
    assert after.free_bytes == 0
    assert path.stat().st_size == after.file_bytes < 3_500 * VALUE
    # From now on it shrinks in steps.
    assert store.prune(max_bytes=2_500 * VALUE) == 500
    assert path.stat().st_size < 2_900 * VALUE
    store.close()


@pytest.mark.parametrize("old_form", [False, True])
def test_progress_counts_bytes_up_to_the_total(path: Path, old_form: bool) -> None:
    store = filled(path, old_form=old_form)
    seen: list[tuple[int, int]] = []
    store.prune(max_bytes=1_000 * VALUE, compact=True, on_progress=lambda done, total=None: seen.append((done, total)))
    removing = [event for event in seen if event[0] <= 3_000 * VALUE]
    assert len(removing) >= 2
    assert removing == sorted(removing)
    assert removing[0][1] == 3_000 * VALUE
    if not old_form:
        assert seen == sorted(seen)
        assert seen[-1][0] == seen[-1][1] > 5_000 * VALUE
    store.close()


@pytest.mark.parametrize("old_form", [False, True])
def test_others_read_and_write_meanwhile(path: Path, old_form: bool) -> None:
    store = filled(path, old_form=old_form)
    other = SqliteStore(path)
    ended = threading.Event()
    problems: list[BaseException] = []
    written = [0]

    def work() -> None:
        try:
            while not ended.is_set():
                batch = rows(100_000 + written[0], 5)
                other.put_many(batch)
                assert other.get_many([key for key, _ in batch]) == [value for _, value in batch]
                written[0] += 5
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    while not written[0] and thread.is_alive():
        time.sleep(0.01)
    store.prune(max_bytes=2_000 * VALUE, compact=True)
    ended.set()
    thread.join()
    assert problems == []
    assert other.unsaved == 0
    # Where the disk lets pruning wait, more is written meanwhile than may stay, and the oldest of it goes too.
    keys = [key for key, _ in rows(0, 4_000) + rows(100_000, written[0])]
    remained = [value is not None for value in other.get_many(keys)]
    assert remained == sorted(remained)
    assert sum(remained) >= 2_000
    assert store.stats().bytes <= 2_000 * VALUE + written[0] * VALUE
    other.close()
    store.close()
    plain = sqlite3.connect(path)
    assert plain.execute("pragma integrity_check").fetchone() == ("ok",)
    plain.close()


def test_a_reader_with_an_old_snapshot_keeps_the_file_large_and_nothing_fails(path: Path) -> None:
    store = filled(path, 2_000)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("begin")
    assert reader.execute("select count(*) from answers").fetchone() == (2_000,)
    assert store.prune(max_bytes=0) == 2_000
    assert reader.execute("select count(*) from answers").fetchone() == (2_000,)
    reader.close()
    store.prune(compact=True)
    assert path.stat().st_size < 100 * VALUE
    store.close()


FULL = """
import os, sys
from pathlib import Path
from skytells_nb.cache import SqliteStore
from skytells_nb.errors import CacheError
path = Path(sys.argv[1]) / "answers.sqlite"
store = SqliteStore(path)
filler = os.open(path.with_name("filler"), os.O_CREAT | os.O_WRONLY)
try:
    while True:
        os.write(filler, bytes(4096))
except OSError:
    pass
before = path.stat().st_size
print(store.prune(max_bytes=3_000_000, compact=True), path.stat().st_size < before)
print(store.stats().entries)
"""


@pytest.mark.parametrize("old_form", [False, True])
def test_a_full_disk_gets_space_back(tmp_path: Path, old_form: bool) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root mounts a small disk")
    try:
        filled(disk / "answers.sqlite", 2_000, old_form=old_form).close()
        done = subprocess.run(
            [sys.executable, "-c", FULL, str(disk)], capture_output=True, text=True, timeout=120, check=False
        )
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1000 True", "1000"]


SLOW = """
import sys, time
from skytells_nb.cache import SqliteStore
store = SqliteStore(sys.argv[1])
def on_progress(done, total=None):
    print("step", flush=True)
    time.sleep(600)  # until the interrupt
try:
    store.prune(compact=True, on_progress=on_progress)
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(store.stats().entries, flush=True)
"""


def test_ctrl_c_ends_rewriting_a_file(path: Path) -> None:
    """Nothing is lost, and the store is usable."""
    filled(path, old_form=True).close()
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "step\n"
    child.send_signal(signal.SIGINT)
    said = [line for line in child.communicate()[0].splitlines() if line != "step"]
    assert said == ["interrupted", "4000"]


def test_where_another_process_locks_the_file_compacting_on_demand_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pruning itself, which was not asked to compact, leaves the pages for new responses."""
    store = filled(path, 50)

    def locked(*_: object, **__: object) -> None:
        problem = sqlite3.OperationalError("database is locked")
        problem.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise problem

    monkeypatch.setattr(queries, "file_size", locked)
    with pytest.raises(CacheError, match="another process locked it"):
        store.prune(compact=True)
    store.close()
