"""The file of answers in one process: private, closed cleanly, pickled by name, honest about what it cannot do."""

from __future__ import annotations

import contextlib
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skytells_nb.cache import SqliteStore
from skytells_nb.cache.sqlite import database
from skytells_nb.cache.sqlite import queries as answers
from skytells_nb.cache.sqlite.database import connect, on_network_disk
from skytells_nb.errors import CacheError, SkytellsWarning


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@contextlib.contextmanager
def every_warning() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "answers.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    found = SqliteStore(path)
    yield found
    found.close()


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_the_file_is_for_its_user_alone(store: SqliteStore, path: Path) -> None:
    """Answers can be private: file 0600, folder 0700, log included."""
    store.put_many([(key(1), b"x")])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes.pop("answers.sqlite") == 0o600
    assert set(modes.values()) <= {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_file_is_laid_out_as_measured(store: SqliteStore, path: Path) -> None:
    """Write-ahead log and pages of 32 kB."""
    store.put_many([(key(1), b"x")])
    with sqlite3.connect(path) as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
        assert connection.execute("pragma page_size").fetchone() == (32_768,)
    connection.close()


def test_closing_leaves_one_file(store: SqliteStore, path: Path) -> None:
    """No log beside it, and a second close does nothing."""
    store.put_many([(key(1), b"x")])
    assert Path(f"{path}-wal").exists()
    store.close()
    store.close()
    assert [file.name for file in path.parent.iterdir()] == ["answers.sqlite"]


def test_use_after_close_is_a_clear_error(store: SqliteStore) -> None:
    """Whichever method it is."""
    store.close()
    for use in (
        lambda: store.get_many([key(1)]),
        lambda: store.put_many([(key(1), b"x")]),
        lambda: store.delete_many([key(1)]),
        store.stats,
        store.prune,
    ):
        with pytest.raises(CacheError, match="closed"):
            use()


def test_answers_outlive_the_store(store: SqliteStore, path: Path) -> None:
    """Another store on the same file has them."""
    store.put_many([(key(1), b"x")])
    store.close()
    later = SqliteStore(path)
    assert later.get_many([key(1)]) == [b"x"]
    later.close()


def test_a_pickled_store_opens_the_same_file(store: SqliteStore) -> None:
    """Nothing but the path travels."""
    store.put_many([(key(1), b"x")])
    copy = pickle.loads(pickle.dumps(store))
    assert copy.get_many([key(1)]) == [b"x"]
    copy.close()


@pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed there")
def test_a_file_removed_under_way_is_begun_again(store: SqliteStore, path: Path) -> None:
    """Answers never go into a file that has no name any more."""
    store.put_many([(key(1), b"x")])
    path.unlink()
    store.put_many([(key(2), b"y")])
    other = SqliteStore(path)
    assert other.get_many([key(1), key(2)]) == [None, b"y"]
    other.close()


def test_pruning_gives_the_disk_its_space_back(store: SqliteStore, path: Path) -> None:
    """Once more than half of the file is free."""
    store.put_many([(key(n), os.urandom(4_000)) for n in range(2_000)])
    store.close()
    full = path.stat().st_size
    again = SqliteStore(path)
    again.prune(max_bytes=1_000_000)
    again.close()
    assert path.stat().st_size < full / 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_reads_and_writes_on_its_own(store: SqliteStore) -> None:
    """And the parent continues with its own connections."""
    store.put_many([(key(1), b"parent")])
    child = os.fork()
    if child == 0:
        try:
            seen = store.get_many([key(1)]) == [b"parent"]
            store.put_many([(key(2), b"child")])
            os._exit(0 if seen else 1)
        except BaseException:
            os._exit(2)
    store.put_many([(key(3), b"parent")])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get_many([key(1), key(2), key(3)]) == [b"parent", b"child", b"parent"]


@pytest.mark.parametrize("place", ["below a file", "a folder"])
def test_a_place_that_cannot_be_written_falls_back_to_memory(place: str, tmp_path: Path) -> None:
    """One warning that names the path; the run continues, and holds what it paid for."""
    (tmp_path / "file").write_text("in the way")
    store = SqliteStore(tmp_path / "file" / "answers.sqlite" if place == "below a file" else tmp_path)
    with every_warning() as caught:
        assert store.get_many([key(1)]) == [None]
        store.put_many([(key(1), b"paid")])
        store.put_many([(key(2), b"paid too")])
    assert [warning.category for warning in caught] == [SkytellsWarning]
    assert str(tmp_path) in str(caught[0].message)
    assert caught[0].filename == __file__
    assert store.get_many([key(1), key(2), key(3)]) == [b"paid", b"paid too", None]
    assert (store.stats().entries, store.stats().bytes) == (2, 12)
    store.close()


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_read_only_disk_still_gives_its_answers(mounted: Path) -> None:
    """Only new responses have to stay in memory, and the warning comes with the first one."""
    path = mounted / "answers.sqlite"
    store = SqliteStore(path)
    store.put_many([(key(1), b"x")])
    store.close()
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    later = SqliteStore(path)
    with every_warning() as caught:
        assert later.get_many([key(1)]) == [b"x"]
        assert caught == []
        later.put_many([(key(2), b"y")])
        assert later.get_many([key(1), key(2)]) == [b"x", b"y"]
    assert ["held in memory" in str(warning.message) for warning in caught] == [True]
    later.close()


def test_a_disk_that_fills_up_keeps_its_answers(mounted: Path) -> None:
    """Responses without space stay in memory, also for the next store of that file, which warns when it closes."""
    store = SqliteStore(mounted / "answers.sqlite")
    groups = [[(key(100 * group + n), os.urandom(6_000)) for n in range(50)] for group in range(20)]
    with every_warning() as caught:
        for group in groups:
            store.put_many(group)
        for group in groups:
            assert store.get_many([one for one, _ in group]) == [value for _, value in group]
        store.close()
    assert ["the disk is full" in str(warning.message) for warning in caught] == [True]
    later = SqliteStore(mounted / "answers.sqlite")
    for group in groups:
        assert later.get_many([one for one, _ in group]) == [value for _, value in group]
    with pytest.warns(SkytellsWarning, match="the disk is full"):
        later.close()


def blocked(tmp_path: Path) -> tuple[SqliteStore, Path]:
    """A store that holds one answer in memory, because of a file where its folder should be."""
    blocker = tmp_path / "folder"
    blocker.write_text("in the way")
    store = SqliteStore(blocker / "answers.sqlite")
    store.put_many([(key(1), b"paid")])
    return store, blocker


def test_what_one_store_kept_in_memory_another_saves(tmp_path: Path) -> None:
    """Connecting again, which is what people do after a warning, neither loses an answer nor pays for it twice."""
    store, blocker = blocked(tmp_path)
    with pytest.warns(SkytellsWarning, match="in memory"):
        store.close()
    again = SqliteStore(blocker / "answers.sqlite")
    with every_warning():
        assert again.get_many([key(1), key(2)]) == [b"paid", None]
    blocker.unlink()
    again.close()
    last = SqliteStore(blocker / "answers.sqlite")
    assert last.get_many([key(1)]) == [b"paid"]
    assert (last.stats().entries, last.stats().bytes) == (1, 4)
    last.close()


def test_what_was_kept_in_memory_is_saved_once_the_place_is_free(tmp_path: Path) -> None:
    """At the latest when the store is closed."""
    store, blocker = blocked(tmp_path)
    with pytest.warns(SkytellsWarning):
        store.emit_warnings()
    blocker.unlink()
    store.close()
    later = SqliteStore(blocker / "answers.sqlite")
    assert later.get_many([key(1)]) == [b"paid"]
    later.close()


def test_a_warning_turned_into_an_error_loses_nothing(tmp_path: Path) -> None:
    """It is raised in the thread that asks what went wrong, when the answer is safe."""
    (tmp_path / "file").write_text("in the way")
    store = SqliteStore(tmp_path / "file" / "answers.sqlite")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.put_many([(key(1), b"paid")])
        with pytest.raises(SkytellsWarning):
            store.emit_warnings()
    assert store.get_many([key(1)]) == [b"paid"]
    store.close()


@pytest.mark.parametrize("change", ["pragma user_version = 99", "pragma application_id = 7"])
def test_a_file_of_someone_else_is_left_alone(change: str, store: SqliteStore, path: Path) -> None:
    """A newer format, or another program's database: one warning, memory, and not a byte changed."""
    store.put_many([(key(1), b"x")])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("pragma journal_mode = delete")
        connection.execute(change)
    connection.close()
    before = path.read_bytes()
    later = SqliteStore(path)
    with every_warning() as caught:
        assert later.get_many([key(1)]) == [None]
        later.put_many([(key(1), b"y")])
        assert later.get_many([key(1)]) == [b"y"]
        later.close()
    assert ["was not changed" in str(warning.message) for warning in caught] == [True]
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["answers.sqlite"]


def test_a_disk_without_shared_memory_gets_no_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rollback journal works on network disks, where the log does not; one warning says that it is slow."""
    read_text = Path.read_text

    def mounted(file: Path, *how: str) -> str:
        return "21 1 0:20 / / rw - nfs4 server:/ rw" if file.name == "mountinfo" else read_text(file, *how)

    monkeypatch.setattr(Path, "read_text", mounted)
    store = SqliteStore(path)
    with every_warning() as caught:
        store.put_many([(key(1), b"x")])
        assert store.get_many([key(1)]) == [b"x"]
        assert [file.name for file in path.parent.iterdir()] == ["answers.sqlite"]
        store.close()
    assert ["without shared memory" in str(warning.message) for warning in caught] == [True]
    connection = connect(path)
    assert connection.execute("pragma journal_mode").fetchone() == (b"delete",)
    connection.close()


# The journal of a change to the header is larger than this limit: SQLite answers the log with "disk I/O error".
NO_LOG = """
import resource, signal, sys, warnings
from skytells_nb.cache import SqliteStore
from skytells_nb.cache.sqlite import queries as answers, database
from skytells_nb.cache.sqlite.database import connect

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
one, other = (1).to_bytes(32, "big"), (2).to_bytes(32, "big")
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
store = SqliteStore(sys.argv[1])
assert store.get_many([one, other]) == [b"before", None]
connection = connect(store.path)
modes = [connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
connection.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    store.put_many([(other, b"after")])
    store.close()
print(*modes, *(str(warning.message) for warning in caught))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to stand in for such a disk")
def test_a_disk_that_refuses_the_log_is_used_without_it(path: Path) -> None:
    """Responses are read and written with the rollback journal, each synced, and that is reported once."""
    connection = connect(path, wal=False)
    answers.insert(connection, [(key(1), b"before")], stored_at=0, replacing=[])
    connection.close()
    done = subprocess.run(
        [sys.executable, "-c", NO_LOG, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"b'delete' 2 The cache {path} is on a disk without shared memory")
    assert done.stdout.count("The cache") == 1
    store = SqliteStore(path)
    assert store.get_many([key(1), key(2)]) == [b"before", b"after"]
    store.close()


LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("rollback")
"""


@pytest.fixture
def locked(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process about to write to the new file; it lets go at the end of a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", LOCKING, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield other
        other.kill()


def test_a_file_locked_by_another_process_is_waited_for_and_gets_its_log(
    path: Path, locked: subprocess.Popen[str]
) -> None:
    """A lock is not a reason to do without the log."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(connect, path, wal=True)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.5)
        locked.communicate("\n")
        connection = waiting.result(timeout=30)
    assert connection.execute("pragma journal_mode").fetchone() == (b"wal",)
    assert connection.execute("pragma synchronous").fetchone() == (1,)
    connection.close()


def test_a_file_that_stays_locked_is_an_error_that_says_so(
    path: Path, locked: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.3)
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError) as caught:
        connect(path, wal=True)
    assert 0.3 <= time.monotonic() - began < 20
    assert caught.value.sqlite_errorcode == sqlite3.SQLITE_BUSY
    assert "another process locked it" in database.describe_error(caught.value)
    with pytest.raises(CacheError, match="another process locked it"):
        SqliteStore(path).prune(max_bytes=0)


def test_a_failure_without_advice_of_its_own_is_described_by_sqlites_message(store: SqliteStore, path: Path) -> None:
    store.put_many([(key(1), b"x")])
    store.close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table answers rename column value to content")
    later = SqliteStore(path)
    with pytest.warns(SkytellsWarning) as caught:
        assert later.get_many([key(1)]) == [None]
    later.close()
    assert f"The cache {path} cannot be used: no such column: value; choose another path. Until it can" in str(
        caught[0].message
    )


MOUNTS = """\
21 1 0:20 / / rw,relatime shared:1 - ext4 /dev/root rw
30 21 0:30 / /home rw,relatime - nfs4 server:/home rw
31 30 0:31 / /home/scratch\\040disk rw - xfs /dev/sdb rw
32 21 0:32 / /mnt/c rw - 9p drvfs rw
"""


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("/var/cache/a.sqlite", False),
        ("/home/me/a.sqlite", True),
        ("/home/scratch disk/a.sqlite", False),
        ("/homeless/a.sqlite", False),
        ("/mnt/c/a.sqlite", True),
    ],
)
def test_network_disks_are_recognised(place: str, expected: bool) -> None:
    """By the nearest mount point above the file."""
    assert on_network_disk(Path(place), MOUNTS) is expected


@pytest.mark.parametrize(
    ("value", "problem"),
    [("text", TypeError), (5, TypeError), (None, TypeError), (memoryview(b"abcdef")[::2], BufferError)],
)
def test_what_is_no_bytes_fails_for_its_caller_and_stores_nothing(
    store: SqliteStore, value: object, problem: type[Exception]
) -> None:
    with pytest.raises(problem):
        store.put_many([(key(1), b"good"), (key(2), value)])  # type: ignore[list-item]
    assert store.get_many([key(1), key(2)]) == [None, None]
