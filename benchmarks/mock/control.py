"""Start the server, tell it how to behave, read its counts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def running(python: str) -> Iterator[int]:
    """The port of a server that runs while the block does, on the last core where there are several."""
    command = [python, "-m", "benchmarks.mock.server"]
    cores = os.cpu_count() or 1
    if shutil.which("taskset") and cores > 1:
        command = ["taskset", "-c", str(cores - 1), *command]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("The mock server did not start.")
            yield int(line)
        finally:
            process.kill()


def behave(port: int, behavior: Mapping[str, Any]) -> None:
    """Start a run with zeroed counts."""
    _ask(port, "/behavior", dict(behavior))


def counts(port: int) -> dict[str, Any]:
    """What the server has counted since."""
    return _ask(port, "/counts")


def _ask(port: int, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data=None if body is None else json.dumps(body).encode()
    )
    # A proxy from the environment is no way to this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        told: dict[str, Any] = json.load(answer)
        return told
