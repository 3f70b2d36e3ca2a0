"""Ctrl-C in the middle of ``df.skytells.complete``: back at once, what came is there, the rest goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel
from local_fakes import fake_server
from served import KEY, wait_until_idle

from skytells_nb.cache import SqliteStore
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS = 900
IN_FLIGHT = 4
STOPS = (150, 400, 650)
"""Answers after which a run is interrupted; the next run goes on with the rest."""
HELD_S = 60.0
"""A run that waited for its requests in flight would take this long; how long it takes is not a matter for a test."""


@dataclass(frozen=True)
class Held(Faults):
    """Rows from the next stop on are not answered: the run waits there, however late the stop comes."""

    stops: list[int] = field(default_factory=lambda: [STOPS[0]])
    came: list[int] = field(default_factory=list)
    """The rows that were not answered."""

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        row = re.search(rb'"say (\d+)"', body)
        assert row is not None
        if int(row[1]) < self.stops[-1]:
            return Faults(latency=0.01)
        self.came.append(int(row[1]))
        return Faults(latency=HELD_S)


CHILD = """
import json, signal, sys, time
import pandas as pd
import skytells_nb as sky

def note(signum, frame):
    global interrupted_at
    interrupted_at = time.monotonic()
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, note)
df = pd.DataFrame({"n": range(int(sys.argv[1]))}, index=[f"row {n}" for n in range(int(sys.argv[1]))])
while True:
    try:
        done = df.skytells.complete("say {n}")
    except KeyboardInterrupt as stop:
        seconds = time.monotonic() - interrupted_at
        report = df.skytells.report
        partial = report.partial
        given = partial.dropna()
        print(json.dumps({
            "kind": type(stop).__name__,
            "seconds": seconds,
            "state": report.state,
            "answered": report.answered,
            "stored": sky.session.current().cache.stats().entries,
            "given": len(given),
            "right": (given == "say " + df["n"].astype(str).reindex(given.index)).all().item(),
            "index": partial.index.equals(df.index),
        }), flush=True)
    else:
        print(json.dumps({"right": (done["completion"] == "say " + df["n"].astype(str)).all().item()}), flush=True)
        break
"""


def environment(server: LocalServer, cache: Path) -> dict[str, str]:
    settings = {
        "SKYTELLS_API_KEY": KEY,
        "SKYTELLS_BASE_URL": server.base_url,
        "SKYTELLS_CACHE": str(cache),
        "SKYTELLS_MAX_IN_FLIGHT": str(IN_FLIGHT),
    }
    return {**os.environ, **settings}


def until_stop(server: LocalServer, held: Held, answers: int) -> None:
    """Wait until so many rows are answered, and the run waits for one that is not."""
    deadline = time.monotonic() + 90
    while server.stats["chat"].answered < answers or not any(row >= answers for row in [*held.came]):
        assert time.monotonic() < deadline, f"the run did not come to {answers} answers"
        time.sleep(0.002)


def stored(cache: Path) -> int:
    store = SqliteStore(cache)
    entries = store.stats().entries
    store.close()
    return entries


def test_a_program_is_back_at_once_with_the_partial_column(tmp_path: Path) -> None:
    """Three times in one run over the same rows; each run goes on where the one before it was stopped."""
    cache = tmp_path / "c.sqlite"
    held = Held()
    with fake_server(api_key=KEY, faults=held) as server:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(ROWS)],
            env=environment(server, cache),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        stops: list[dict[str, Any]] = []
        try:
            for answers, following in pairwise((*STOPS, ROWS)):
                until_stop(server, held, answers)
                held.stops.append(following)
                child.send_signal(signal.SIGINT)
                stops.append(json.loads(child.stdout.readline()))
            out, errors = child.communicate(timeout=90)
        finally:
            child.kill()
        counts = wait_until_idle(server, "chat")
    assert child.returncode == 0, errors
    assert json.loads(out) == {"right": True}
    for stop, answers in zip(stops, STOPS, strict=True):
        assert (stop["kind"], stop["state"], stop["right"], stop["index"]) == ("Interrupted", "interrupted", True, True)
        assert answers - IN_FLIGHT <= stop["given"] == stop["answered"] < ROWS
        assert stop["answered"] <= stop["stored"] <= stop["answered"] + IN_FLIGHT
    assert max(stop["seconds"] for stop in stops) < HELD_S / 2
    assert stored(cache) == counts.distinct == ROWS
    assert len(STOPS) <= counts.inputs - ROWS <= IN_FLIGHT * len(STOPS)


FRAME = f"""
import pandas as pd, skytells_nb as sky
df = pd.DataFrame({{"n": range({ROWS})}})
said = [f"say {{n}}" for n in range({ROWS})]
"""
LOOK = """
report = df.skytells.report
given = report.partial.dropna()
right = (given == "say " + df["n"].astype(str).reindex(given.index)).all().item()
"""


def test_a_kernel_is_back_at_once_with_the_partial_column(tmp_path: Path) -> None:
    """The kernel is interrupted as JupyterLab does it; its cell fails, and the next one has the partial column."""
    cache = tmp_path / "c.sqlite"
    held = Held()
    with fake_server(api_key=KEY, faults=held) as server:
        manager, client = start_new_kernel(kernel_name="python3", env=environment(server, cache))
        try:
            ask(client, FRAME)
            seconds = []
            for answers, following in pairwise((*STOPS, ROWS)):
                # A kernel may still be dropping what waits behind a cell that failed when the next one comes.
                cell = client.execute(
                    'df.skytells.complete("say {n}", progress=True)["completion"]', stop_on_error=False
                )
                until_stop(server, held, answers)
                held.stops.append(following)
                begun = time.monotonic()
                manager.interrupt_kernel()
                reply = reply_to(client, cell)
                seconds.append(time.monotonic() - begun)
                assert (reply["status"], reply["ename"]) == ("error", "Interrupted")
                seen = ask(
                    client, LOOK, state="report.state", right="right", given="len(given)", answered="report.answered"
                )
                assert (seen["state"], seen["right"]) == ("'interrupted'", "True")
                assert answers - IN_FLIGHT <= int(seen["given"]) == int(seen["answered"]) < ROWS
                assert int(seen["answered"]) <= stored(cache) <= int(seen["answered"]) + IN_FLIGHT
            seen = ask(client, "done = df.skytells.complete('say {n}')", right="done['completion'].tolist() == said")
            assert seen["right"] == "True"
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        counts = wait_until_idle(server, "chat")
    assert max(seconds) < HELD_S / 2
    assert counts.distinct == ROWS
    assert len(STOPS) <= counts.inputs - ROWS <= IN_FLIGHT * len(STOPS)


def reply_to(client: Any, cell: str) -> dict[str, Any]:
    while True:
        message = client.get_shell_msg(timeout=90)
        if message["parent_header"]["msg_id"] == cell:
            return dict(message["content"])


def ask(client: Any, code: str = "", **expressions: str) -> dict[str, str]:
    """Run a cell that must not fail; the text of each expression after it."""
    reply = reply_to(client, client.execute(code, user_expressions=expressions))
    assert reply["status"] == "ok", reply
    return {name: found["data"]["text/plain"] for name, found in reply["user_expressions"].items()}
