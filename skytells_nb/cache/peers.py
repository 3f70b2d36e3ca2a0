"""Records that the processes of one user on one machine exchange: a small file each, in a folder of the topic.

Each process replaces its own file and reads the others', so none waits for a lock. Nothing in them was paid for, and
none is needed: whatever is wrong with the folder leaves a process alone.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from skytells_nb.cache.processes import may_be_running, this_process
from skytells_nb.cache.store import Peers
from skytells_nb.user_dirs import APP

MAX_BYTES = 4096
MAX_PEERS = 256
QUIET_S = 0.5
"""Age of a record from which it is asked whether its process still runs."""
FORGOTTEN_S = 60.0
"""Age at which the file of another process is removed."""
_SUFFIX = ".peer"


class FolderPeers:
    """Records in the folders of ``folder``, which is made with the first record and belongs to the user alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def now(self) -> float:
        return time.time()

    def watch(self, topic: bytes) -> Callable[[], bool]:
        return partial(os.path.isdir, self.folder / topic.hex())

    def exchange(self, topic: bytes, owner: bytes, record: bytes, seconds: float) -> dict[bytes, bytes]:
        folder = self.folder / topic.hex()
        try:
            self._write(folder, owner.hex(), record)
            return self._read(folder, owner.hex(), seconds)
        except (OSError, ValueError):
            return {}

    def leave(self, topic: bytes, owner: bytes) -> None:
        folder = self.folder / topic.hex()
        with contextlib.suppress(OSError, ValueError):
            os.unlink(folder / (owner.hex() + _SUFFIX))
        # Another process may have a record there.
        with contextlib.suppress(OSError, ValueError):
            os.rmdir(folder)

    def _write(self, folder: Path, name: str, record: bytes) -> None:
        new = os.path.join(folder, name + ".new")
        content = this_process() + b"\n" + record
        for _ in range(3):
            try:
                handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
                break
            except FileNotFoundError:
                # No process was there, or the last has just left.
                _make_private(self.folder)
                self._remove_forgotten()
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
        else:
            raise FileNotFoundError(folder)
        try:
            os.write(handle, content)
        finally:
            os.close(handle)
        os.replace(new, os.path.join(folder, name + _SUFFIX))

    def _read(self, folder: Path, own: str, seconds: float) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        now = time.time()
        with os.scandir(folder) as entries:
            for entry in entries:
                name, _, suffix = entry.name.partition(".")
                if suffix != "peer" or name == own or len(found) >= MAX_PEERS:
                    continue
                with contextlib.suppress(OSError, ValueError):
                    # One that was written before the clock was set back is as good as new: it will be replaced.
                    age = now - entry.stat(follow_symlinks=False).st_mtime
                    if age > FORGOTTEN_S:
                        os.unlink(entry.path)
                    elif age <= seconds:
                        with open(entry.path, "rb", buffering=0) as file:
                            process, _, record = (file.read(MAX_BYTES) or b"").partition(b"\n")
                        if age < QUIET_S or may_be_running(process):
                            found[bytes.fromhex(name)] = record
        return found

    def _remove_forgotten(self) -> None:
        """Remove the folders of topics in which the last process was killed."""
        before = time.time() - FORGOTTEN_S
        with os.scandir(self.folder) as topics:
            for topic in topics:
                with contextlib.suppress(OSError, ValueError):
                    if topic.stat(follow_symlinks=False).st_mtime < before and topic.is_dir(follow_symlinks=False):
                        for name in os.listdir(topic.path):
                            if os.lstat(os.path.join(topic.path, name)).st_mtime < before:
                                os.unlink(os.path.join(topic.path, name))
                        os.rmdir(topic.path)


class JoinedPeers:
    """The records of several places, such as this machine and a server: each record is in all of them.

    The clock of all is that of the last place.
    """

    def __init__(self, *places: Peers) -> None:
        self.places = places

    def now(self) -> float:
        return self.places[-1].now()

    def watch(self, topic: bytes) -> Callable[[], bool]:
        watched = [place.watch(topic) for place in self.places]
        return lambda: any(is_used() for is_used in watched)

    def exchange(self, topic: bytes, owner: bytes, record: bytes, seconds: float) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for place in self.places:
            found |= place.exchange(topic, owner, record, seconds)
        return found

    def leave(self, topic: bytes, owner: bytes) -> None:
        for place in self.places:
            place.leave(topic, owner)


def machine_peers() -> FolderPeers:
    """Return the records of this user's processes on this machine."""
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if named and os.path.isdir(named) and os.access(named, os.W_OK | os.X_OK):
        return FolderPeers(Path(named) / APP)
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return FolderPeers(Path(tempfile.gettempdir()) / f"{APP}-{user}")


def _make_private(folder: Path) -> None:
    """Make the folder; raise PermissionError if it is another user's, who could see or change what is in it."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise PermissionError(f"{folder} is not a folder of this user")
    if hasattr(os, "getuid") and status.st_mode & 0o077:
        os.chmod(folder, 0o700)
