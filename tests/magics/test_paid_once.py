"""Processes that run the same cell with --cache at the same time pay for its answer once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from magic_service import KEY, Echo, Notebook, interrupt_when, serve
from serving import PATIENCE_S

import skytells_nb.session as sessions
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.errors import Interrupted
from skytells_nb.local import LocalServer

CELL = "%%skytells_chat --cache -o answer\nHello there"
PROGRAM = """
import sys
from IPython.core.interactiveshell import InteractiveShell
import skytells_nb as sky

key, base_url, cache, cell = sys.argv[1:]
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "skytells_nb")
sky.connect(key, base_url=base_url, cache=cache)
print("ready", flush=True)
sys.stdin.readline()
shell.run_cell(cell)
print(repr(str(shell.user_ns.get("answer"))), flush=True)
"""


@contextmanager
def kernels(server: LocalServer, cache: Path, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are about to run the cell: each runs it when it reads a line."""
    command = [sys.executable, "-c", PROGRAM, KEY, server.base_url, str(cache), CELL]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def run_cell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_one_process_asks_while_the_other_waits(tmp_path: Path) -> None:
    """Once the first is killed, the other asks itself."""
    echo = Echo()
    echo.hold_after = 1
    with serve(echo, "") as server, kernels(server, tmp_path / "c.sqlite", 2) as (first, second):
        run_cell(first)
        assert echo.held.wait(PATIENCE_S)
        run_cell(second)
        time.sleep(0.5)
        assert len(echo.messages) == 1
        first.kill()
        first.wait()
        echo.released.set()
        shown = second.communicate(timeout=PATIENCE_S)[0].splitlines()[-1]
    assert shown == "'Hello there'"
    assert len(echo.messages) == 2


def test_a_cell_that_waits_can_be_interrupted(notebook: Notebook, echo: Echo) -> None:
    """Nothing was sent for it, and the variable says so."""
    engine, job = sessions.current().engine, completion_job(sessions.current().settings.model)
    flight = engine._single_flight()
    assert flight is not None
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with engine.hold(job, "Hello there") as cached:
            assert cached is None
            held.set()
            done.wait(PATIENCE_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(PATIENCE_S)
    interrupter = interrupt_when(held, lambda: bool(flight._waiting))
    ran = notebook.run(CELL)
    done.set()
    interrupter.join(PATIENCE_S)
    thread.join(PATIENCE_S)
    answer: Any = notebook.shell.user_ns["answer"]
    assert isinstance(ran.error, Interrupted)
    assert (str(answer), answer.finish_reason, echo.messages) == ("", "interrupted", [])
    assert notebook.run(CELL).error is None
    assert len(echo.messages) == 1
