"""A process that has imported what every test needs and runs pytest in copies of itself, which start at once.

It reads requests as lines of JSON, and prints for each the id of the process and, once it has ended, its exit code.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTED = (
    *("numpy", "pandas", "pytest", "hypothesis", "httpx", "pydantic", "jsonschema", "rich.progress", "starlette"),
    *("uvicorn", "plotly.graph_objects", "IPython.core.interactiveshell", "ipywidgets", "nbformat", "openai"),
)
"""Never the package under test: each copy imports it as it is then."""


class Warm:
    """Runs pytest in ``folder``, one run at a time."""

    def __init__(self, folder: Path, environment: Mapping[str, str], imported: Sequence[str] = IMPORTED) -> None:
        self._output = folder / "warm.log"
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__), *imported],
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1},
            cwd=folder,
            env=dict(environment),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout

    def run(self, arguments: Sequence[str], timeout: float) -> tuple[int | None, str]:
        """Return pytest's exit code, negative after a signal and ``None`` after a timeout, and its output."""
        deadline = time.monotonic() + max(timeout, 1.0)
        self._requests.write(json.dumps([list(arguments), str(self._output)]) + "\n")
        child = int(self._replies.readline())
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            in_time = selector.select(max(deadline - time.monotonic(), 0.0))
        # Also what a test has left running.
        _kill_group(child)
        code = int(self._replies.readline())
        return (code if in_time else None), self._output.read_text("utf-8", errors="replace")

    def close(self) -> None:
        self._requests.close()
        self._process.wait(30)
        self._replies.close()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _serve() -> None:
    for name in sys.argv[1:]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for line in sys.stdin:
        arguments, output = json.loads(line)
        child = os.fork()
        if child == 0:
            _test(arguments, output)
        # Here too: the process that reads the number may end the group before the child has made it.
        os.setpgid(child, child)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _test(arguments: list[str], output: str) -> None:
    os.setpgid(0, 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    sys.argv = ["pytest", *arguments]
    import pytest

    code = 3
    try:
        code = int(pytest.main(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
