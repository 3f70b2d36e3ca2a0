"""Child of a test: runs a job of which two answers never come, and says what is left after SIGINT."""

from __future__ import annotations

import sys

import skytells_nb as sky
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.errors import Interrupted
from skytells_nb.progress.events import Progress

said: list[str] = []


def say_what_is_stored(event: Progress) -> None:
    if event.done >= 3 and not said:
        said.append("stored")
        print("stored", flush=True)


base_url, key, cache = sys.argv[1:]
session = sky.connect(key, base_url=base_url, cache=cache, max_in_flight=5)
try:
    # The stand-in answers one word at once and holds back the second word of an answer.
    texts = ["one", "two", "three", "held back", "held too"]
    session.engine.run(completion_job("gpt-5"), texts, on_progress=say_what_is_stored)
except Interrupted as stop:
    print(stop)
    print("kept", session.cache.stats().entries)
