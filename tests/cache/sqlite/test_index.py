"""The index in two parts: nothing is lost between them, in whatever order answers come, go and are asked for."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from skytells_nb.cache import SqliteStore
from skytells_nb.cache.checksum import encode_record
from skytells_nb.cache.replay import ReplayStore
from skytells_nb.cache.sqlite import index
from skytells_nb.cache.sqlite.database import connect
from skytells_nb.cache.sqlite.queries import insert, select


def key(number: int) -> bytes:
    """One of 60 keys, of which five each are found at the same place."""
    return bytes([number // 12] * 24) + (number % 12).to_bytes(8, "big")


NUMBERS = st.lists(st.integers(0, 59), max_size=12)


class Model(RuleBasedStateMachine):
    """A store whose small index holds at most five entries, beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.usual, index.MAX_RECENT = index.MAX_RECENT, 5
        self.folder = Path(tempfile.mkdtemp())
        self.store = SqliteStore(self.folder / "a.sqlite")
        self.known: dict[bytes, bytes] = {}
        self.count = 0

    def teardown(self) -> None:
        self.store.close()
        index.MAX_RECENT = self.usual
        shutil.rmtree(self.folder)

    @rule(numbers=NUMBERS)
    def put(self, numbers: list[int]) -> None:
        items = []
        for number in numbers:
            self.count += 1
            items.append((key(number), b"%d" % self.count))
        self.store.put_many(items)
        for name, value in items:
            self.known.setdefault(name, value)

    @rule(numbers=NUMBERS)
    def delete(self, numbers: list[int]) -> None:
        there = {key(number) for number in numbers} & self.known.keys()
        assert self.store.delete_many([key(number) for number in numbers]) == len(there)
        for name in there:
            del self.known[name]

    @rule(remaining=st.integers(0, 20))
    def prune(self, remaining: int) -> None:
        """The oldest go; dictionaries remember what came first."""
        sizes = [len(value) for value in self.known.values()]
        surplus = max(0, len(sizes) - remaining)
        removed = self.store.prune(max_bytes=sum(sizes[surplus:]))
        assert removed == surplus
        self.known = dict(list(self.known.items())[removed:])

    @rule()
    def open_again(self) -> None:
        self.store.close()
        self.store = SqliteStore(self.folder / "a.sqlite")

    @invariant()
    def what_is_known_is_there_and_nothing_else(self) -> None:
        assert self.store.get_many([key(n) for n in range(60)]) == [self.known.get(key(n)) for n in range(60)]
        stats = self.store.stats()
        assert (stats.entries, stats.bytes) == (len(self.known), sum(map(len, self.known.values())))


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@given(st.binary(max_size=40))
def test_a_place_fits_into_a_column_of_integers(name: bytes) -> None:
    found = index.fingerprint(name)
    assert found is not None
    assert -(2**63) <= found < 2**63


def parts(path: Path) -> tuple[int, int]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        recent, settled = (connection.execute(f"select count(*) from {part}").fetchone()[0] for part in index.PARTS)
    return recent, settled


def test_the_newest_answers_have_a_small_index_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MAX_RECENT", 100)
    with contextlib.closing(SqliteStore(tmp_path / "a.sqlite")) as store:
        seen = []
        for start in range(0, 1_000, 30):
            store.put_many([(n.to_bytes(32, "big"), b"x") for n in range(start, start + 30)])
            seen.append(parts(store.path))
        assert [recent + settled for recent, settled in seen] == list(range(30, 1_030, 30))
        assert max(recent for recent, _ in seen) == 90
        assert None not in store.get_many([n.to_bytes(32, "big") for n in range(1_000)])


def test_what_another_process_settles_during_a_search_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in one part before and in the other one after, and the search looks at one after the other."""
    monkeypatch.setattr(index, "MAX_RECENT", 10)
    keys = [n.to_bytes(32, "big") for n in range(9)]
    for moment in range(6):
        path = tmp_path / f"{moment}.sqlite"
        with contextlib.closing(connect(path)) as reading, contextlib.closing(connect(path)) as writing:
            insert(writing, [(name, b"x") for name in keys], stored_at=1)
            seen = 0

            def settle_at_the_moment(statement: str, writing: sqlite3.Connection = writing, at: int = moment) -> None:
                nonlocal seen
                if seen == at:
                    insert(writing, [(b"one more that makes them too many", b"x")], stored_at=1)
                seen += 1

            reading.set_trace_callback(settle_at_the_moment)
            found = select(reading, keys)
            reading.set_trace_callback(None)
            assert seen >= 2
            assert set(found) == set(keys)
            assert parts(path) == ((0, 10) if seen > moment else (9, 0))


def test_ids_begin_again_where_all_answers_were_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small part must not wait until ids are as high as they were."""
    monkeypatch.setattr(index, "MAX_RECENT", 100)
    with contextlib.closing(SqliteStore(tmp_path / "a.sqlite")) as store:
        for _ in range(2):
            for n in range(1_000, 2_000, 50):
                store.put_many([(m.to_bytes(32, "big"), b"x") for m in range(n, n + 50)])
            assert parts(store.path) == (0, 1_000)
            assert store.prune(max_bytes=0) == 1_000
            assert parts(store.path) == (0, 0)


def old_file(path: Path, count: int) -> dict[bytes, bytes]:
    """A cache as the first format had it."""
    answers = {n.to_bytes(32, "big"): b"answer %d" % n for n in range(count)}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            "pragma page_size = 32768;"
            "create table answers (id integer primary key, key blob not null unique, stored_at integer not null,"
            " value blob not null);"
            "create table totals (entries integer not null, bytes integer not null);"
            f"insert into totals values ({count}, {sum(map(len, answers.values()))});"
            "pragma application_id = 1399552334; pragma user_version = 1;"
        )
        rows = [(name, 7, encode_record(name, value)) for name, value in answers.items()]
        connection.executemany("insert into answers (key, stored_at, value) values (?, ?, ?)", rows)
        connection.commit()
    return answers


def test_a_file_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    answers = old_file(tmp_path / "a.sqlite", 3_000)
    with contextlib.closing(SqliteStore(tmp_path / "a.sqlite")) as store:
        assert store.get_many(list(answers)) == list(answers.values())
        assert (store.stats().entries, store.stats().bytes) == (3_000, sum(map(len, answers.values())))
        store.put_many([(bytes(31) + b"\x01", b"other"), (b"new" * 11, b"new")])
        assert store.get_many([bytes(31) + b"\x01", b"new" * 11]) == [b"answer 1", b"new"]
        assert store.delete_many(list(answers)[:1_000]) == 1_000
        assert store.stats().entries == 2_001
        assert parts(store.path) == (1, 2_000)


def test_several_that_open_an_old_file_at_once_bring_it_up_to_date_once(tmp_path: Path) -> None:
    answers = old_file(tmp_path / "a.sqlite", 3_000)
    stores = [SqliteStore(tmp_path / "a.sqlite") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda store: store.get_many(list(answers)), stores):
            assert found == list(answers.values())
    for store in stores:
        store.close()
    assert parts(tmp_path / "a.sqlite") == (0, 3_000)


def test_a_recording_of_the_first_format_is_replayed_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    answers = old_file(path, 1_500)
    before = path.read_bytes()
    with contextlib.closing(ReplayStore(path)) as store:
        assert store.get_many(list(answers)) == list(answers.values())
        assert store.stats().entries == 1_500
    assert path.read_bytes() == before
