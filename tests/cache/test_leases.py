"""What the leases of every store that processes share do; further stores join by ``STORES``."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_servers import SERVERS, shared_server

from skytells_nb.cache import CacheStore, KeyMaker, MemoryStore, OffStore, SqliteStore, export, open_store
from skytells_nb.cache.sqlite import leases as sqlite_leases
from skytells_nb.engine.single_flight import Owner, SingleFlight

STORES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda folder: str(folder / "answers.sqlite"),
    **{kind: (lambda folder, kind=kind: shared_server(kind).address()) for kind in SERVERS},  # type: ignore[misc]
}
"""Returns the address of a new store, which is the same for every process."""

ONE, TWO = b"1" * 16, b"2" * 16
A, B, C = KeyMaker(endpoint="e", model="m", origin="o", params={}).keys(["a", "b", "c"])


@pytest.fixture(params=STORES)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[CacheStore, CacheStore]]:
    """Two that share their responses, as those of two processes do."""
    address = STORES[request.param](tmp_path)
    one, two = (open_store(address, default_dir=tmp_path) for _ in range(2))
    yield one, two
    one.close()
    two.close()


Pair = tuple[CacheStore, CacheStore]


def test_a_key_is_leased_to_one_owner(stores: Pair) -> None:
    one, two = stores
    assert one.leases.acquire([A, B], ONE, 60) == ["acquired", "acquired"]
    assert two.leases.acquire([B, C], TWO, 60) == ["leased", "acquired"]
    assert one.leases.acquire([C, A], ONE, 60) == ["leased", "acquired"]
    assert one.leases.acquire([], ONE, 60) == []


def test_a_key_with_a_response_is_leased_to_no_one(stores: Pair) -> None:
    """Stored through either, before or while it was leased."""
    one, two = stores
    one.put_many([(A, b"a")])
    assert two.leases.acquire([A, B], TWO, 60) == ["stored", "acquired"]
    assert one.leases.acquire([B], ONE, 60) == ["leased"]
    two.put_many([(B, b"b")])
    assert one.leases.acquire([A, B, C], ONE, 60) == ["stored", "stored", "acquired"]


def test_a_released_key_is_free_and_others_stay_leased(stores: Pair) -> None:
    one, two = stores
    one.leases.acquire([A, B], ONE, 60)
    one.leases.release(ONE, [A, C])
    assert two.leases.acquire([A, B, C], TWO, 60) == ["acquired", "leased", "acquired"]
    one.leases.release(ONE)
    assert two.leases.acquire([A, B, C], TWO, 60) == ["acquired", "acquired", "acquired"]


def test_a_closed_store_leases_nothing(tmp_path: Path) -> None:
    """What its runs held is free at once, also where the end of a run could not say so."""
    one, two = SqliteStore(tmp_path / "answers.sqlite"), SqliteStore(tmp_path / "answers.sqlite")
    one.leases.acquire([A], ONE, 60)
    one.leases.acquire([B], b"3" * 16, 60)
    one.close()
    assert two.leases.acquire([A, B], TWO, 60) == ["acquired", "acquired"]
    two.close()


def test_no_owner_releases_what_another_holds(stores: Pair) -> None:
    one, two = stores
    one.leases.acquire([A], ONE, 60)
    two.leases.release(TWO, [A])
    two.leases.release(TWO)
    assert two.leases.acquire([A], TWO, 60) == ["leased"]


def test_an_expired_lease_is_free(stores: Pair) -> None:
    """And its owner learns that it is lost, and does not take it back from the one that took it over."""
    one, two = stores
    one.leases.acquire([A, B], ONE, 60)
    assert two.leases.acquire([A], TWO, 60) == ["leased"]
    assert one.leases.renew(ONE, 0.2)
    time.sleep(0.3)
    assert two.leases.acquire([A], TWO, 60) == ["acquired"]
    assert not one.leases.renew(ONE, 60)
    assert one.leases.acquire([A, B, C], ONE, 60) == ["leased", "acquired", "acquired"]
    assert one.leases.renew(ONE, 60)


def test_a_renewed_lease_lasts(stores: Pair) -> None:
    """For so many seconds from then on; one that no caller asked for meanwhile can be renewed late."""
    one, two = stores
    one.leases.acquire([A], ONE, 0.2)
    time.sleep(0.3)
    assert one.leases.renew(ONE, 60)
    assert two.leases.acquire([A], TWO, 60) == ["leased"]


def test_taking_more_renews_what_is_held(stores: Pair) -> None:
    one, two = stores
    one.leases.acquire([A], ONE, 0.5)
    one.leases.acquire([B], ONE, 60)
    time.sleep(0.6)
    assert two.leases.acquire([A, B], TWO, 60) == ["leased", "leased"]


def test_an_owner_without_leases_renews_and_releases_nothing(stores: Pair) -> None:
    one, _ = stores
    assert one.leases.renew(ONE, 60)
    one.leases.release(ONE)
    one.leases.release(ONE, [A])


def test_a_response_from_before_the_point_is_known_and_does_not_count(stores: Pair) -> None:
    """A caller that asks again leases the key all the same; a response from after the point is found."""
    one, two = stores
    one.put_many([(A, b"a")])
    two.put_many([(B, b"b")])
    snapshot = one.leases.snapshot()
    assert one.leases.acquire([A, B], ONE, 60, snapshot) == ["acquired", "acquired"]
    assert two.leases.acquire([A], TWO, 60, snapshot) == ["leased"]
    one.delete_many([A])
    one.put_many([(A, b"new")])
    assert two.leases.acquire([A], TWO, 60, snapshot) == ["stored"]
    assert one.leases.acquire([A], ONE, 60, one.leases.snapshot()) == ["acquired"]


def test_keys_are_looked_up_if_another_stored_a_response_since(stores: Pair) -> None:
    """What the caller itself stores through this store object it knows."""
    one, two = stores
    snapshot = one.leases.snapshot()
    one.put_many([(A, b"a")])
    assert one.leases.acquire([B], ONE, 60, snapshot, changed=False) == ["acquired"]
    two.put_many([(C, b"c")])
    assert one.leases.acquire([B, C], ONE, 60, snapshot, changed=False) == ["acquired", "stored"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["acquire", "release", "end", "put"]), st.booleans(), st.sets(st.integers(0, 5), min_size=1)
        )
    )
)
def test_no_key_is_ever_leased_to_two(stores: Pair, steps: list[tuple[str, bool, set[int]]]) -> None:
    """Against a model, over any sequence of steps of two owners."""
    keys = [bytes(24) + number.to_bytes(8, "big") for number in range(6)]
    holder: dict[int, bool] = {}
    for store, owner in zip(stores, (ONE, TWO), strict=True):
        store.delete_many(keys)
        store.leases.release(owner)
    stored: set[int] = set()
    for action, second, numbers in steps:
        store, owner = stores[second], (ONE, TWO)[second]
        wanted = sorted(numbers)
        match action:
            case "acquire":
                expected = [
                    "stored" if n in stored else "leased" if holder.get(n, second) != second else "acquired"
                    for n in wanted
                ]
                assert store.leases.acquire([keys[n] for n in wanted], owner, 60) == expected
                holder.update((n, second) for n, state in zip(wanted, expected, strict=True) if state == "acquired")
            case "release":
                store.leases.release(owner, [keys[n] for n in wanted])
                holder = {n: by for n, by in holder.items() if n not in numbers or by != second}
            case "end":
                store.leases.release(owner)
                holder = {n: by for n, by in holder.items() if by != second}
            case "put":
                store.put_many([(keys[n], b"x") for n in wanted])
                stored |= numbers
                holder = {n: by for n, by in holder.items() if n not in numbers}


@pytest.mark.parametrize("store", [MemoryStore(), OffStore()], ids=repr)
def test_a_store_of_one_process_lets_every_key_be_taken(store: CacheStore) -> None:
    """Threads of the process are told apart by the engine; a response that is there is not asked for."""
    assert store.leases.acquire([A, B], ONE, 60) == store.leases.acquire([A, B], TWO, 60) == ["acquired", "acquired"]
    store.put_many([(A, b"a")])
    assert store.leases.acquire([A], ONE, 60) == [("stored" if isinstance(store, MemoryStore) else "acquired")]
    assert store.leases.renew(ONE, 60)
    store.leases.release(ONE)


HOLD = """
import sys, time
from pathlib import Path
from skytells_nb.cache import open_store
store = open_store(sys.argv[1], default_dir=Path())
print(store.leases.acquire([bytes.fromhex(sys.argv[2])], b"3" * 16, 3_000), flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process is not known to have ended there")
@pytest.mark.parametrize("kind", STORES)
def test_the_leases_of_a_killed_process_are_free_at_once(kind: str, tmp_path: Path) -> None:
    """Also while its parent has not yet noticed that it ended."""
    path = STORES[kind](tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, path, A.hex()], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "['acquired']\n"
        store = open_store(path, default_dir=tmp_path)
        assert store.leases.acquire([A], ONE, 60) == ["leased"]
        os.kill(child.pid, signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert store.leases.acquire([A], ONE, 60) == ["acquired"]
        store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_holds_nothing_of_its_parent(stores: Pair) -> None:
    """Nor does it end its parent's leases, or its connections, when it ends."""
    store, other = stores
    store.leases.acquire([A], ONE, 60)
    child = os.fork()
    if child == 0:
        states = store.leases.acquire([A, B], TWO, 60)
        store.close()
        os._exit(0 if states == ["leased", "acquired"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert other.leases.acquire([A, B], b"3" * 16, 60) == ["leased", "acquired"]
    assert store.leases.renew(ONE, 60)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the start of a process is read there")
def test_a_process_id_that_is_used_again_is_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a machine or container of another name knows by its id may run, and is waited for."""
    one, two = SqliteStore(tmp_path / "answers.sqlite"), SqliteStore(tmp_path / "answers.sqlite")
    machine, pid, started = sqlite_leases.this_process().decode().rsplit(" ", 2)
    for process, state in [
        (f"{machine} {pid} {started}", "leased"),
        (f"{machine} {pid} {int(started) - 1}", "acquired"),
        (f"another {pid} {int(started) - 1}", "leased"),
        ("damaged", "leased"),
    ]:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite_leases, "this_process", process.encode)
            one.leases.acquire([A], ONE, 60)
        assert two.leases.acquire([A], TWO, 60) == [state]
        one.leases.release(ONE)
        two.leases.release(TWO)
    one.close()
    two.close()


def test_a_clock_that_was_set_back_frees_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were to expire in a future that is now far away."""
    one, two = SqliteStore(tmp_path / "answers.sqlite"), SqliteStore(tmp_path / "answers.sqlite")
    one.leases.acquire([A], ONE, 60)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 86_400)
    assert two.leases.acquire([A], TWO, 60) == ["acquired"]
    one.close()
    two.close()


def test_asking_in_vain_writes_only_where_half_of_the_own_leases_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that waits for others asks often, and each renewal is a write."""
    path, now = tmp_path / "answers.sqlite", time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    def last() -> float:
        with closing(sqlite3.connect(path)) as connection:
            return float(connection.execute("select max(expires) from leases").fetchone()[0])

    with closing(SqliteStore(path)) as one, closing(SqliteStore(path)) as two:
        one.leases.acquire([A], ONE, 45)
        two.leases.acquire([B], TWO, 50)
        ends = now + 50
        now += 20
        assert two.leases.acquire([A], TWO, 50) == ["leased"]
        assert last() == ends
        now += 10
        assert two.leases.acquire([A], TWO, 50) == ["leased"]
        assert last() == now + 50


def test_a_damaged_response_can_be_asked_for_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with closing(SqliteStore(path)) as store:
        store.put_many([(A, b"answer")])
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("update answers set value = substr(value, 1, 5) || x'00'")
        connection.commit()
    with closing(SqliteStore(path)) as store:
        with pytest.warns(match="damaged responses"):
            assert store.get_many([A]) == [None]
        assert store.leases.acquire([A], ONE, 60) == ["acquired"]


def test_a_file_of_an_earlier_version_gets_leases_and_a_recording_has_none(tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    with closing(SqliteStore(path)) as store:
        store.put_many([(A, b"a"), (B, b"b")])
        tables = "select name from sqlite_master where name = 'leases'"
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute(tables).fetchone() is None
        assert store.leases.acquire([C], ONE, 60) == ["acquired"]
        export(store, [A, B], tmp_path / "recording.sqlite")
    with closing(sqlite3.connect(tmp_path / "recording.sqlite")) as connection:
        assert connection.execute(tables).fetchone() is None


def test_a_file_that_takes_the_place_of_another_is_leased_in_anew(tmp_path: Path) -> None:
    """No call fails because its table is not there."""
    path = tmp_path / "answers.sqlite"
    with closing(SqliteStore(path)) as store:
        store.leases.acquire([A], ONE, 60)
        for file in tmp_path.iterdir():
            file.unlink()
        assert not store.leases.renew(ONE, 60)
        store.leases.release(ONE, [A])
        store.put_many([(A, b"a")])
        assert store.leases.acquire([A, B], ONE, 60) == ["stored", "acquired"]


def _other_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table mine (x)")
        connection.commit()


@pytest.mark.parametrize("make", [_other_program, Path.mkdir], ids=["another program's", "a folder"])
@pytest.mark.filterwarnings("error")
def test_where_no_lease_can_be_written_every_key_may_be_taken(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Without a word: storing the first response gives the warning."""
    path = tmp_path / "answers.sqlite"
    make(path)
    store = SqliteStore(path)
    assert store.leases.acquire([A, B], ONE, 60) == ["acquired", "acquired"]
    assert store.leases.renew(ONE, 60)
    store.leases.release(ONE, [A])
    store.leases.release(ONE)
    store.put_many([(A, b"held in memory")])
    assert store.leases.acquire([A, B], ONE, 60) == ["stored", "acquired"]
    with pytest.warns(match="held in memory"):
        store.close()


def test_answers_held_in_memory_count_from_when_they_came(tmp_path: Path) -> None:
    """A caller that asks again must not get the old answer as a new one, also not when it is written at last."""
    path = tmp_path / "folder" / "answers.sqlite"
    path.parent.write_text("in the way")
    store = SqliteStore(path)
    store.put_many([(A, b"old"), (B, b"old")])
    snapshot = store.leases.snapshot()
    assert store.leases.acquire([A, B], ONE, 60, snapshot) == ["acquired", "acquired"]
    store.put_many([(B, b"new")], replace=True)
    assert store.leases.acquire([A, B], ONE, 60, snapshot) == ["acquired", "stored"]
    path.parent.unlink()
    store._write_again_at = store._lease_again_at = 0.0
    store.put_many([(C, b"new")])
    assert store.unsaved == 0
    assert store.leases.acquire([A, B, C], ONE, 60, snapshot) == ["acquired", "stored", "stored"]
    assert store.leases.acquire([A, B, C], ONE, 60) == ["stored", "stored", "stored"]
    with pytest.warns(match="held in memory"):
        store.close()


@pytest.mark.skipif(os.name == "nt" or os.getuid() == 0, reason="this user may write everywhere")
@pytest.mark.filterwarnings("error")
def test_a_file_that_may_only_be_read_is_not_leased_in(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    with closing(SqliteStore(folder / "answers.sqlite")) as store:
        store.put_many([(A, b"a")])
    folder.chmod(0o500)
    try:
        with closing(SqliteStore(folder / "answers.sqlite")) as store:
            assert store.leases.acquire([A, B], ONE, 60) == ["acquired", "acquired"]
            assert store.get_many([A]) == [b"a"]
    finally:
        folder.chmod(0o700)


@pytest.mark.filterwarnings("error")
def test_a_full_file_stops_no_one(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "answers.sqlite")) as store:
        store.put_many([(C, b"c")])
        with store._connections.acquire() as connection:
            (pages,) = connection.execute("pragma page_count").fetchone()
            connection.execute(f"pragma max_page_count = {pages}")
        assert store.leases.acquire([A, B, C], ONE, 60) == ["acquired", "acquired", "acquired"]


def test_threads_of_two_store_objects_never_hold_the_same_key(stores: Pair) -> None:
    """Eight threads ask for a hundred keys again and again; each key is taken by one of them."""
    keys = [os.urandom(32) for _ in range(100)]
    taken: list[bytes] = []

    def work(number: int) -> None:
        owner = os.urandom(16)
        for start in range(0, 100, 10):
            batch = keys[start : start + 10]
            states = stores[number % 2].leases.acquire(batch, owner, 60)
            taken.extend(key for key, state in zip(batch, states, strict=True) if state == "acquired")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(keys)


def test_a_single_flight_frees_what_another_process_holds_or_has_stored(tmp_path: Path) -> None:
    """So that another thread, which asks later, gets its own look at them."""
    one, two = SqliteStore(tmp_path / "answers.sqlite"), SqliteStore(tmp_path / "answers.sqlite")
    two.put_many([(A, b"a")])
    two.leases.acquire([B], TWO, 60)
    single_flight, first, second = SingleFlight(), Owner(one.leases), Owner(one.leases)
    assert single_flight.acquire([A, B, C], first) == ["stored", "leased", "acquired"]
    two.leases.release(TWO)
    assert single_flight.acquire([A, B, C], second) == ["stored", "acquired", "leased"]
    single_flight.end(first)
    assert single_flight.acquire([C], second) == ["acquired"]
    single_flight.end(second)
    assert two.leases.acquire([B, C], TWO, 60) == ["acquired", "acquired"]
    one.close()
    two.close()
