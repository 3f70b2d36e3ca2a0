"""A cache file keeps its limits by itself, and no run loses what it paid for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import skytells_nb as sky
from skytells_nb.cache import CacheLimits, MemoryStore, OffStore, SqliteStore, open_store
from skytells_nb.cache.sqlite.limits import ROWS_PER_STEP

SIZE = 100


def rows(start: int, count: int) -> list[tuple[bytes, bytes]]:
    return [((number).to_bytes(32, "big"), bytes([number % 256]) * SIZE) for number in range(start, start + count)]


def kept(store: SqliteStore, start: int, count: int) -> int:
    return sum(value is not None for value in store.get_many([key for key, _ in rows(start, count)]))


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it comes true, however slow the machine is."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    limited = SqliteStore(path, CacheLimits(max_bytes=50 * SIZE))
    yield limited
    limited.close()


def test_a_run_never_loses_what_it_stored_and_the_next_one_makes_room(store: SqliteStore) -> None:
    with store.run():
        store.put_many(rows(0, 3 * ROWS_PER_STEP))
    assert not wait_until(lambda: store.stats().entries < 3 * ROWS_PER_STEP, seconds=0.3)
    with store.run():
        store.put_many(rows(5_000, 20))
        assert kept(store, 0, 3 * ROWS_PER_STEP) == 3 * ROWS_PER_STEP
    assert wait_until(lambda: store.stats().bytes <= 50 * SIZE)
    assert kept(store, 5_000, 20) == 20
    # The newest of the others stay.
    assert kept(store, 3 * ROWS_PER_STEP - 30, 30) == 30


def test_a_run_that_finds_everything_in_the_cache_removes_nothing(store: SqliteStore) -> None:
    """The same cell again and again must not pay again because of its own answers."""
    with store.run():
        store.put_many(rows(0, 200))
    for _ in range(2):
        with store.run():
            assert kept(store, 0, 200) == 200
    assert not wait_until(lambda: store.stats().entries < 200, seconds=0.3)


def test_runs_at_the_same_time_protect_the_older_one(store: SqliteStore) -> None:
    with store.run():
        store.put_many(rows(0, 100))
        with store.run():
            store.put_many(rows(1_000, 100))
        assert not wait_until(lambda: store.stats().entries < 200, seconds=0.3)
    assert kept(store, 0, 100) == 100


def test_old_responses_go_by_age(path: Path) -> None:
    old = SqliteStore(path)
    old.put_many(rows(0, 30))
    old._run(lambda connection: connection.execute("update answers set stored_at = stored_at - 3 * 86400"))
    old.close()
    store = SqliteStore(path, CacheLimits(max_age_days=2))
    with store.run():
        store.put_many(rows(100, 5))
    assert wait_until(lambda: store.stats().entries == 5)
    store.close()


def test_what_cells_store_one_by_one_is_kept_within_the_limit_too(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytells_nb.cache.sqlite.limits.CHECK_EVERY_S", 0.0)
    for row in rows(0, 120):
        store.put_many([row])
    assert wait_until(lambda: store.stats().bytes <= 50 * SIZE)
    assert kept(store, 119, 1) == 1


def test_nothing_waits_for_the_removal(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses are written and read while thousands of old ones go, a step at a time."""
    stepped, go_on = threading.Event(), threading.Event()
    write = store._limits._write

    def one_step(step: Any) -> int | None:
        removed = write(step)
        if removed:
            stepped.set()
            assert go_on.wait(60)
        return removed

    monkeypatch.setattr(store._limits, "_write", one_step)
    with store.run():
        store.put_many(rows(0, 20 * ROWS_PER_STEP))
    with store.run():
        store.put_many(rows(50_000, 1))
    assert stepped.wait(60)
    # Between two steps: it does not last until all are gone.
    for number in range(3):
        store.put_many(rows(60_000 + number, 1))
        assert kept(store, 60_000 + number, 1) == 1
    assert store.stats().entries >= 19 * ROWS_PER_STEP
    go_on.set()
    while store.stats().bytes > 60 * SIZE:
        store.put_many(rows(60_000, 1))
        assert kept(store, 60_000, 1) == 1


def test_a_run_that_ends_while_the_limits_are_checked_is_checked_too(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was nothing to remove before it."""
    checked, go_on = threading.Event(), threading.Event()
    write = store._limits._write

    def late(step: Any) -> int | None:
        removed = write(step)
        checked.set()
        assert go_on.wait(60)
        return removed

    monkeypatch.setattr(store._limits, "_write", late)
    with store.run():
        store.put_many(rows(0, 200))
    assert checked.wait(60)
    with store.run():
        store.put_many(rows(1_000, 20))
    go_on.set()
    assert wait_until(lambda: store.stats().bytes <= 50 * SIZE)
    assert kept(store, 1_000, 20) == 20


OTHER = """
import sys, time
from skytells_nb.cache import SqliteStore
store = SqliteStore(sys.argv[1])
assert store.leases.acquire([b"k" * 32], b"o" * 16, 60.0) == ["acquired"]
print("leased", flush=True)
sys.stdin.read()
"""


def test_another_process_that_is_paying_loses_nothing(store: SqliteStore, path: Path) -> None:
    """Its responses are as young as ours."""
    with store.run():
        store.put_many(rows(0, 200))
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin is not None
    assert other.stdout is not None
    try:
        assert other.stdout.readline() == b"leased\n"
        with store.run():
            store.put_many(rows(1_000, 1))
        assert not wait_until(lambda: store.stats().entries < 201, seconds=0.3)
    finally:
        other.stdin.close()
        other.wait()
        other.stdout.close()
    with store.run():
        store.put_many(rows(2_000, 1))
    assert wait_until(lambda: store.stats().bytes <= 50 * SIZE)


def test_without_limits_no_thread_starts_and_nothing_goes(path: Path) -> None:
    store, others = SqliteStore(path), set(threading.enumerate())
    with store.run():
        store.put_many(rows(0, 200))
    assert "skytells-cache-limits" not in [thread.name for thread in set(threading.enumerate()) - others]
    assert store.stats().entries == 200
    store.close()


@pytest.mark.parametrize("other", [MemoryStore, OffStore])
def test_other_stores_take_runs_too(other: type[MemoryStore]) -> None:
    with other().run():
        pass


def test_settings_name_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("SKYTELLS_CACHE_MAX_MB", "1.5")
    session = sky.connect("key", base_url="http://127.0.0.1:9", cache=path, cache_max_days=30)
    assert isinstance(session.cache, SqliteStore)
    assert session.cache.limits == CacheLimits(1_500_000, 30)
    session.close()
    with pytest.raises(sky.SkytellsError, match="cache_max_mb"):
        sky.connect("key", base_url="http://127.0.0.1:9", cache_max_mb=0)


def test_a_copy_in_another_process_has_the_same_limits(store: SqliteStore) -> None:
    kind, arguments = store.__reduce__()[:2]
    copy = kind(*arguments)
    assert copy.limits == store.limits
    copy.close()
    unlimited = open_store(store.path, default_dir=store.path.parent)
    assert isinstance(unlimited, SqliteStore)
    assert not unlimited.limits
    unlimited.close()
