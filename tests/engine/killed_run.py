"""Program of a test: starts runs in processes of their own, so that the test can kill them and start the next at once.

Each line of standard input is an order in JSON, each line of standard output its answer: ``{"start": {...}}`` forks a
process that makes the run, and gives its id; ``{"wait": id}`` gives how that process ended. A run that came to its end
writes its completions, and what it sent, into the file ``done`` and stays until it is killed; one that waits makes the
file ``done.waits``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import skytells_nb as sky
from skytells_nb.engine import single_flight
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.errors import Interrupted, SkytellsError

JOBS = {"chat": completion_job("gpt-5"), "embeddings": embedding_job("skytells-embed-3-small")}


def run(
    endpoint: str,
    texts: str,
    key: str,
    done: str,
    lease: float | None = None,
    renew: float | None = None,
    **connection: Any,
) -> None:
    if lease is not None:
        single_flight.LEASE_S, single_flight.RENEW_EVERY_S = lease, renew or lease / 4
    # A child of a program that waits for orders: its main thread takes the interrupt, as a notebook's does.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    result: dict[str, Any] = {"answers": [], "sent": 0, "error": None}
    session = sky.connect(key, **connection)
    try:
        outcome = session.engine.run(
            JOBS[endpoint],
            json.loads(Path(texts).read_text("utf-8")),
            on_progress=lambda event: Path(f"{done}.waits").touch() if event.waiting else None,
        )
    except Interrupted as stop:
        outcome = stop.outcome
        result["error"] = type(stop).__name__
    except SkytellsError as problem:
        outcome = None
        result["error"] = type(problem).__name__
    if outcome is not None:
        result["sent"] = outcome.report.sent
        result["failed"] = outcome.report.failed
        values = outcome.values if endpoint == "chat" else []
        result["answers"] = [value and CachedCompletion.from_bytes(value).text for value in values]
    session.close()
    written = Path(f"{done}.part")
    written.write_text(json.dumps(result), encoding="utf-8")
    written.rename(done)


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            print(os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            try:
                run(**order["start"])
            except BaseException as problem:
                sys.stderr.write(f"{problem!r}\n")
                os._exit(1)
            while True:
                signal.pause()
        print(child, flush=True)


if __name__ == "__main__":
    main()
