"""A SQLite file of responses: creating it, opening it, and moving it away when it is damaged."""

from __future__ import annotations

import codecs
import contextlib
import errno
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from skytells_nb.cache.sqlite import index
from skytells_nb.errors import CacheError

FILE_NAME = "answers.sqlite"
"""Name of the cache in a folder; a file of this name is a cache, whatever happened to it."""
SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 60.0
IN_PLACE_TIMEOUT_S = 5.0
_APPLICATION_ID = 0x536B_794E  # "SkyN" in the file's header: marks the file as one of ours
_HEADER_BYTES = 100
_PAGE_BYTES = 32_768  # a fifth more rows/s written than with 4 kB pages, in a smaller file
_WAL_LIMIT_BYTES = 64 << 20
_PAGE_CACHE_BYTES = 64 << 20  # the index of a million keys; with SQLite's 2 MB each row of a large file reads a page
_SIBLINGS = ("-wal", "-shm")
_NETWORK_DISKS = frozenset(
    ["9p", "afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"]
    + ["orangefs", "pvfs2", "smb3", "smbfs"]
    + [f"fuse.{name}" for name in ("ceph", "davfs2", "gcsfuse", "glusterfs", "rclone", "s3fs", "sshfs")]
)
# A rowid table: WITHOUT ROWID wrote the same responses three times slower and read them nine times slower.
_SCHEMA = (
    "create table answers (id integer primary key, key blob not null, stored_at integer not null, value blob not null)",
    *index.SCHEMA,
    "create table totals (entries integer not null, bytes integer not null, settled_to integer not null)",
    "insert into totals values (0, 0, 0)",
    f"pragma application_id = {_APPLICATION_ID}",
    f"pragma user_version = {SCHEMA_VERSION}",
)

Identity = tuple[int, int]


def usable_path(path: str | Path) -> Path:
    """Return the absolute path; raises CacheError if no file can have it.

    >>> usable_path("answers.sqlite").is_absolute()
    True
    """
    shown = repr(str(path)[:200])
    try:
        whole = Path(path).expanduser().absolute()
        # The log and the journal beside it have longer names.
        os.stat(f"{whole}-journal")
    except (ValueError, RuntimeError) as problem:
        raise CacheError(f"cache must be a valid file path, got {shown}: {str(problem).rstrip('.')}.") from None
    except OSError as problem:
        if problem.errno == errno.ENAMETOOLONG:
            raise CacheError(
                f"cache must be a shorter path, got one of {len(str(path)):,} characters: {shown}."
            ) from None
    return whole


def identity(path: Path) -> Identity | None:
    """Return the device and inode of the file at ``path``, ``None`` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_damage(problem: BaseException) -> bool:
    """Whether SQLite reports that the file is malformed or not a database."""
    # Python cannot decode corrupted names in the file, nor SQLite's messages about them.
    return isinstance(problem, UnicodeDecodeError) or _code(problem) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class FileMonitor:
    """Detects that another process truncated a file in use: an open connection would continue to write into the rest.

    It checks the size of the file only. Opening the file beside SQLite and closing it would drop SQLite's locks.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: Identity | None = None
        self._size = 0

    def damaged(self) -> Identity | None:
        """Return the identity of the file if it is damaged, else ``None``; one ``stat`` while the file grows."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        current, before = (status.st_dev, status.st_ino), self._size
        if current != self._identity:
            self._identity, before = current, 0
        self._size = status.st_size
        # Pruning shrinks it too.
        return current if status.st_size < before and not _is_complete(self._path) else None


def _is_complete(path: Path) -> bool:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
            return bool(connection.execute("pragma quick_check(1)").fetchone()[0] == "ok")
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        return not is_damage(problem)


def describe_error(problem: BaseException, path: Path | None = None) -> str:
    """Describe a failure to read or write the file, and what to do."""
    match _code(problem):
        case sqlite3.SQLITE_FULL:
            return "the disk is full; free some space"
        case sqlite3.SQLITE_IOERR if path is not None and _is_disk_full(path):
            # The memory that processes share beside the file cannot grow.
            return "the disk is full; free some space"
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process locked it for {BUSY_TIMEOUT_S:.0f} s; close that one, or use another file"
        case sqlite3.SQLITE_CANTOPEN if _too_many_open_files():
            return "this process has too many files open; raise the limit of open files (ulimit -n)"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return "the file or its folder is missing, or you may not write to it; choose another path"
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}; choose another path"
    return f"{problem}; choose another path"


def connect(path: Path, *, wal: bool | None = None) -> sqlite3.Connection:
    """Open the file; create it, and its folder, readable by this user only.

    ``wal=False`` does without the write-ahead log, which needs memory shared between processes; by default it is used
    where the disk supports that. Raises CacheError for a file that is not a cache, sqlite3.Error and OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_kind(path)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if wal is None:
        wal = not on_network_disk(path)
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        # No memory map: it read a fifth faster, but a file truncated elsewhere then ends this process with SIGBUS.
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
            connection.text_factory = bytes  # damage can turn a blob into text that is not UTF-8
            return connection


