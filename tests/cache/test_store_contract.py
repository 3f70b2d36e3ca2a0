"""What every store does, whatever it keeps the answers in."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_servers import SERVERS, shared_server

from skytells_nb.cache import CacheStore, MemoryStore, OffStore, SqliteStore, open_store
from skytells_nb.errors import CacheError, ConfigurationError


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture(params=["sqlite", "memory", *SERVERS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CacheStore]:
    spec = {"sqlite": None, "memory": "memory"}
    kind = request.param
    found = open_store(spec[kind] if kind in spec else shared_server(kind).address(), default_dir=tmp_path)
    yield found
    found.close()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.binary(min_size=32, max_size=32), st.binary(max_size=200), max_size=10))
def test_any_bytes_come_back_unchanged(store: CacheStore, answers: dict[bytes, bytes]) -> None:
    """Empty ones included."""
    store.delete_many(list(answers))
    store.put_many(list(answers.items()))
    assert store.get_many(list(answers)) == list(answers.values())


def test_answers_come_in_the_order_of_the_keys(store: CacheStore) -> None:
    """More keys than one statement takes, with gaps and repetitions."""
    store.put_many([(key(n), str(n).encode()) for n in range(0, 2_500, 2)])
    wanted = [n * 7 % 2_500 for n in range(2_600)]
    assert store.get_many([key(n) for n in wanted]) == [None if n % 2 else str(n).encode() for n in wanted]


def test_which_keys_have_an_answer_is_known_without_reading_it(store: CacheStore) -> None:
    """In the order of the keys, with gaps and repetitions; looking counts as no hit and no miss."""
    store.put_many([(key(n), str(n).encode()) for n in range(0, 2_500, 2)])
    wanted = [n * 7 % 2_500 for n in range(2_600)]
    assert store.contains_many([key(n) for n in wanted]) == [n % 2 == 0 for n in wanted]
    assert store.contains_many([]) == []
    assert (store.stats().hits, store.stats().misses) == (0, 0)


def test_the_keys_are_those_of_all_answers(store: CacheStore) -> None:
    assert store.keys() == b""
    store.put_many([(key(n), b"x") for n in range(3)])
    store.delete_many([key(1)])
    joined = store.keys()
    assert {joined[start : start + 32] for start in range(0, len(joined), 32)} == {key(0), key(2)}
    assert (len(joined), store.stats().hits) == (64, 0)


def test_what_is_there_stays(store: CacheStore) -> None:
    """The first answer to a key is the one that was paid for; a second one changes nothing."""
    store.put_many([(key(1), b"first"), (key(1), b"second")])
    store.put_many([(key(1), b"third"), (key(2), b"other")])
    assert store.get_many([key(1), key(2)]) == [b"first", b"other"]
    assert store.stats().entries == store.stats().stored == 2


def test_a_response_is_replaced_where_that_is_asked_for(store: CacheStore) -> None:
    """As the newest one of the store too, whose id must not be used again."""
    store.put_many([(key(1), b"first"), (key(2), b"other")])
    before = store.leases.snapshot()
    store.put_many([(key(2), b"asked again")], replace=True)
    assert store.get_many([key(1), key(2)]) == [b"first", b"asked again"]
    assert store.leases.acquire([key(1), key(2)], b"o" * 16, 30.0, before) == ["acquired", "stored"]


def test_views_of_a_matrix_are_kept_as_its_bytes_were(store: CacheStore) -> None:
    """Whatever their type; what is written to the matrix later changes nothing."""
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = [row.tobytes() for row in matrix]
    store.put_many([(key(n), row.data) for n, row in enumerate(matrix)])
    matrix[:] = -1
    assert store.get_many([key(n) for n in range(3)]) == expected
    assert store.stats().bytes == 48


def test_totals_count_only_what_is_new(store: CacheStore) -> None:
    store.put_many([(key(n), b"x" * n) for n in range(5)])
    store.put_many([(key(n), b"y" * 100) for n in range(3, 7)])
    assert (store.stats().entries, store.stats().bytes) == (7, 10 + 200)


def test_nothing_in_nothing_out(store: CacheStore) -> None:
    """Empty calls are allowed."""
    store.put_many([])
    assert store.get_many([]) == []
    assert store.delete_many([]) == 0


def test_deleted_answers_are_gone(store: CacheStore) -> None:
    """And the count says how many there were."""
    store.put_many([(key(n), b"abc") for n in range(5)])
    assert store.delete_many([key(1), key(3), key(9)]) == 2
    assert store.get_many([key(n) for n in range(5)]) == [b"abc", None, b"abc", None, b"abc"]
    assert (store.stats().entries, store.stats().bytes) == (3, 9)


def test_stats_count_what_happened(store: CacheStore) -> None:
    """Bytes are those of the answers; a key asked for twice counts twice."""
    store.put_many([(key(1), b"four"), (key(2), b"sixsix")])
    store.get_many([key(1), key(1), key(2), key(3)])
    stats = store.stats()
    assert (stats.entries, stats.bytes, stats.hits, stats.misses, stats.stored) == (2, 10, 3, 1, 2)
    assert stats.damaged == 0


def test_pruning_to_a_size_removes_the_oldest(store: CacheStore) -> None:
    """And no more than needed."""
    for n in range(10):
        store.put_many([(key(n), b"x" * 100)])
    assert store.prune(max_bytes=450) == 6
    assert [n for n in range(10) if store.get_many([key(n)]) != [None]] == [6, 7, 8, 9]
    assert store.stats().bytes == 400
    assert store.prune(max_bytes=450) == 0


def test_pruning_by_age_keeps_what_is_younger(store: CacheStore) -> None:
    """A day is longer than this test; a negative age is longer ago than never."""
    store.put_many([(key(n), b"x") for n in range(3)])
    assert store.prune(older_than_days=1) == 0
    assert store.prune(older_than_days=-1) == 3
    assert store.stats().entries == 0


def test_many_threads_at_once_lose_nothing(store: CacheStore) -> None:
    """Every answer is readable as soon as the call that stored it returns."""
    unseen: list[int] = []

    def work(start: int) -> None:
        for n in range(start, start + 40):
            store.put_many([(key(n), b"%d" % n), (key(1_000_000), b"shared")])
            if store.get_many([key(n)]) != [b"%d" % n]:
                unseen.append(n)

    threads = [threading.Thread(target=work, args=(1_000 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert unseen == []
    assert store.stats().entries == store.stats().stored == 8 * 40 + 1


def test_off_holds_nothing() -> None:
    """Every get is a miss."""
    store = OffStore()
    store.put_many([(key(1), b"x")])
    assert store.get_many([key(1)]) == [None]
    assert store.stats().entries == store.delete_many([key(1)]) == store.prune(max_bytes=0) == 0
    store.close()


def test_a_pickled_memory_store_arrives_empty() -> None:
    """Memory is not shared between processes, and answers do not travel with every task."""
    store = MemoryStore()
    store.put_many([(key(1), b"x")])
    assert pickle.loads(pickle.dumps(store)).get_many([key(1)]) == [None]


def test_settings_name_their_stores(tmp_path: Path) -> None:
    """A path, a folder, a URL, or a word."""
    file = tmp_path / "mine.sqlite"
    assert open_store(None, default_dir=tmp_path).url == f"sqlite://{tmp_path}/answers.sqlite"
    for spec in (file, str(file), f"sqlite://{file}"):
        assert open_store(spec, default_dir=Path("/nowhere")).url == f"sqlite://{file}"
    assert open_store(tmp_path, default_dir=Path("/nowhere")).url == f"sqlite://{tmp_path}/answers.sqlite"
    assert open_store("off", default_dir=tmp_path).url == "off"
    assert open_store("memory", default_dir=tmp_path).url == "memory://"


@pytest.mark.parametrize("spec", ["", "replay:", "replay:/no/such/file"])
def test_settings_that_name_nothing_are_refused(spec: str, tmp_path: Path) -> None:
    """Before anything is paid for."""
    with pytest.raises(CacheError):
        open_store(spec, default_dir=tmp_path)


@pytest.mark.parametrize("spec", ["mysql://me:secret@host/db", "http://secret@host", "redis+tls://:secret@host"])
def test_addresses_of_other_kinds_of_servers_are_refused(spec: str, tmp_path: Path) -> None:
    """Without quoting the password that may be in them."""
    with pytest.raises(ConfigurationError, match=r"cache must be .* redis://") as caught:
        open_store(spec, default_dir=tmp_path)
    assert "secret" not in str(caught.value)


def test_nothing_is_written_before_first_use(tmp_path: Path) -> None:
    """Connecting alone leaves no file behind."""
    store = open_store(None, default_dir=tmp_path / "folder")
    assert isinstance(store, SqliteStore)
    store.close()
    assert not (tmp_path / "folder").exists()


def test_counts_of_equal_uses_add_up(store: CacheStore) -> None:
    """Each time two more are stored, and of three that are looked up one is not there."""
    for times in (1, 2, 3):
        store.put_many([(key(10 * times), b"x"), (key(10 * times + 1), b"y")])
        store.get_many([key(10 * times), key(10 * times + 1), key(10 * times + 2)])
        stats = store.stats()
        assert (stats.hits, stats.misses, stats.stored) == (2 * times, times, 2 * times)
