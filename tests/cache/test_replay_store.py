"""Replay: the same answers, offline, or a clear refusal."""

from __future__ import annotations

import os
import pickle
import sqlite3
from pathlib import Path

import pytest

from skytells_nb.cache import MemoryStore, ReplayStore, SqliteStore, export, open_store
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
    with pytest.raises(ReplayMissError, match="2 of 3 answers are not in the recording"):
        store.get_many([key(1), key(8), key(9)])
    store.close()


def test_a_recording_is_not_written_to(recording: Path) -> None:
    """Not one byte, by no method."""
    before = recording.read_bytes()
    store = ReplayStore(recording)
    for change in (
        lambda: store.put_many([(key(5), b"x")]),
        lambda: store.delete_many([key(1)]),
        lambda: store.prune(max_bytes=0),
    ):
        with pytest.raises(CacheError, match="only read"):
            change()
    store.close()
    assert recording.read_bytes() == before
    assert [file.name for file in recording.parent.iterdir()] == ["recorded.sqlite"]


def test_the_same_answers_give_the_same_file(memory: MemoryStore, recording: Path, tmp_path: Path) -> None:
    """So that a recording under version control changes only when an answer does."""
    export(memory, [key(n) for n in (3, 1, 2)], tmp_path / "again.sqlite")
    assert (tmp_path / "again.sqlite").read_bytes() == recording.read_bytes()


def test_an_earlier_recording_is_replaced(memory: MemoryStore, recording: Path) -> None:
    """Whole: what was only in the old one is gone."""
    export(memory, [key(7)], recording)
    store = ReplayStore(recording)
    assert store.stats().entries == 1
    assert store.get_many([key(7)]) == [b"answer 7"]
    store.close()


def test_export_refuses_answers_it_does_not_have(memory: MemoryStore, tmp_path: Path) -> None:
    """And leaves no file."""
    with pytest.raises(CacheError, match="1 of 2 answers"):
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
