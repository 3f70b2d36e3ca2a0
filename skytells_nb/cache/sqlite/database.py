"""One SQLite file of answers: how it is made, opened, searched and, when damaged, set aside."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from skytells_nb.cache.sqlite import index
from skytells_nb.errors import CacheError

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 60.0
_APPLICATION_ID = 0x536B_794E  # "SkyN" in the file's header: tells our files from other people's
_PAGE_BYTES = 32_768  # a fifth more rows/s written than with 4 kB pages, in a smaller file
_WAL_KEPT_BYTES = 64 << 20
_PAGES_KEPT_BYTES = 64 << 20  # the index of a million keys; with SQLite's 2 MB each row of a large file reads a page
_SIBLINGS = ("-wal", "-shm")
_NETWORK_DISKS = frozenset(
    ["9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"]
    + ["orangefs", "pvfs2", "smb3", "smbfs"]
    + [f"fuse.{name}" for name in ("ceph", "davfs2", "gcsfuse", "glusterfs", "rclone", "s3fs", "sshfs")]
)
# A rowid table: as WITHOUT ROWID the same answers were written three times slower and read nine times slower.
_SCHEMA = (
    "create table answers (id integer primary key, key blob not null, stored_at integer not null, value blob not null)",
    *index.SCHEMA,
    "create table totals (entries integer not null, bytes integer not null, settled_to integer not null)",
    "insert into totals values (0, 0, 0)",
    f"pragma application_id = {_APPLICATION_ID}",
    f"pragma user_version = {SCHEMA_VERSION}",
)

Identity = tuple[int, int]


def identity(path: Path) -> Identity | None:
    """Which file the path names now: device and inode, ``None`` where it names nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_damage(problem: BaseException) -> bool:
    """Whether SQLite says that the file is malformed or no database at all."""
    # Where names in it, or SQLite's own words on them, are noise, Python cannot read them.
    return isinstance(problem, UnicodeDecodeError) or _code(problem) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class FileMonitor:
    """Notices that a file in use was cut by someone else: an open connection would write on into what is left.

    It looks at the file's size alone. To open the file beside SQLite, and close it, would drop SQLite's locks on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._which: Identity | None = None
        self._size = 0

    def damaged(self) -> Identity | None:
        """Which file it is where it is damaged, else ``None``; costs a look at the folder as long as the file grows."""
        try:
            state = os.stat(self._path)
        except OSError:
            return None
        which, before = (state.st_dev, state.st_ino), self._size
        if which != self._which:
            self._which, before = which, 0
        self._size = state.st_size
        # Pruning shrinks it too.
        return which if state.st_size < before and not _is_whole(self._path) else None


def _is_whole(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            return bool(connection.execute("pragma quick_check(1)").fetchone()[0] == "ok")
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        return not is_damage(problem)


def describe_error(problem: BaseException) -> str:
    """A failure to read or write the file, in words, with what helps."""
    match _code(problem):
        case sqlite3.SQLITE_FULL:
            return "the disk is full; free some space"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process kept it locked for {BUSY_TIMEOUT_S:.0f} s; close that one, or use another file"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return "the file or its folder is missing or closed to you; choose another place"
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}; choose another place"
    return f"{problem}; choose another place"


def connect(path: Path, *, wal: bool | None = None) -> sqlite3.Connection:
    """A connection to the file, made with its folder where there is none, for this user's eyes only.

    ``wal=False`` does without the write-ahead log, which needs memory that all its users share; the default looks
    whether the disk has it. Raises CacheError for a file that is not ours to write, sqlite3.Error and OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if wal is None:
        wal = not on_network_disk(path)
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        # No memory map: it read a fifth faster, but a file cut by someone else then kills the process with SIGBUS.
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, wal)
        except BaseException as problem:
            connection.close()
            # SQLite does not wait for its own timeout while another process changes the journal mode.
            if _code(problem) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            connection.text_factory = bytes  # noise can turn a blob into text that is no UTF-8
            return connection


