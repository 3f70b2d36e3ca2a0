"""Runs in processes of their own, that tests start, kill and suspend."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skytells_nb.local.api.stats import Counts
from skytells_nb.local.server import LocalServer

PROGRAM = Path(__file__).parent / "killed_run.py"
TIMEOUT_S = 120.0


class Runs:
    """Runs over the same texts and cache, each in a process of its own; see ``killed_run.py``."""

    def __init__(self, server: LocalServer, endpoint: str, texts: list[str], folder: Path, **settings: Any) -> None:
        self.server = server
        self.endpoint = endpoint
        self.cache = folder / "answers.sqlite"
        folder.mkdir(exist_ok=True)
        self._folder = folder
        self._texts = folder / "texts.json"
        self._texts.write_text(json.dumps(texts), encoding="utf-8")
        self._settings = {"base_url": server.base_url, "key": server.api_key, "cache": str(self.cache), **settings}
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Runs:
        return self

    def __exit__(self, *problem: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._program.pid, signal.SIGKILL)
        self._program.communicate()

    @property
    def counts(self) -> Counts:
        """What the server counts now."""
        return self.server.stats[self.endpoint]

    def start(self, name: str = "run", **changes: Any) -> int:
        """Begin a run, perhaps with other settings; the id of its process."""
        done = self._folder / name
        done.unlink(missing_ok=True)
        order = {"endpoint": self.endpoint, "texts": str(self._texts), "done": str(done), **self._settings, **changes}
        return self._order(start=order)

    def done(self, name: str = "run") -> bool:
        """Whether the last run of this name has come to its end."""
        return (self._folder / name).exists()

    def waits(self, name: str) -> bool:
        """Whether this run has said that it waits."""
        return (self._folder / f"{name}.waits").exists()

    def came_to(self, distinct: int, requests: int) -> bool:
        """Whether so many inputs were sent in all, and more than these requests; or the run had nothing to send."""
        counts = self.counts
        return self.done() or (counts.distinct >= distinct and counts.requests > requests)

    def result(self, name: str = "run") -> dict[str, Any]:
        """What a run that has come to its end says: its answers, how many it sent, and the error that ended it."""
        found: dict[str, Any] = json.loads((self._folder / name).read_text("utf-8"))
        return found

    def answers(self, name: str = "run") -> list[str | None]:
        """The completions of a run that has."""
        found: list[str | None] = self.result(name)["answers"]
        return found

    def kill(self, child: int) -> None:
        os.kill(child, signal.SIGKILL)
        assert self._order(wait=child) == -signal.SIGKILL

    def _order(self, **order: Any) -> int:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(order) + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not reached():
        assert time.monotonic() < deadline, "the run did not come this far"
        time.sleep(0.001)
