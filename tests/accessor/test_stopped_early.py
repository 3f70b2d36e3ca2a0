"""Ctrl-C in methods that make several runs: one report of all of them, and what was paid is not paid again."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from judges import WordJudge
from local_fakes import fake_server
from served import KEY, wait_until_idle

from skytells_nb.local.faults import Faults
from skytells_nb.types.models import LISTED_PRICES, Price

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

VECTORS, CHAT = b'"input"', b'"messages"'


@dataclass(frozen=True)
class Stop:
    """A method, and what is in the request during which it is stopped; ``paid`` says whether a run went before."""

    name: str
    method: str
    marks: tuple[bytes, ...]
    paid: bool
    code: str
    rows: int = 4


def stop(name: str, method: str, mark: bytes, kind: bytes, *, paid: bool, code: str, rows: int = 4) -> Stop:
    return Stop(name, method, (f"<{name}>".encode(), kind, mark), paid, code, rows)


STOPS = [
    stop("query", "search", b"where", VECTORS, paid=False, code='df.skytells.search("where <query>", "t", 2, **quiet)'),
    stop("column", "search", b"cat", VECTORS, paid=True, code='df.skytells.search("where <column>", "t", 2, **quiet)'),
    stop("dedupe", "dedupe", b"", VECTORS, paid=False, code='df.skytells.dedupe("t", **quiet)'),
    stop("vectors", "cluster", b"", VECTORS, paid=False, code='df.skytells.cluster("t", 2, **quiet)'),
    stop("names", "cluster", b"topic", CHAT, paid=True, code='df.skytells.cluster("t", 2, **quiet)'),
    stop("sides", "join", b"", VECTORS, paid=False, code='df.skytells.join(df, "t", confirm=True, **quiet)', rows=8),
    stop("pairs", "join", b"", CHAT, paid=True, code='df.skytells.join(df, "t", confirm=True, **quiet)', rows=8),
    stop("parts", "summarize", b"part of a larger", CHAT, paid=False, code="summarize()", rows=1),
    stop("whole", "summarize", b"as one text", CHAT, paid=True, code="summarize()", rows=1),
    stop("labels", "classify", b"label", VECTORS, paid=False, code="nearest_label()"),
    stop("texts", "classify", b"cat", VECTORS, paid=True, code="nearest_label()"),
    stop("first", "extract", b"", CHAT, paid=False, code='df.skytells.extract("t", Short, **quiet)'),
    stop("repair", "extract", b"too long", CHAT, paid=True, code='df.skytells.extract("t", Short, **quiet)'),
]

CHILD = """
import json, signal, sys, time
import pandas as pd, pydantic
import skytells_nb as sky

class Short(pydantic.BaseModel):
    word: str

    @pydantic.field_validator("word")
    @classmethod
    def not_the_whole_text(cls, value):
        if value.startswith("a cat") or value.startswith("b cat"):
            raise ValueError("too long")
        return value

def note(signum, frame):
    global stopped_at
    stopped_at = time.monotonic()
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, note)
quiet = {"progress": False, "budget": 1.0}

def summarize():
    return df.assign(t=df["t"] + " word" * 90).pipe(keep).skytells.summarize("t", window=150, **quiet)

def nearest_label():
    return df.skytells.classify("t", [f"label <{name}>", f"label two <{name}>"], via="embedding", **quiet)

def keep(frame):
    global df
    df = frame
    return frame

session = sky.connect()
for name, code in json.loads(sys.argv[1]):
    said = ["a cat sat", "b cat ran", "stocks fell", "bonds rose"]
    whole = df = pd.DataFrame({"t": [f"{text} Is<{name}>" for text in said]}, index=list("vwxy"))
    before = session.totals.cost or 0
    try:
        eval(code)
    except KeyboardInterrupt as problem:
        seen = {"kind": type(problem).__name__, "seconds": time.monotonic() - stopped_at}
    else:
        seen = {"kind": "not stopped"}
    report = df.skytells.report
    seen.update(operation=report.operation, state=report.state, rows=report.rows, tokens=report.tokens_in)
    seen.update(figures=[report.answered, report.failed, report.nulls, report.skipped])
    seen.update(cost=report.cost, totals=(session.totals.cost or 0) - before, same=session.last_report is report)
    seen.update(partial=None if report.partial is None else len(report.partial))
    df = whole
    again = eval(code)
    seen.update(again=again.skytells.report.state, rest=again.skytells.report.tokens_in)
    print(json.dumps(seen), flush=True)
"""


@dataclass(frozen=True)
class Held(Faults):
    """The first request with a stop's marks is not answered, and tells that it has come."""

    came: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    told: set[str] = field(default_factory=set)

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        for one in STOPS:
            if one.name not in self.told and all(mark in body for mark in one.marks):
                self.told.add(one.name)
                self.came.put(one.name)
                return Faults(latency=60.0)
        return Faults()


def until_held(held: Held, child: subprocess.Popen[str]) -> str:
    """The name of the stop whose request has come."""
    while child.poll() is None:
        with contextlib.suppress(queue.Empty):
            return held.came.get(timeout=0.2)
    assert child.stderr is not None
    raise AssertionError(f"the program ended too early: {child.stderr.read()}")


def test_each_verb_is_stopped_in_each_of_its_runs_and_goes_on_from_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is of the method, not of the run: its name, its rows, what all runs so far have cost."""
    held = Held()
    # What the server's catalog says; the program learns it there, for its budget.
    monkeypatch.setitem(LISTED_PRICES, "skytells-embed-3-small", Price(0.02, 0.0))
    with fake_server(api_key=KEY, faults=held, generator=WordJudge()) as server:
        settings = {
            "SKYTELLS_API_KEY": KEY,
            "SKYTELLS_BASE_URL": server.base_url,
            "SKYTELLS_CACHE": str(tmp_path / "c.sqlite"),
            "SKYTELLS_MAX_IN_FLIGHT": "1",
        }
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps([(one.name, one.code) for one in STOPS])],
            env={**os.environ, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        found: dict[str, dict[str, Any]] = {}
        try:
            for one in STOPS:
                assert until_held(held, child) == one.name
                child.send_signal(signal.SIGINT)
                found[one.name] = json.loads(child.stdout.readline() or "{}")
            _, errors = child.communicate(timeout=60)
        finally:
            child.kill()
            child.wait()
        repeated = sum(wait_until_idle(server, endpoint).repeated for endpoint in ("chat", "embeddings"))
    assert child.returncode == 0, errors
    for one in STOPS:
        seen = found[one.name]
        assert (seen["kind"], seen["operation"], seen["state"]) == ("Interrupted", one.method, "interrupted"), one.name
        assert (seen["rows"], sum(seen["figures"])) == (one.rows, one.rows), (one.name, seen)
        assert (seen["tokens"] > 0, seen["cost"] > 0) == (one.paid, one.paid), (one.name, seen)
        assert seen["cost"] == pytest.approx(seen["totals"]), one.name
        assert seen["same"], one.name
        assert seen["partial"] in (None, one.rows), (one.name, seen)
        assert (seen["again"], seen["rest"] > 0) == ("done", True), one.name
    assert max(seen["seconds"] for seen in found.values()) < 30  # and not the minute that each request is held
    assert repeated == 0