def connect_as_allowed(path: Path) -> sqlite3.Connection:
    """Open the file for reading and writing, or for reading only if the folder is not writable."""
    try:
        return connect(path)
    except (sqlite3.OperationalError, OSError):
        if not path.is_file() or os.access(path.parent, os.W_OK):
            raise
        return connect_read_only(path)


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open the file for reading only; its folder may be read-only too."""
    log = Path(f"{path}-wal")
    # Without a log no process is writing, and "immutable" needs no lock file beside the database.
    mode = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    connection = sqlite3.connect(
        f"{path.as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        if not _is_cache(connection, path):
            raise CacheError(f"{path} is empty: no responses were recorded in it.")
    except BaseException:
        connection.close()
        raise
    connection.text_factory = bytes
    return connection


def _check_kind(path: Path) -> None:
    """Raise CacheError for what is there and no file: opening a pipe waits, and writing to a device acts on it."""
    try:
        status = os.stat(path)
    except OSError:
        return
    mode = status.st_mode
    if stat.S_ISREG(mode) and 0 < status.st_size < _HEADER_BYTES and path.name != FILE_NAME:
        # SQLite takes a file of one byte for an empty one.
        raise CacheError(f"{path} is not a cache and was not changed; choose another path for cache=.")
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise CacheError(f"{path} must be a file, got {kind}, which was not changed; choose another path for cache=.")


def foreign_access(path: Path) -> str | None:
    """Return who else can change the file, ``None`` if no one can or the system does not say."""
    if not hasattr(os, "geteuid"):
        return None
    try:
        file, folder = os.stat(path), os.stat(path.parent)
    except OSError:
        return None
    if file.st_uid != os.geteuid():
        return "belongs to another user"
    if file.st_mode & stat.S_IWOTH or (file.st_mode & stat.S_IWGRP and file.st_gid != os.getegid()):
        return "may be written by other users"
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        return "is in a folder in which other users may replace it"
    return None


def is_cache_file(path: Path) -> bool:
    """Whether a file that SQLite cannot read was a cache: by its name, by the mark in its header, or by its content.

    Somebody's CSV or image that ``cache=`` names by mistake is no damaged cache, whatever its name is.
    """
    if path.name == FILE_NAME:
        return True
    try:
        with path.open("rb") as file:
            header = file.read(_SAMPLE_BYTES)
    except OSError:
        return False
    if header[68:72] == _APPLICATION_ID.to_bytes(4, "big"):
        return True
    # A database whose header is whole is another program's.
    others = (_SQLITE_HEADER, *_OTHER_FORMATS)
    return path.suffix in _SUFFIXES and not header.startswith(others) and not _is_text(header)


def _is_disk_full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path.parent).free < SHARED_MEMORY_BYTES
    except OSError:
        return False


def may_be_cache(path: Path) -> bool:
    """Whether a cache is at the path, or can be made there: it is free, empty or a cache already.

    SQLite is asked: its mark may be in the log still, and opening the file beside it would drop its locks.
    """
    try:
        status = os.stat(path)
    except OSError as problem:
        return isinstance(problem, FileNotFoundError)
    if not stat.S_ISREG(status.st_mode):
        return False
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
            _is_cache(connection, path)
    except CacheError:
        return False
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        return not is_damage(problem) or is_cache_file(path)
    return True


SHARED_MEMORY_BYTES = 65_536
"""SQLite needs 32 kB beside the file, and as much again for its log to grow."""
_SQLITE_HEADER = b"SQLite format 3\0"
_SUFFIXES = (".sqlite", ".sqlite3", ".db")
_SAMPLE_BYTES = 4096
# PNG, JPEG, GIF, PDF, ZIP (also of office software), gzip, bzip2, xz, Zstandard, Parquet, Arrow, HDF5, NumPy, RIFF, 7z.
_OTHER_FORMATS = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"PK", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
    *(b"PAR1", b"ARROW1", b"\x89HDF", b"\x93NUMPY", b"RIFF", b"7z\xbc\xaf", b"\x80\x04", b"\x80\x05"),
)


def _is_text(sample: bytes) -> bool:
    """Whether bytes are the beginning of a text; they may end within a character."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        # Of a text in another encoding nearly every byte is printable; of noise one in eight is a control character.
        return sum(byte >= 32 or byte in b"\t\n\r" for byte in sample) > 0.97 * len(sample) if sample else True
    return "\0" not in text


