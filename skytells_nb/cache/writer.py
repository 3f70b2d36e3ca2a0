"""One thread that writes, in groups of whatever is waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from skytells_nb.cache.answers import Row

LINGER_S = 1.0


class _Job:
    """The rows of one caller, and whether they are written."""

    __slots__ = ("done", "problem", "rows")

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.done = threading.Event()
        self.problem: BaseException | None = None


class Writer:
    """Gives rows to ``save`` on a thread of its own; everything that arrives during one call goes into the next.

    So nothing waits longer than the group before it takes, and Ctrl-C, which only ever reaches the main thread, cannot
    break a group. The thread ends when nothing came for a second, and starts again with the next rows.
    """

    def __init__(self, save: Callable[[list[Row]], None]) -> None:
        self._save = save
        self.forget()

    def forget(self) -> None:
        """Start afresh, as a forked child must: its parent's threads and their locks are not here."""
        self._wake = threading.Condition()
        self._jobs: list[_Job] = []
        self._running = False

    def write(self, rows: Sequence[Row]) -> None:
        """Return when the rows are saved; what ``save`` raises is raised here."""
        job = _Job(rows)
        with self._wake:
            self._jobs.append(job)
            if not self._running:
                self._start()
            self._wake.notify_all()
        job.done.wait()
        if job.problem is not None:
            raise job.problem

    def _start(self) -> None:
        self._running = True
        try:
            threading.Thread(target=self._run, name="skytells-cache", daemon=True).start()
        except RuntimeError:
            # No thread starts while the interpreter shuts down, and rows may still come.
            self._running = False
            self._save_group(self._take())

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._wake.wait_for(lambda: self._jobs, timeout=LINGER_S):
                    self._running = False
                    return
                group = self._take()
            self._save_group(group)

    def _take(self) -> list[_Job]:
        group, self._jobs = self._jobs, []
        return group

    def _save_group(self, group: list[_Job]) -> None:
        problem: BaseException | None = None
        try:
            self._save([row for job in group for row in job.rows])
        except BaseException as found:
            problem = found
        for job in group:
            job.problem = problem
            job.done.set()
