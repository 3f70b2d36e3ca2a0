"""Real processes on one account of a real server."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from served import served

from benchmarks.pacing import Counting, Flat
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.server import LocalServer

WORKER = """
import sys
import pandas as pd
import skytells_nb as sky
address, key, number = sys.argv[1:]
sky.connect(key, base_url=address, cache="off", max_in_flight=16)
frame = pd.DataFrame({"text": [f"{number} {row}" for row in range(5000)]})
print("ready", flush=True)
sys.stdin.readline()
frame.skytells.complete("{text}", progress=False)
"""


class Workers:
    """Processes that complete rows until they are killed, all of them begun at once."""

    def __init__(self, address: str, key: str, count: int) -> None:
        command = [sys.executable, "-c", WORKER, address, key]
        self.processes = [
            subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(count)
        ]

    def start(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            self.processes[number].kill()
            self.processes[number].wait()


@pytest.mark.slow
def test_two_processes_share_a_limit_and_are_hardly_rejected() -> None:
    """Most of what is permitted is used, also on a busy machine, and at most one request in twenty refused."""
    with served("latency=0.02", limits=LimitOptions(50, 2.0)) as server:
        workers = Workers(server.base_url, server.api_key, 2)
        try:
            workers.start()
            # 14 s are seven windows; the first answer may come late on a busy machine.
            while not server.stats["chat"].answered:
                assert not threading.Event().wait(0.01)
            threading.Event().wait(14)
            counts = server.stats["chat"]
        finally:
            workers.kill(0, 1)
    answered, refused = counts.statuses.get(200, 0), counts.statuses.get(429, 0)
    assert answered >= 0.6 * 50 * 7
    assert refused <= 0.05 * (answered + refused)


@pytest.mark.slow
def test_processes_that_are_told_no_limit_share_it_and_a_survivor_takes_it_all() -> None:
    """Nothing but rejections shows the limit, and one process is killed in the middle."""
    counting, flat, limit = Counting(), Flat(), 20
    limits = LimitOptions(limit, 1.0, kind="bucket", headers=False)
    with LocalServer(limits=limits, generator=counting, embedder=flat, moderator=flat) as server:
        workers = Workers(server.base_url, server.api_key, 2)
        try:
            workers.start()
            while not counting.let_through:
                assert not threading.Event().wait(0.01)
            begun = time.monotonic()
            threading.Event().wait(15)
            workers.kill(0)
            threading.Event().wait(10)
            statuses = server.stats["chat"].statuses
        finally:
            workers.kill(0, 1)
    together = [number for when, number in counting.let_through if begun + 3 <= when < begun + 14]
    alone = [number for when, number in counting.let_through if begun + 18 <= when < begun + 25]
    each = [together.count(0), together.count(1)]
    assert sum(each) >= 0.6 * limit * 11
    assert min(each) >= 0.5 * max(each)
    assert set(alone) == {1}
    # One that does not take what the other left stays near a half.
    assert len(alone) >= 0.65 * limit * 7
    assert statuses.get(429, 0) <= 0.15 * sum(statuses.values())
