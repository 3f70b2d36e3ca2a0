"""Writing in groups: whoever comes first writes for all who wait."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from skytells_nb.cache.sqlite.queries import Row


class _Job:
    """The rows of one caller. Its turn ends the waiting: they are written, or the caller is to write."""

    __slots__ = ("problem", "rows", "turn", "written")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.written = False
        self.problem: BaseException | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit:
    """Gives rows to ``save``, one group at a time; everything that arrives during one call goes into the next.

    So nothing waits longer than the group before it takes, and a caller alone writes without waiting for a thread.
    Ctrl-C, which only ever reaches the main thread, cannot break a group: that one's rows go through another thread.
    """

    def __init__(self, save: Callable[[list[Row]], None]) -> None:
        self._save = save
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start afresh, as a forked child must: its parent's threads and their locks are not here."""
        self._lock = threading.Lock()
        self._jobs: list[_Job] = []
        self._busy = False

    def write(self, rows: Sequence[Row]) -> None:
        """Return when the rows are saved; what ``save`` raises is raised here."""
        job = _Job(rows)
        if threading.current_thread() is not threading.main_thread():
            self._write(job)
        else:
            thread = threading.Thread(target=self._write, args=(job,), name="skytells-cache", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread starts while the interpreter shuts down, and rows may still come.
                self._write(job)
            else:
                thread.join()
        if job.problem is not None:
            raise job.problem

    def _write(self, job: _Job) -> None:
        with self._lock:
            self._jobs.append(job)
            first = not self._busy
            self._busy = True
        if not first:
            job.turn.acquire()
        if not job.written:
            self._write_group()

    def _write_group(self) -> None:
        """Write all that waits, the caller's own rows among it; then whoever came meanwhile does the same."""
        with self._lock:
            group, self._jobs = self._jobs, []
        problem: BaseException | None = None
        try:
            self._save([row for job in group for row in job.rows])
        except BaseException as found:
            problem = found
        for job in group:
            job.problem = problem
            job.written = True
            job.turn.release()
        with self._lock:
            self._busy = bool(self._jobs)
            following = self._jobs[0] if self._jobs else None
        if following is not None:
            following.turn.release()
