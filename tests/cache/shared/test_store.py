"""Stores on servers that stop, hang, restart, refuse and lose things."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from store_servers import PASSWORD, QUOTED, SERVERS, StoreServer, shared_server

import skytells_nb as sky
from skytells_nb.cache import SharedStore, export, open_store
from skytells_nb.cache.shared import backend
from skytells_nb.errors import CacheError, ConfigurationError, SkytellsWarning
from skytells_nb.local.server import LocalServer


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture(scope="module", params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shared(kind: str) -> StoreServer:
    """A server that runs when the test begins."""
    return shared_server(kind)


@pytest.fixture
def store(shared: StoreServer) -> Iterator[SharedStore]:
    with closing(SharedStore(shared.address())) as found:
        yield found


def ask_again(store: SharedStore) -> None:
    """As if enough time had passed since the last failure."""
    store._server.ask_again_now()


def test_a_server_that_is_down_is_one_warning_and_nothing_is_lost(shared: StoreServer, store: SharedStore) -> None:
    """What is stored meanwhile is written when it is back, and readable all the time."""
    store.put_many([(key(1), b"before")])
    shared.crash()
    with warnings.catch_warnings(record=True, action="always") as caught:
        assert store.get_many([key(1), key(2)]) == [None, None]
        store.put_many([(key(2), b"meanwhile")])
        assert store.get_many([key(2)]) == [b"meanwhile"]
        snapshot = store.leases.snapshot()
        assert snapshot.on_server == 0
        assert store.leases.acquire([key(2), key(3)], b"o" * 16, 60) == ["stored", "acquired"]
        assert store.leases.acquire([key(2)], b"o" * 16, 60, snapshot) == ["acquired"]
        assert store.leases.renew(b"o" * 16, 60)
        store.leases.release(b"o" * 16)
        assert (store.unsaved, store.stats().entries) == (1, 1)
        store.emit_warnings()
    (text,) = [str(warning.message) for warning in caught]
    assert text.startswith(f"The cache {store.url} cannot be used: ")
    shared.start()
    ask_again(store)
    store.put_many([(key(3), b"after")])
    assert store.unsaved == 0
    # A caller that asks again knows the answer from before, also now that it is on the server.
    assert store.leases.acquire([key(2), key(3)], b"o" * 16, 60, snapshot) == ["acquired", "stored"]
    with closing(pickle.loads(pickle.dumps(store))) as other:
        assert other.get_many([key(1), key(2), key(3)]) == [b"before", b"meanwhile", b"after"]


def test_what_is_held_in_memory_is_written_at_the_end(shared: StoreServer) -> None:
    address = shared.address()
    store = SharedStore(address)
    shared.stop()
    store.put_many([(key(1), b"held")])
    with pytest.warns(SkytellsWarning, match="held in memory"):
        store.emit_warnings()
    shared.start()
    store.close()
    with closing(SharedStore(address)) as other:
        assert other.get_many([key(1)]) == [b"held"]


@pytest.mark.filterwarnings("error")
def test_a_restart_between_two_calls_goes_unnoticed(shared: StoreServer, store: SharedStore) -> None:
    """All connections are closed then, and scripts forgotten."""
    store.put_many([(key(1), b"one")])
    store.stats()
    shared.stop()
    shared.start()
    assert store.get_many([key(1)]) == [b"one"]
    assert store.leases.acquire([key(1), key(2)], b"o" * 16, 60) == ["stored", "acquired"]
    store.put_many([(key(2), b"two")])
    assert store.stats().entries == 2
    assert store.prune(max_bytes=3) == 1


def test_a_server_that_hangs_does_not_stall_a_run(
    shared: StoreServer, store: SharedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes one time limit from the run; then it is left alone for longer than that."""
    for module in ("redis", "postgres"):
        monkeypatch.setattr(f"skytells_nb.cache.shared.{module}.REPLY_TIMEOUT_S", 0.5)
    store.put_many([(key(1), b"one")])
    store.close()
    for _ in range(20):
        store = pickle.loads(pickle.dumps(store))
        with warnings.catch_warnings(action="ignore"):
            # On a busy machine it may take longer than that to connect.
            if store.get_many([key(1), key(2)]) == [b"one", None]:
                break
            store.close()
    shared.suspend()
    try:
        with pytest.warns(SkytellsWarning, match="cannot be used"):
            assert store.get_many([key(1)]) == [None]
        attempts = []
        monkeypatch.setattr(store._server, "run_now", attempts.append)
        store.put_many([(key(3), b"three")])
        assert store.get_many([key(3)]) == [b"three"]
        assert attempts == []
        monkeypatch.undo()
    finally:
        shared.resume()
    ask_again(store)
    store.put_many([(key(4), b"four")])
    assert store.get_many([key(n) for n in (1, 3, 4)]) == [b"one", b"three", b"four"]
    store.close()


