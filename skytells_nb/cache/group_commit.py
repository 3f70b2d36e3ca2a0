"""Group commit: the first waiting thread writes the rows of all others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from skytells_nb.cache.store import Row


class _Write:
    """The rows of one caller. Its ``turn`` is released once they are written, or once the caller must write."""

    __slots__ = ("problem", "rows", "turn", "written")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.written = False
        self.problem: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit:
    """Pass rows to ``save``, one group at a time; rows that arrive during one call form the next group.

    A caller thus waits for one group at most, and a single caller does not wait for a thread. Ctrl-C, which reaches
    the main thread only, cannot interrupt a group: the main thread's rows are written by another thread.
    """

    def __init__(self, save: Callable[[list[Row]], None]) -> None:
        self._save = save
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Discard pending rows and locks in a forked child, which has none of its parent's threads."""
        self._lock = threading.Lock()
        self._pending: list[_Write] = []
        self._busy = False

    def write(self, rows: Sequence[Row]) -> None:
        """Return when the rows are saved; an exception of ``save`` is raised here."""
        write = _Write(rows)
        if threading.current_thread() is not threading.main_thread():
            self._write(write)
        else:
            thread = threading.Thread(target=self._write, args=(write,), name="skytells-cache", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread can start while the interpreter shuts down, and rows may still arrive.
                self._write(write)
            else:
                thread.join()
        if write.problem is not None:
            raise write.problem

    def _write(self, write: _Write) -> None:
        with self._lock:
            self._pending.append(write)
            first = not self._busy
            self._busy = True
        if not first:
            write.turn.acquire()
        if not write.written:
            self._write_group()

    def _write_group(self) -> None:
        """Write all pending rows, the caller's among them; then release the first caller that arrived meanwhile."""
        with self._lock:
            group, self._pending = self._pending, []
        problem: BaseException | None = None
        try:
            self._save([row for write in group for row in write.rows])
        except BaseException as error:
            problem = error
        for write in group:
            write.problem = problem
            write.written = True
            write.turn.release()
        with self._lock:
            self._busy = bool(self._pending)
            following = self._pending[0] if self._pending else None
        if following is not None:
            following.turn.release()
