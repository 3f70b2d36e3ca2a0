"""A damaged file is never believed and never deleted; a full disk costs no answer."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skytells_nb.cache import SqliteStore
from skytells_nb.cache.sqlite import store as sqlite_store
from skytells_nb.cache.sqlite.database import identity, quarantine
from skytells_nb.errors import SkytellsWarning

ROWS = 600


@contextlib.contextmanager
def every_warning() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def answer(number: int) -> bytes:
    return random.Random(number).randbytes(1_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed file of 600 answers."""
    path = tmp_path / "answers.sqlite"
    store = SqliteStore(path)
    store.put_many([(key(n), answer(n)) for n in range(ROWS)])
    store.close()
    return path


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 6 // 10)


def zero_the_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4_096))


def replace_by_text(path: Path) -> None:
    path.write_text("Not a database at all, but long enough to have a header of a hundred bytes. " * 10)


@pytest.mark.parametrize("damage", [cut, zero_the_header, replace_by_text])
def test_a_damaged_file_is_renamed_and_a_new_one_created(damage: Callable[[Path], None], path: Path) -> None:
    """Renamed as it is, with one warning that gives both names; the new one works."""
    damage(path)
    damaged = path.read_bytes()
    store = SqliteStore(path)
    with every_warning() as caught:
        assert store.get_many([key(n) for n in range(ROWS)]) == [None] * ROWS
        store.put_many([(key(1), b"paid again")])
        assert store.get_many([key(1)]) == [b"paid again"]
    store.close()
    (aside,) = path.parent.glob("answers.sqlite.corrupt-*")
    assert aside.read_bytes() == damaged
    assert [warning.category for warning in caught] == [SkytellsWarning]
    assert str(aside) in str(caught[0].message)
    assert f"a new one was created at {path}:" in str(caught[0].message)


def test_a_file_damaged_under_way_is_set_aside(path: Path) -> None:
    """The process that has it open neither dies nor believes it."""
    store = SqliteStore(path)
    assert store.get_many([key(0)]) == [answer(0)]
    cut(path)
    with pytest.warns(SkytellsWarning, match="renamed"):
        found = store.get_many([key(n) for n in range(ROWS)])
    assert set(found) <= {None, *(answer(n) for n in range(ROWS))}
    store.put_many([(key(5_000), b"new")])
    store.close()
    later = SqliteStore(path)
    assert later.get_many([key(5_000)]) == [b"new"]
    later.close()