def connect_as_allowed(path: Path) -> sqlite3.Connection:
    """A connection for reading and writing; where the folder is closed to writers, one for reading what is there."""
    try:
        return connect(path)
    except (sqlite3.OperationalError, OSError):
        if not path.is_file() or os.access(path.parent, os.W_OK):
            raise
        return connect_read_only(path)


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot change the file, which may lie in a folder nobody can write to."""
    log = Path(f"{path}-wal")
    # Without a log nobody is writing, and "immutable" needs no lock file beside the database.
    mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        if not _is_ours(connection, path):
            raise CacheError(f"{path} is empty: no answers were recorded in it.")
    except BaseException:
        connection.close()
        raise
    connection.text_factory = bytes
    return connection


def quarantine(path: Path, damaged: Identity | None) -> Path | None:
    """Rename the damaged file and its siblings; the new name, or ``None`` where another process has done it."""
    with _only_process(path):
        if damaged is None or identity(path) != damaged:
            return None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target = first = path.with_name(f"{path.name}.corrupt-{stamp}")
        number = 1
        while target.exists():
            number += 1
            target = first.with_name(f"{first.name}-{number}")
        # The log first: beside a new database of the same name it would be played into that one.
        for suffix in _SIBLINGS:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{target}{suffix}")
        os.rename(path, target)
        return target


def on_network_disk(path: Path, mounts: str | None = None) -> bool:
    """Whether the path is on a disk shared between machines; ``mounts`` as in Linux's ``/proc/self/mountinfo``."""
    where = os.path.realpath(path)
    if where.startswith("\\\\"):
        return True
    if mounts is None:
        try:
            mounts = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return False
    nearest, kind = "", ""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if len(before.split()) < 5 or not after:
            continue
        point = before.split()[4].replace("\\040", " ")
        if (where + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(nearest):
            nearest, kind = point, after.split()[0]
    return kind in _NETWORK_DISKS


def _code(problem: BaseException) -> int:
    """SQLite's primary result code, 0 where there is none."""
    return (getattr(problem, "sqlite_errorcode", None) or 0) & 0xFF


def _is_ours(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file holds answers already, ``False`` where it is empty; CacheError where it holds something else."""
    with _one_view(connection):
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if not application and not version and not tables:
        return False
    if application != _APPLICATION_ID:
        raise CacheError(f"{path} is a database of something else, and was left alone; choose another path for cache=.")
    if version > SCHEMA_VERSION:
        raise CacheError(
            f"{path} was written by a newer skytells-nb (format {version}; this one knows {SCHEMA_VERSION}), and was "
            "left alone; upgrade with pip install -U skytells-nb, or choose another path for cache=."
        )
    if not {"answers", "totals", *(index.PARTS if version > 1 else ())} <= tables:
        raise CacheError(f"{path} has lost its tables, and was left alone; choose another path for cache=.")
    return True


@contextlib.contextmanager
def _one_view(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read within is of one moment: another connection may be making the tables just now."""
    if connection.in_transaction:
        yield
        return
    connection.execute("begin")
    try:
        yield
    finally:
        # Some errors have ended it already.
        if connection.in_transaction:
            connection.execute("rollback")


def _prepare(connection: sqlite3.Connection, path: Path, wal: bool) -> None:
    ours = _is_ours(connection, path)
    if not ours:
        connection.execute(f"pragma page_size = {_PAGE_BYTES}")
    logged = wal and _turn_on_log(connection)
    if not logged:
        connection.execute("pragma journal_mode = delete")
    connection.execute(f"pragma synchronous = {'normal' if logged else 'full'}")
    connection.execute(f"pragma journal_size_limit = {_WAL_KEPT_BYTES}")
    connection.execute(f"pragma cache_size = -{_PAGES_KEPT_BYTES >> 10}")
    if not ours:
        connection.execute("begin immediate")
        if not _is_ours(connection, path):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("commit")
    if connection.execute("pragma user_version").fetchone()[0] == 1:
        _upgrade(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Copy the answers of the first format, whose table had the index of all keys in it."""
    connection.execute("begin immediate")
    if connection.execute("pragma user_version").fetchone()[0] == 1:
        entries, size = connection.execute("select total(entries), total(bytes) from totals").fetchone()
        connection.execute("alter table answers rename to old_answers")
        connection.execute("drop table totals")
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("insert into answers select id, key, stored_at, value from old_answers order by id")
        connection.execute("drop table old_answers")
        connection.execute("update totals set entries = ?, bytes = ?", (int(entries), int(size)))
        index.rebuild(connection)
    connection.execute("commit")


def _turn_on_log(connection: sqlite3.Connection) -> bool:
    try:
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
    except sqlite3.OperationalError as problem:
        if _code(problem) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL):
            return False
        raise
    return bool(mode == "wal")


@contextlib.contextmanager
def _only_process(path: Path) -> Iterator[None]:
    """Keep other processes from renaming the same damaged file; where that cannot be asked for, go on without."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
