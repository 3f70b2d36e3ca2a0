"""Ctrl-C ends a comparison of many vectors at once: no product takes long."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

CHILD = """
import sys, threading, time
import numpy as np
from skytells_nb.vectors.arrays import unit_vectors
from skytells_nb.vectors.inverted_file import nearest_approximately
from skytells_nb.vectors.near_duplicates import near_duplicates
matrix = unit_vectors(np.random.default_rng(0).standard_normal((60_000, 128)).astype(np.float32))
what = sys.argv[1]
def say(done, total=None):
    print("step", done, flush=True)
try:
    if what == "dedupe":
        near_duplicates(matrix, 0.9, recall=1, on_progress=say)
    elif what == "dedupe by lists":
        near_duplicates(matrix, 0.9, recall=0.99, on_progress=say)
    else:
        nearest_approximately(matrix, matrix[::-1].copy(), int(what), recall=1, on_progress=say)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a child")
@pytest.mark.parametrize("what", ["dedupe", "dedupe by lists", "1", "5"])
def test_ctrl_c_ends_the_comparison(what: str) -> None:
    """Of 60,000 rows a small part more is compared, whatever the speed of the machine."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, what], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline().split()
    assert first[0] == "step"
    child.send_signal(signal.SIGINT)
    started = time.monotonic()
    lines = child.communicate()[0].splitlines()
    assert lines[-1] == "interrupted"
    done = [int(line.split()[1]) for line in lines[:-1]]
    assert max(done, default=int(first[1])) < 40_000, f"after {time.monotonic() - started:.1f} s"
