"""Replay: the same answers, offline, or a clear refusal."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from skytells_nb.cache import MemoryStore, OffStore, ReplayStore, SqliteStore, export, open_store
from skytells_nb.cache.replay import export_all, is_replay, unrecorded_message
from skytells_nb.client.transport.httpx_responses import OfflineTransport
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import CacheError, ReplayMissError


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def memory() -> MemoryStore:
    store = MemoryStore()
    store.put_many([(key(n), b"answer %d" % n) for n in range(10)])
    return store


@pytest.fixture
def recording(memory: MemoryStore, tmp_path: Path) -> Path:
    path = tmp_path / "recorded.sqlite"
    assert export(memory, [key(n) for n in (3, 1, 2, 1)], path) == 3
    return path


def test_a_recording_answers_what_was_recorded(recording: Path) -> None:
    """In the order of the keys, repetitions included."""
    store = open_store(f"replay:{recording}", default_dir=Path("/nowhere"))
    assert store.get_many([key(1), key(3), key(1)]) == [b"answer 1", b"answer 3", b"answer 1"]
    assert (store.stats().entries, store.stats().bytes, store.stats().path) == (3, 24, str(recording))
    assert store.url == f"replay:{recording}"
    store.close()


def test_a_miss_says_how_many_are_missing(recording: Path) -> None:
    """Instead of asking the service, which replay never does."""
    store = ReplayStore(recording)
    with pytest.raises(ReplayMissError, match="2 of 3 responses are not in the recording") as caught:
        store.get_many([key(1), key(8), key(9)])
    for part in (str(recording), "%skytells cache export", "leave replay mode"):
        assert part in str(caught.value)
    assert "damaged" not in str(caught.value)
    store.close()


def test_hits_and_misses_add_up_over_look_ups(recording: Path) -> None:
    with closing(ReplayStore(recording)) as store:
        for keys in ([key(1), key(2)], [key(3)], [key(1), key(3)]):
            store.get_many(keys)
        with pytest.raises(ReplayMissError):
            store.get_many([key(8)])
        assert (store.stats().hits, store.stats().misses) == (5, 1)


def test_a_peek_at_what_is_missing_raises_nothing_and_counts_nothing(recording: Path) -> None:
    """For what copies a recording, and asks for no answer."""
    with closing(ReplayStore(recording)) as store:
        assert store.peek_many([key(8), key(1), key(8)]) == [None, b"answer 1", None]
        assert (store.stats().hits, store.stats().misses) == (0, 0)


def test_a_request_in_replay_mode_is_an_error_that_names_the_file() -> None:
    """In the place of the network."""
    transport = Transport(
        "sk-x", base_url="http://127.0.0.1:9", http=OfflineTransport(unrecorded_message(Path("a.sqlite")))
    )
    with pytest.raises(ReplayMissError, match=r"a\.sqlite.*%skytells cache export.*leave replay mode"):
        transport.send("GET", "/models")


@pytest.mark.parametrize(
    ("spec", "expected"), [("replay:a", True), (" replay:a", True), ("replay", False), ("a", False), (None, False)]
)
def test_replay_is_asked_for_by_its_scheme(spec: str | None, expected: bool) -> None:
    assert is_replay(spec) is expected


def test_a_recording_is_not_written_to(recording: Path) -> None:
    """Not one byte, by no method."""
    before = recording.read_bytes()
    store = ReplayStore(recording)
    for change in (
        lambda: store.put_many([(key(5), b"x")]),
        lambda: store.delete_many([key(1)]),
        lambda: store.prune(max_bytes=0),
    ):
        with pytest.raises(CacheError, match="read-only"):
            change()
    store.close()
    assert recording.read_bytes() == before
    assert [file.name for file in recording.parent.iterdir()] == ["recorded.sqlite"]


def test_the_same_answers_give_the_same_file(memory: MemoryStore, recording: Path, tmp_path: Path) -> None:
    """So that a recording under version control changes only when an answer does."""
    export(memory, [key(n) for n in (3, 1, 2)], tmp_path / "again.sqlite")
    assert (tmp_path / "again.sqlite").read_bytes() == recording.read_bytes()


def test_an_earlier_recording_is_replaced(memory: MemoryStore, recording: Path) -> None:
    """As a whole: responses that only the old one had are removed."""
    export(memory, [key(7)], recording)
    store = ReplayStore(recording)
    assert store.stats().entries == 1
    assert store.get_many([key(7)]) == [b"answer 7"]
    store.close()


def test_export_refuses_answers_it_does_not_have(memory: MemoryStore, tmp_path: Path) -> None:
    """And leaves no file."""
    with pytest.raises(CacheError, match="1 of 2 responses"):
        export(memory, [key(1), key(99)], tmp_path / "part.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_export_does_not_overwrite_other_files(memory: MemoryStore, tmp_path: Path) -> None:
    """A mistyped path costs nothing."""
    notes = tmp_path / "notes.txt"
    notes.write_text("precious " * 100)
    with pytest.raises(CacheError):
        export(memory, [key(1)], notes)
    assert notes.read_text() == "precious " * 100
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("sort", ["cache", "database of something else", "folder"])
def test_export_replaces_nothing_but_recordings(sort: str, memory: MemoryStore, tmp_path: Path) -> None:
    """A cache holds paid responses, and a recording of some of them is not a substitute."""
    path = tmp_path / "taken.sqlite"
    if sort == "folder":
        path.mkdir()
    elif sort == "cache":
        with closing(SqliteStore(path)) as cache:
            cache.put_many([(key(50), b"paid for")])
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table mine (x)")
    before = None if sort == "folder" else path.read_bytes()
    with pytest.raises(CacheError, match=r"taken\.sqlite (is a folder|was not written by an export)"):
        export(memory, [key(1)], path)
    assert (None if path.is_dir() else path.read_bytes()) == before
    assert [file.name for file in tmp_path.iterdir()] == ["taken.sqlite"]


def test_an_export_of_several_stores_is_one_file_of_what_they_hold(memory: MemoryStore, tmp_path: Path) -> None:
    """Each answer once, whichever store has it; what none has is counted."""
    with closing(SqliteStore(tmp_path / "answers.sqlite")) as cache:
        cache.put_many([(key(n), b"answer %d" % n) for n in (2, 20)])
        stores = [(memory, [key(1), key(2), key(99)]), (cache, [key(2), key(20)]), (OffStore(), [key(30)])]
        written = export_all(stores, tmp_path / "all.sqlite")
    assert (written.answers, written.missing) == (3, 2)
    assert written.bytes == (tmp_path / "all.sqlite").stat().st_size
    with closing(ReplayStore(written.path)) as store:
        assert store.get_many([key(20), key(1), key(2)]) == [b"answer 20", b"answer 1", b"answer 2"]


def test_the_order_of_use_does_not_change_the_file(memory: MemoryStore, tmp_path: Path) -> None:
    """Threads store answers in another order each time."""
    export_all([(memory, [key(n) for n in range(10)])], tmp_path / "up.sqlite")
    export_all([(memory, [key(n) for n in reversed(range(10))])], tmp_path / "down.sqlite")
    assert (tmp_path / "up.sqlite").read_bytes() == (tmp_path / "down.sqlite").read_bytes()


def test_a_recording_of_more_answers_than_are_read_at_once_is_whole(tmp_path: Path) -> None:
    """It is written in pieces."""
    store = MemoryStore()
    keys = [key(n) for n in range(10_000)]
    store.put_many([(name, name[-4:]) for name in keys])
    assert export(store, keys, tmp_path / "large.sqlite") == 10_000
    with closing(ReplayStore(tmp_path / "large.sqlite")) as recording:
        assert recording.get_many(keys) == [name[-4:] for name in keys]


def test_an_export_onto_the_recording_that_is_replayed_narrows_it(recording: Path) -> None:
    """Read first, then replaced: a reader continues with the new one."""
    with closing(ReplayStore(recording)) as store:
        assert export_all([(store, [key(1)])], recording, replace=True).answers == 1
        assert store.get_many([key(1)]) == [b"answer 1"]
        assert store.peek_many([key(2)]) == [None]


@pytest.mark.parametrize(
    ("stores", "message"), [([OffStore()], "cache is off"), ([MemoryStore()], "No response was used")]
)
def test_an_export_of_nothing_says_why(stores: list[OffStore | MemoryStore], message: str, tmp_path: Path) -> None:
    """And leaves no file."""
    with pytest.raises(CacheError, match=message):
        export_all([(store, []) for store in stores], tmp_path / "none.sqlite")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from skytells_nb.cache import MemoryStore, export
from skytells_nb.errors import CacheError

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = MemoryStore()
keys = [number.to_bytes(32, "big") for number in range(200)]
store.put_many([(key, bytes(5000)) for key in keys])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
try:
    export(store, keys, sys.argv[1])
except CacheError as problem:
    print(problem)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to stand in for a full disk")
@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_no_half_recording(earlier: bool, memory: MemoryStore, tmp_path: Path) -> None:
    """A clear error, no draft, and an earlier recording is as it was."""
    path = tmp_path / "recorded.sqlite"
    if earlier:
        export(memory, [key(1)], path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=100, check=True
    )
    assert "recorded.sqlite cannot be written" in done.stdout
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written_is_a_clear_error(memory: MemoryStore, tmp_path: Path) -> None:
    """With the path in it."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CacheError, match=r"recorded\.sqlite cannot be written"):
        export(memory, [key(1)], tmp_path / "file" / "recorded.sqlite")