def connect_in_place(path: Path) -> sqlite3.Connection:
    """Open the file to change it without a byte more on the disk: what a change replaces is held in memory.

    A process that is killed meanwhile may leave the file damaged, so this is only for a full disk. Raises sqlite3.Error
    if another process uses the file, or if its log does not fit into it.
    """
    connection = sqlite3.connect(path, timeout=IN_PLACE_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("pragma locking_mode = exclusive")
        connection.execute("pragma temp_store = memory")
        (mode,) = connection.execute("pragma journal_mode = memory").fetchone()
        if mode != "memory":
            raise sqlite3.OperationalError("another process uses the file")
        _is_cache(connection, path)
    except BaseException:
        connection.close()
        raise
    connection.text_factory = bytes
    return connection


def is_full(problem: BaseException) -> bool:
    """Whether SQLite could not write, most likely because the disk is full."""
    return _code(problem) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def quarantine(path: Path, damaged: Identity | None) -> Path | None:
    """Rename the damaged file and its log; return the new name, or ``None`` if another process has done it."""
    with _file_lock(path):
        if damaged is None or identity(path) != damaged:
            return None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        target = first = path.with_name(f"{path.name}.corrupt-{stamp}")
        number = 1
        while target.exists():
            number += 1
            target = first.with_name(f"{first.name}-{number}")
        # The log first: beside a new database of the same name it would be replayed into that one.
        for suffix in _SIBLINGS:
            with contextlib.suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{target}{suffix}")
        os.rename(path, target)
        return target


def on_network_disk(path: Path, mounts: str | None = None) -> bool:
    """Whether the path is on a network disk; ``mounts`` has the form of Linux's ``/proc/self/mountinfo``."""
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


def _too_many_open_files() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as problem:
        return problem.errno in (errno.EMFILE, errno.ENFILE)
    return False


def _code(problem: BaseException) -> int:
    """SQLite's primary result code, 0 if the exception has none."""
    return (getattr(problem, "sqlite_errorcode", None) or 0) & 0xFF


def _is_cache(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file is a cache, ``False`` if it is empty; raises CacheError if it is something else."""
    with _snapshot(connection):
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if not application and not version and not tables:
        return False
    if application != _APPLICATION_ID:
        raise CacheError(
            f"{path} is a database of another program and was not changed; choose another path for cache=."
        )
    if version > SCHEMA_VERSION:
        raise CacheError(
            f"{path} was written by a newer skytells-nb (format {version}; this one reads up to {SCHEMA_VERSION}) "
            "and was not changed; upgrade with pip install -U skytells-nb, or choose another path for cache=."
        )
    if not {"answers", "totals", *(index.PARTS if version > 1 else ())} <= tables:
        raise CacheError(f"{path} has lost its tables and was not changed; choose another path for cache=.")
    return True


@contextlib.contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read from one snapshot: another connection may be creating the tables at this moment."""
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
    ours = _is_cache(connection, path)
    if not ours:
        connection.execute(f"pragma page_size = {_PAGE_BYTES}")
        if wal:
            # Recordings are written once and stay as small as they are without.
            connection.execute("pragma auto_vacuum = incremental")
    logged = wal and _turn_on_log(connection)
    if not logged:
        connection.execute("pragma journal_mode = delete")
    connection.execute(f"pragma synchronous = {'normal' if logged else 'full'}")
    connection.execute(f"pragma journal_size_limit = {_WAL_LIMIT_BYTES}")
    connection.execute(f"pragma cache_size = -{_PAGE_CACHE_BYTES >> 10}")
    if not ours:
        connection.execute("begin immediate")
        if not _is_cache(connection, path):
            for statement in _SCHEMA:
                connection.execute(statement)
        connection.execute("commit")
    if connection.execute("pragma user_version").fetchone()[0] == 1:
        _upgrade(connection)


def _upgrade(connection: sqlite3.Connection) -> None:
    """Copy the responses of format 1, whose table contained the index of all keys."""
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
def _file_lock(path: Path) -> Iterator[None]:
    """Keep other processes from renaming the same damaged file; does nothing where locks are not supported."""
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