@pytest.mark.parametrize("call", ["get_many", "stats", "snapshot"])
def test_a_wrong_password_is_refused_before_anything_is_sent(shared: StoreServer, call: str) -> None:
    """In one error, which does not quote it; a response that was paid for is held all the same."""
    address = shared.address().replace(QUOTED, "guessed-it")
    with closing(SharedStore(address)) as store:
        calls = {"get_many": lambda: store.get_many([key(1)]), "stats": store.stats, "snapshot": store.leases.snapshot}
        with pytest.raises(ConfigurationError, match=r"check .*user name") as caught:
            calls[call]()
        assert "guessed-it" not in f"{caught.value} {caught.value.__cause__} {store!r} {store.url}"
        store.put_many([(key(1), b"paid for")])
        assert store.unsaved == 1
        with pytest.warns(SkytellsWarning, match="held in memory"):
            store.emit_warnings()
        with pytest.raises(CacheError, match="cannot be used"):
            store.prune(max_bytes=0)
        store._overflow.discard([key(1)])


def test_a_run_with_a_wrong_password_sends_nothing(shared: StoreServer, server: LocalServer) -> None:
    """Also one that asks for everything again; what is shown of the session has no password."""
    address = shared.address().replace(QUOTED, "guessed-it")
    with sky.connect(server.api_key, base_url=server.base_url, cache=address) as session:
        server.stats.reset()
        for fresh in (False, True):
            with pytest.raises(ConfigurationError, match=r"check .*user name"):
                sky.series(pd.Series(["a text"])).embed(progress=False, fresh=fresh)
        assert not server.stats.records
        assert (
            "guessed-it"
            not in f"{session!r} {session.settings!r} {session.settings.cache} {session.settings.model_dump()}"
        )


def test_sessions_share_what_was_paid_for(shared: StoreServer, server: LocalServer, tmp_path: Path) -> None:
    """And can count, export and prune it."""
    address = shared.address()
    texts = [f"text {n}" for n in range(20)]
    for expected in (20, 0):
        with sky.connect(server.api_key, base_url=server.base_url, cache=address, inputs_per_request=1) as session:
            sky.series(pd.Series(texts)).embed(progress=False)
            assert session.last_report is not None
            assert session.last_report.requests == expected
            assert session.cache.stats().entries == 20
            recording = session.export(tmp_path / f"{expected}.sqlite")
            assert recording.answers == 20
    with closing(open_store(address, default_dir=tmp_path)) as store:
        assert store.prune(max_bytes=0) == 20