def test_an_ordinary_cache_can_be_replayed_while_in_use(tmp_path: Path) -> None:
    """Its log is read too."""
    cache = SqliteStore(tmp_path / "answers.sqlite")
    cache.put_many([(key(1), b"x")])
    store = ReplayStore(cache.path)
    assert store.get_many([key(1)]) == [b"x"]
    store.close()
    cache.close()


def test_a_damaged_answer_is_missing(recording: Path) -> None:
    """And the message says that it is damage."""
    recording.write_bytes(recording.read_bytes().replace(b"answer 2", b"answer 0"))
    store = ReplayStore(recording)
    with pytest.raises(ReplayMissError, match="1 of them are damaged"):
        store.get_many([key(1), key(2)])
    assert store.stats().damaged == 1
    store.close()


def cuts(size: int) -> Iterator[int]:
    """Lengths that a copy may have stopped at: within the header, at pages, within pages."""
    yield from (1, 99, 512, 5_000, size - 1)
    for page in range(32_768, size, 32_768):
        yield from (page - 1, page, page + 1)


def test_a_recording_that_was_cut_short_is_refused_at_once(memory: MemoryStore, tmp_path: Path) -> None:
    """Wherever the copy stopped, no answer of it is believed, and the error names the file."""
    path, cut = tmp_path / "whole.sqlite", tmp_path / "cut.sqlite"
    memory.put_many([(key(n), bytes(2_000)) for n in range(100, 160)])
    export(memory, [key(n) for n in range(100, 160)], path)
    whole = path.read_bytes()
    assert len(whole) > 4 * 32_768
    for length in cuts(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(CacheError, match=r"cut\.sqlite"):
            ReplayStore(cut)


def test_noise_in_a_recording_never_becomes_an_answer(memory: MemoryStore, tmp_path: Path) -> None:
    """Whichever page is overwritten: the right bytes come, or an error."""
    path, spoilt = tmp_path / "whole.sqlite", tmp_path / "spoilt.sqlite"
    wanted = {key(n): n.to_bytes(2, "big") * 1_000 for n in range(100, 160)}
    memory.put_many(list(wanted.items()))
    export(memory, list(wanted), path)
    whole = path.read_bytes()
    errors = 0
    for start in range(0, len(whole), 32_768):
        spoilt.write_bytes(whole[: start + 200] + os.urandom(2_000) + whole[start + 2_200 :])
        for one, answer in wanted.items():
            try:
                with closing(ReplayStore(spoilt)) as store:
                    assert store.get_many([one]) == [answer]
            except CacheError:
                errors += 1
    assert errors


def test_a_folder_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    """Both are easy to name by mistake."""
    with pytest.raises(CacheError, match="is a folder"):
        ReplayStore(tmp_path)
    with pytest.raises(CacheError, match=r"no recording at .*gone\.sqlite.*%skytells cache export"):
        ReplayStore(tmp_path / "gone.sqlite")


@pytest.mark.parametrize("content", [b"", b"text, not a database " * 100])
def test_what_is_no_recording_is_refused_at_once(content: bytes, tmp_path: Path) -> None:
    """And left where it is."""
    path = tmp_path / "thing"
    path.write_bytes(content)
    with pytest.raises(CacheError):
        ReplayStore(path)
    assert path.read_bytes() == content


def test_a_recording_of_a_newer_format_is_refused(recording: Path) -> None:
    """With what to do about it."""
    connection = sqlite3.connect(recording)
    connection.execute("pragma user_version = 99")
    connection.close()
    with pytest.raises(CacheError, match="newer"):
        ReplayStore(recording)


def test_a_pickled_replay_reads_the_same_file(recording: Path) -> None:
    """Only the path travels."""
    copy = pickle.loads(pickle.dumps(ReplayStore(recording)))
    assert copy.get_many([key(2)]) == [b"answer 2"]
    copy.close()


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_recording_in_a_read_only_folder_works(recording: Path) -> None:
    """No lock file is needed beside it."""
    recording.parent.chmod(0o500)
    try:
        store = ReplayStore(recording)
        assert store.get_many([key(2)]) == [b"answer 2"]
        store.close()
    finally:
        recording.parent.chmod(0o700)
    assert [file.name for file in recording.parent.iterdir()] == ["recorded.sqlite"]


def test_an_export_takes_as_much_memory_however_large_it_is(tmp_path: Path) -> None:
    """The keys are 32 bytes each; of the responses only a batch is in memory."""
    store = SqliteStore(tmp_path / "cache.sqlite")
    for start in range(0, 16_000, 1_000):
        store.put_many([(key(start + n), bytes(2_000)) for n in range(1_000)])

    def peak(count: int) -> int:
        keys = b"".join(key(n) for n in range(count))
        tracemalloc.start()
        try:
            assert export_all([(store, keys)], tmp_path / f"{count}.sqlite").answers == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(2_000), peak(16_000)
    assert large < 1.5 * small + 14_000 * 32 * 4
    assert large < 16_000 * 2_000 / 2
    store.close()


def test_keys_may_come_one_by_one_or_joined(tmp_path: Path) -> None:
    memory = MemoryStore()
    memory.put_many([(key(n), b"x") for n in range(5)])
    one, joined = tmp_path / "one.sqlite", tmp_path / "joined.sqlite"
    export_all([(memory, [key(3), key(1), key(3)])], one)
    export_all([(memory, key(1) + key(3) + key(1))], joined)
    assert one.read_bytes() == joined.read_bytes()
