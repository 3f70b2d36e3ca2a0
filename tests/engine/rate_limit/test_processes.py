"""Real processes on one account of a real server."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from served import served

from skytells_nb.local.api.rate_limits import LimitOptions

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


@pytest.mark.slow
def test_two_processes_share_a_limit_and_are_hardly_rejected() -> None:
    """At least four fifths of what is permitted is used, and at most one request in twenty refused."""
    with served("latency=0.02", limits=LimitOptions(50, 2.0)) as server:
        command = [sys.executable, "-c", WORKER, server.base_url, server.api_key]
        workers = [
            subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for number in range(2)
        ]
        try:
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stdout.readline() == "ready\n"
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
            # 20 s are ten windows; the first answer may come late on a busy machine.
            while not server.stats["chat"].answered:
                assert not threading.Event().wait(0.01)
            threading.Event().wait(20)
            counts = server.stats["chat"]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
    answered, refused = counts.statuses.get(200, 0), counts.statuses.get(429, 0)
    assert answered >= 0.8 * 50 * 10
    assert refused <= 0.05 * (answered + refused)