def test_commands_show_and_prune_it_without_its_password(
    shared: StoreServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line, the doctor and the words of ``%skytells``."""
    from skytells_nb.cli.main import main
    from skytells_nb.magics.command_arguments import parse_cache_line
    from skytells_nb.magics.commands import run_cache_command
    from skytells_nb.magics.tables import settings_table
    from skytells_nb.session import setting_sources

    address = shared.address()
    monkeypatch.setenv("SKYTELLS_CACHE", address)
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-" + "x" * 40)
    with closing(SharedStore(address)) as store:
        store.put_many([(key(n), b"x" * 1_000) for n in range(3)])
        assert main(["cache"]) == 0
        tables = [
            run_cache_command(parse_cache_line("stats")),
            run_cache_command(parse_cache_line("prune --max-bytes 1000")),
        ]
        session = sky.current()
        tables.append(settings_table(session, setting_sources(session.settings)))
        main(["doctor"])
        shown = f"{capsys.readouterr().out} {tables}"
        assert shown.count(store.url) >= 4
        assert PASSWORD not in shown
        assert QUOTED not in shown
        assert store.stats().entries == 1
        assert main(["cache", "clear", "--yes"]) == 0
        assert store.stats().entries == 0


def test_a_pickled_store_has_no_password(shared: StoreServer, store: SharedStore) -> None:
    """A worker on another machine takes it from its own environment; here it is the process's own."""
    pickled = pickle.dumps(store)
    for form in (PASSWORD, QUOTED):
        assert form.encode() not in pickled
    work = "import pickle, sys; s = pickle.load(sys.stdin.buffer); print(s.get_many([bytes(31) + b'\\1']))"
    store.put_many([(key(1), b"one")])
    for environment, expected in [({"SKYTELLS_CACHE_PASSWORD": PASSWORD}, "[b'one']"), ({}, "")]:
        done = subprocess.run(
            [sys.executable, "-c", work], input=pickled, capture_output=True, env={"PYTHONPATH": _path(), **environment}
        )
        assert done.stdout.decode().strip() == expected, done.stderr.decode()
    assert b"ConfigurationError" in done.stderr


def _path() -> str:
    return str(Path(sky.__file__).parent.parent)


def test_damaged_responses_are_missing_until_they_are_replaced(kind: str, store: SharedStore) -> None:
    store.put_many([(key(1), b"first"), (key(2), b"second")])
    _damage(kind, store, key(1))
    with closing(pickle.loads(pickle.dumps(store))) as other:
        with pytest.warns(SkytellsWarning, match="damaged"):
            assert other.get_many([key(1), key(2)]) == [None, b"second"]
        assert other.stats().damaged == 1
        assert other.leases.acquire([key(1), key(2)], b"o" * 16, 60) == ["acquired", "stored"]
        other.put_many([(key(1), b"again")])
        assert other.get_many([key(1)]) == [b"again"]
    assert store.stats().entries == 2


def _damage(kind: str, store: SharedStore, name: bytes) -> None:
    if kind == "redis":
        store._server.run_now(
            lambda found: found._run(lambda client: client.setrange(b"skytells:1:a:" + name, 8, b"?"))
        )
        return
    update = "update skytells_answers set value = value || '\\x00' where key = %b"
    store._server.run_now(lambda found: found._run(lambda connection: connection.execute(update, [name])))


def test_more_than_one_statement_takes_is_stored_as_one(kind: str, store: SharedStore) -> None:
    rows = [(key(n), b"%d" % n * 50) for n in range(2 * backend.ROWS_PER_BATCH + 10)]
    store.put_many(rows)
    assert store.get_many([name for name, _ in rows]) == [value for _, value in rows]
    assert store.delete_many([name for name, _ in rows]) == len(rows)
    assert (store.stats().entries, store.stats().bytes) == (0, 0)


WRITE = """
import sys
from pathlib import Path
from skytells_nb.cache import open_store
store = open_store(sys.argv[1], default_dir=Path())
number = int(sys.argv[2])
for start in range(0, 400, 20):
    own = [(bytes([number]) + n.to_bytes(31, "big"), b"own") for n in range(start, start + 20)]
    store.put_many([*own, *((b"shared" + n.to_bytes(26, "big"), b"shared") for n in range(start, start + 20))])
    assert store.get_many([key for key, _ in own]) == [b"own"] * 20
store.close()
"""


def test_processes_that_write_at_once_lose_nothing(shared: StoreServer, tmp_path: Path) -> None:
    """Nor is anything counted twice, though all store the same keys too, in a store that is new to each of them."""
    address = shared.address()
    children = [subprocess.Popen([sys.executable, "-c", WRITE, address, str(n)]) for n in (1, 2, 3)]
    assert [child.wait(100) for child in children] == [0, 0, 0]
    with closing(open_store(address, default_dir=tmp_path)) as store:
        assert store.stats().entries == 3 * 400 + 400
        assert store.stats().bytes == 3 * 400 * 3 + 400 * 6
        assert store.prune(max_bytes=0) == 1_600


def test_a_closed_store_says_so(shared: StoreServer, tmp_path: Path) -> None:
    store = SharedStore(shared.address())
    store.close()
    store.close()
    for use in (lambda: store.get_many([key(1)]), lambda: store.put_many([]), store.stats, store.prune):
        with pytest.raises(CacheError, match="is closed"):
            use()
    with pytest.raises(CacheError, match="is closed"):
        export(store, [key(1)], tmp_path / "recording.sqlite")


@pytest.mark.filterwarnings("error")
def test_values_that_are_not_bytes_are_refused_for_their_caller_only(store: SharedStore) -> None:
    bad: Any = "text"
    with pytest.raises(TypeError):
        store.put_many([(key(1), bad)])
    store.put_many([(key(2), b"good")])
    assert store.get_many([key(1), key(2)]) == [None, b"good"]


def test_readers_and_writers_of_one_store_object_share_it(store: SharedStore) -> None:
    """While Redis restarts its idle connections, or PostgreSQL opens more."""
    problems: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(30):
                store.put_many([(key(1_000 * number + n), b"x" * 100)])
                assert store.get_many([key(1_000 * number + n)]) == [b"x" * 100]
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert store.stats().entries == 240


def test_redis_that_is_full_keeps_what_it_has_and_the_rest_is_held_in_memory() -> None:
    redis = shared_server("redis")
    with closing(SharedStore(redis.address())) as store:
        store.put_many([(key(1), b"one")])
        _configure(store, "maxmemory", "1mb")
        try:
            store.put_many([(key(2), b"two")])
            with pytest.warns(SkytellsWarning, match="memory is full"):
                assert store.get_many([key(1), key(2)]) == [b"one", b"two"]
        finally:
            _configure(store, "maxmemory", "0")
        ask_again(store)
        store.put_many([(key(3), b"three")])
        assert store.unsaved == 0


def test_redis_that_evicted_responses_is_counted_and_pruned_as_it_is() -> None:
    """Where the operator lets it make room for new keys, in the place of responses or even of their index."""
    redis = shared_server("redis")
    with closing(SharedStore(redis.address())) as store:
        store.put_many([(key(n), b"x" * 100) for n in range(50)])
        _redis(store, lambda client: client.delete(*(b"skytells:1:a:" + key(n) for n in range(10))))
        _redis(store, lambda client: client.zrem(b"skytells:1:index", *(key(n) for n in range(10, 15))))
        assert store.leases.acquire([key(1), key(20)], b"o" * 16, 60) == ["acquired", "stored"]
        _configure(store, "maxmemory-policy", "allkeys-random")
        _configure(store, "maxmemory", "1mb")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            store.put_many([(key(1_000 + n), b"y" * 10_000) for n in range(300)])
            ask_again(store)
        _configure(store, "maxmemory", "0")
        _configure(store, "maxmemory-policy", "noeviction")
        store.prune(max_bytes=1 << 40)
        left = len(_redis(store, lambda client: client.keys(b"skytells:1:a:*")))
        ask_again(store)
        assert store.stats().entries == left + store.unsaved
        assert store.prune(max_bytes=0) == left
        store._overflow.discard([key(1_000 + n) for n in range(300)])


def _redis(store: SharedStore, work: Any) -> Any:
    return store._server.run_now(lambda found: found._run(work))  # type: ignore[attr-defined]


def _configure(store: SharedStore, name: str, value: str) -> None:
    _redis(store, lambda client: client.config_set(name, value))


@pytest.mark.parametrize("database", ["no_such_database", "as_reader"])
def test_a_database_that_cannot_hold_the_tables_is_refused(database: str) -> None:
    """Before anything is paid for: one that is not there, and one where this user may create nothing."""
    import psycopg

    postgres = shared_server("postgresql")
    address = postgres.address()
    if database == "as_reader":
        with psycopg.connect(address, autocommit=True) as connection:
            connection.execute("create role reader login password 'reader'")
        address = re.sub(r"//.*@", "//reader:reader@", address)
    else:
        address = f"{address.rpartition('/')[0]}/{database}"
    with closing(SharedStore(address)) as store, pytest.raises(ConfigurationError, match="cannot be used"):
        store.get_many([key(1)])


def test_postgres_where_nothing_may_be_written_is_read() -> None:
    """As on a standby server: what was paid for is used, and what comes is held in memory."""
    import psycopg

    address = shared_server("postgresql").address()
    with closing(SharedStore(address)) as store:
        store.put_many([(key(1), b"one")])
    name = address.rpartition("/")[2]
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"alter database {name} set default_transaction_read_only = on")
    with closing(SharedStore(address)) as store:
        assert store.get_many([key(1)]) == [b"one"]
        store.put_many([(key(2), b"two")])
        with pytest.warns(SkytellsWarning, match="read-only"):
            assert store.get_many([key(1), key(2)]) == [b"one", b"two"]
        store._overflow.discard([key(2)])


def test_a_server_that_speaks_another_protocol_is_one_warning(server: LocalServer) -> None:
    port = server.base_url.split(":")[2].split("/")[0]
    for address in (f"redis://127.0.0.1:{port}/0", f"postgresql://me:x@127.0.0.1:{port}/db"):
        with closing(SharedStore(address)) as store:
            began = time.monotonic()
            with pytest.warns(SkytellsWarning, match="cannot be used"):
                assert store.get_many([key(1)]) == [None]
            assert time.monotonic() - began < 60