def test_a_file_truncated_during_use_is_noticed_by_the_next_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open connection would write on into what is left of it."""
    monkeypatch.setattr(sqlite_store, "CHECK_FILE_EVERY_S", 0.0)
    store = SqliteStore(path)
    store.put_many([(key(5_000), b"before")])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma wal_checkpoint(passive)")
    store.put_many([(key(5_001), b"looked")])
    cut(path)
    store.put_many([(key(5_002), b"after")])
    with pytest.warns(SkytellsWarning, match="renamed"):
        store.emit_warnings()
    store.close()
    later = SqliteStore(path)
    assert later.get_many([key(5_002)]) == [b"after"]
    later.close()


def test_a_pruned_file_is_no_damaged_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_store, "CHECK_FILE_EVERY_S", 0.0)
    store, other = SqliteStore(path), SqliteStore(path)
    store.put_many([(key(5_000), b"before")])
    size = path.stat().st_size
    other.prune(max_bytes=0)
    other.close()
    assert path.stat().st_size < size
    store.put_many([(key(5_001), b"after")])
    store.emit_warnings()
    assert store.get_many([key(5_001)]) == [b"after"]
    store.close()
    assert not list(path.parent.glob("*.corrupt-*"))


def test_two_damages_in_one_second_are_both_kept(path: Path) -> None:
    """No set-aside file takes the name of another."""
    for _ in range(3):
        replace_by_text(path)
        store = SqliteStore(path)
        store.put_many([(key(1), b"x")])
        with pytest.warns(SkytellsWarning, match="renamed"):
            store.emit_warnings()
        store.close()
    assert len(list(path.parent.glob("answers.sqlite.corrupt-*"))) == 3


def test_the_log_is_set_aside_with_its_database(tmp_path: Path) -> None:
    """Left behind, it would be played into the new database of the same name."""
    path = tmp_path / "answers.sqlite"
    for name in ("answers.sqlite", "answers.sqlite-wal", "answers.sqlite-shm"):
        (tmp_path / name).write_text(name)
    aside = quarantine(path, identity(path))
    assert aside is not None
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {
        aside.name: "answers.sqlite",
        f"{aside.name}-wal": "answers.sqlite-wal",
        f"{aside.name}-shm": "answers.sqlite-shm",
    }


def test_a_file_that_took_the_place_of_the_damaged_one_is_left_alone(tmp_path: Path) -> None:
    """Another process has set the damaged one aside already."""
    path = tmp_path / "answers.sqlite"
    path.write_text("damaged")
    damaged = identity(path)
    path.rename(tmp_path / "aside")
    path.write_text("new")
    assert quarantine(path, damaged) is None
    assert path.read_text() == "new"


@pytest.mark.parametrize("seed", [*range(8), 93, 330, 1250])
def test_noise_never_changes_an_answer(seed: int, path: Path) -> None:
    """What comes back from a file with 20 patches of noise is what went in; paid for again, it is there again."""
    noise = random.Random(seed)
    with path.open("r+b") as file:
        for _ in range(20):
            file.seek(noise.randrange(4_096, path.stat().st_size - 64))
            file.write(noise.randbytes(64))
    store = SqliteStore(path)
    with every_warning() as caught:
        found = store.get_many([key(n) for n in range(ROWS)])
        assert [n for n, got in enumerate(found) if got not in (None, answer(n))] == []
        assert None in found
        store.put_many([(key(n), answer(n)) for n in range(ROWS)])
        found = store.get_many([key(n) for n in range(ROWS)])
        store.stats()
        store.close()
    assert [n for n, got in enumerate(found) if got not in (None, answer(n))] == []
    assert found.count(None) < ROWS // 20
    assert all(issubclass(warning.category, SkytellsWarning) for warning in caught)


def test_a_damaged_answer_is_replaced_when_paid_for_again(path: Path) -> None:
    """It is counted and reported once, and the response is not paid for a third time."""
    content = path.read_bytes()
    assert content.count(answer(7)) == 1
    path.write_bytes(content.replace(answer(7), answer(7)[:-1] + b"!"))
    store = SqliteStore(path)
    with every_warning() as caught:
        assert store.get_many([key(6), key(7)]) == [answer(6), None]
        assert store.get_many([key(7)]) == [None]
    assert ["damaged responses" in str(warning.message) for warning in caught] == [True]
    assert store.stats().damaged == 2
    store.put_many([(key(7), b"paid again"), (key(6), b"ignored")])
    assert store.get_many([key(6), key(7)]) == [answer(6), b"paid again"]
    assert store.stats().entries == ROWS
    store.close()
    later = SqliteStore(path)
    assert later.get_many([key(7)]) == [b"paid again"]
    later.close()


FULL_DISK = """
import os, resource, signal, sys, warnings
from skytells_nb.cache import SqliteStore

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = SqliteStore(sys.argv[1])
keys = [n.to_bytes(32, "big") for n in range(200)]
store.put_many([(key, key * 100) for key in keys[:20]])
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for start in range(20, 200, 20):
        store.put_many([(key, key * 100) for key in keys[start : start + 20]])
    assert store.get_many(keys) == [key * 100 for key in keys]
(warning,) = caught
print(warning.category.__name__, warning.message)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to stand in for a full disk")
def test_a_full_disk_loses_no_answer(tmp_path: Path) -> None:
    """One warning; the answers stay in memory, and are saved in the end where there is space again."""
    path = tmp_path / "answers.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SkytellsWarning")
    assert str(path) in done.stdout
    store = SqliteStore(path)
    assert store.get_many([key(n) for n in range(200)]) == [key(n) * 100 for n in range(200)]
    store.close()
