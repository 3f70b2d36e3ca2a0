"""The file that keeps profiles of services for later processes: one JSON file beside the cache.

It holds nothing that was paid for, so whatever is wrong with it costs a few rejected requests and never a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT = "skytells-nb service profiles 1"
_BEGINNING = b'{"format":"skytells-nb service profiles'
LOCK_TIMEOUT_S = 0.3
MAX_BYTES = 1 << 20
MAX_PROFILES = 200
"""Profiles in one file; the oldest go first."""

Record = dict[str, Any]


def profiles_path(cache: Path) -> Path:
    """Return the file of profiles that belongs to a cache file.

    >>> profiles_path(Path("answers.sqlite")).name
    'answers.profiles.json'
    """
    return cache.with_name(f"{cache.stem}.profiles.json")


class ProfileFile:
    """Records by name in one file. Safe between processes; a file that cannot be used counts as empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None

    def read_if_changed(self) -> dict[str, Record]:
        """Return the records if the file is another than at the last call, else nothing."""
        try:
            status = self.path.stat()
        except (OSError, ValueError):
            return {}
        seen = (status.st_ino, status.st_size, status.st_mtime_ns)
        if seen == self._seen:
            return {}
        self._seen = seen
        return self._read() or {}

    def update(self, name: str, record: Record) -> None:
        """Write one record, merged by the caller, and leave the others as they are now."""
        with contextlib.suppress(OSError, ValueError), self._lock():
            if self._foreign():
                return
            records = self._read() or {}
            records.pop(name, None)
            records[name] = record
            self._write(dict(list(records.items())[-MAX_PROFILES:]))

    def get(self, name: str) -> Record | None:
        """Return one record as it is in the file now."""
        with contextlib.suppress(OSError, ValueError):
            return (self._read() or {}).get(name)
        return None

    def _read(self) -> dict[str, Record] | None:
        """Return the records, ``None`` if there is no such file or it is damaged."""
        parsed = self._parse()
        profiles = parsed.get("profiles") if isinstance(parsed, Mapping) and parsed.get("format") == FORMAT else None
        if not isinstance(profiles, Mapping):
            return None
        return {name: dict(record) for name, record in profiles.items() if isinstance(record, Mapping)}

    def _parse(self) -> Any:
        try:
            # Without waiting, should the path be a pipe.
            handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        except (OSError, ValueError):
            return None
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES or not _is_own(status):
                return None
            with open(handle, "rb", closefd=False) as file:
                return json.loads(file.read(MAX_BYTES))
        except (ValueError, RecursionError, OSError):
            return None
        finally:
            os.close(handle)

    def _foreign(self) -> bool:
        """Whether the path is taken by something that is not ours to replace."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return False
        if not stat.S_ISREG(status.st_mode) or not _is_own(status):
            return True
        try:
            with self.path.open("rb") as file:
                beginning = file.read(len(_BEGINNING))
        except OSError:
            return True
        # A file of ours that is damaged still begins as ours do.
        return not _BEGINNING.startswith(beginning)

    def _write(self, profiles: Mapping[str, Record]) -> None:
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({"format": FORMAT, "profiles": profiles}, file, separators=(",", ":"))
            os.replace(name, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other processes from writing; only a merge may be lost where locks are not supported."""
        try:
            import fcntl
        except ImportError:
            yield
            return
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            end = time.monotonic() + LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    # A process that was suspended may hold it; at worst a merge is lost.
                    if time.monotonic() > end:
                        break
                    time.sleep(0.01)
                except OSError:
                    break
            yield
        finally:
            with contextlib.suppress(OSError):
                # A child that was forked meanwhile has the descriptor too.
                fcntl.flock(handle, fcntl.LOCK_UN)
            os.close(handle)


def _is_own(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid in (os.geteuid(), 0)
