"""Workers from outside: start one, read its results, kill it when half of its rows are answered."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell
from benchmarks.environments import python_of, tokenizers
from benchmarks.mock import control
from benchmarks.mock.control import ROOT
from benchmarks.worker import RESULT, STARTED


@dataclass
class Bench:
    """Where the server is, how long a worker may take, and where it may write."""

    port: int
    timeout_s: float
    scratch: Path

    def run(self, cell: Cell) -> Iterator[dict[str, Any]]:
        """The results of a cell: one, or one a phase where the workload has phases."""
        folder = self.scratch / f"{cell.adapter}-{cell.workload.name}-{cell.variant}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            if cell.workload.name == "W8":
                yield self._killed(cell, folder)
            elif cell.workload.cached and cell.workload.name != "W4M":
                cold = self._work(cell, folder, "cold")
                yield cold
                if "error" not in cold:
                    yield self._work(cell, folder, "warm")
            else:
                yield self._work(cell, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _work(self, cell: Cell, folder: Path, phase: str | None = None, *, keep_counts: bool = False) -> dict[str, Any]:
        with self._worker(cell, folder, phase, keep_counts) as worker, _limited(worker, self.timeout_s) as late:
            for line in worker.stdout or ():
                if line.startswith(RESULT):
                    result: dict[str, Any] = json.loads(line.removeprefix(RESULT))
                    return result
            why = f"not done after {self.timeout_s:g} s" if late.is_set() else "ended without a result"
        return {**_named(cell, phase), "error": why, "server": control.counts(self.port)}

    def _killed(self, cell: Cell, folder: Path) -> dict[str, Any]:
        """SIGKILL when half of the rows are answered, then the same again in a new process."""
        with self._worker(cell, folder, None, False) as worker, _limited(worker, self.timeout_s):
            started = any(line.startswith(STARTED) for line in worker.stdout or ())
            while started and worker.poll() is None:
                if control.counts(self.port)["rows_answered"] >= cell.rows // 2:
                    break
                time.sleep(0.01)
            killed = started and worker.poll() is None
        if not killed:
            return {**_named(cell, "rerun"), "error": "could not be killed at half of its rows"}
        before = _settled(self.port)
        again = self._work(cell, folder, "rerun", keep_counts=True)
        return {**again, "answered_before_kill": before["rows_answered"]}

    @contextmanager
    def _worker(
        self, cell: Cell, folder: Path, phase: str | None, keep_counts: bool
    ) -> Iterator[subprocess.Popen[str]]:
        python = python_of(cell.adapter)
        assert python is not None
        folder.mkdir(parents=True, exist_ok=True)
        command = [python, "-m", "benchmarks.worker", "--adapter", cell.adapter, "--workload", cell.workload.name]
        command += ["--variant", cell.variant, "--port", str(self.port), "--rows", str(cell.rows)]
        command += ["--cache-dir", str(folder), *(["--phase", phase] if phase else [])]
        command += ["--keep-counts"] if keep_counts else []
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}
        # A setting of this user would make another client of ours, and a progress bar would cost the peers time.
        environment = {name: value for name, value in environment.items() if not name.startswith("SKYTELLS_")}
        environment.update(TQDM_DISABLE="1", SKYTELLS_CONFIG=str(folder / "no-config.toml"))
        if found := tokenizers():
            environment["TIKTOKEN_CACHE_DIR"] = found
        log = self.scratch / f"{cell.adapter}-{cell.workload.name}-{cell.variant}.log"
        with (
            open(log, "a") as errors,
            # Some libraries write into the working folder.
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=environment,
                start_new_session=True,
            ) as worker,
        ):
            try:
                yield worker
            finally:
                _kill(worker)


def _kill(worker: subprocess.Popen[str]) -> None:
    # Its own session: what it has started ends with it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)


@contextmanager
def _limited(worker: subprocess.Popen[str], seconds: float) -> Iterator[threading.Event]:
    """Kill the worker when its time is over; the event says that it was."""
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(worker)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _settled(port: int) -> dict[str, Any]:
    """The counts after responses in flight were discarded."""
    told = control.counts(port)
    for _ in range(50):
        time.sleep(0.1)
        before, told = told, control.counts(port)
        if told["requests"] == before["requests"] and told["answered"] == before["answered"]:
            break
    return told


def _named(cell: Cell, phase: str | None) -> dict[str, Any]:
    named = {"adapter": cell.adapter, "workload": cell.workload.name, "variant": cell.variant, "rows": cell.rows}
    return {**named, "phase": phase} if phase else named
