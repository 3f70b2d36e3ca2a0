"""Child of a test: runs a job of which two answers never come, and says what is left after SIGINT."""

from __future__ import annotations

import signal
import sys
import time

import skytells_nb as sky
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.errors import Interrupted

interrupted_at = 0.0


def note(signum: int, frame: object) -> None:
    global interrupted_at
    interrupted_at = time.monotonic()
    raise KeyboardInterrupt


signal.signal(signal.SIGINT, note)
base_url, key, cache = sys.argv[1:]
session = sky.connect(key, base_url=base_url, cache=cache, max_in_flight=5)
try:
    # The stand-in answers one word at once and holds back the second word of an answer.
    session.engine.run(completion_job("gpt-5"), ["one", "two", "three", "held back", "held too"])
except Interrupted as stop:
    seconds = time.monotonic() - interrupted_at
    print(stop)
    print("kept", session.cache.stats().entries)
    print("seconds", seconds)
