"""The progress of a call: from its look-up in the cache to its result."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from served import connected, served, wait_until_idle

import skytells_nb as sky
from skytells_nb.accessor.call import building
from skytells_nb.columns import from_matrix
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.progress.events import Progress
from skytells_nb.session import Session


@pytest.fixture
def every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short steps are shown too, and as often as they are told."""
    set_delays(monkeypatch, 0.0)


def set_delays(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for name in ("skytells_nb.progress.line", "skytells_nb.engine.run", "skytells_nb.accessor.call"):
        for constant in ("LONG_STEP_S", "INITIAL_DELAY_S", "UPDATE_INTERVAL_S"):
            monkeypatch.setattr(f"{name}.{constant}", seconds, raising=False)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Session]:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        yield session


def frame_of(count: int) -> pd.DataFrame:
    return pd.DataFrame({"t": [f"text {number}" for number in range(count)]})


def vectors(count: int) -> pd.DataFrame:
    matrix = np.random.default_rng(0).standard_normal((count, 8)).astype(np.float32)
    return pd.DataFrame({"embedding": from_matrix(matrix)})


@pytest.mark.parametrize(
    ("latency", "texts", "missing", "cached"), [(0.05, 120, 0, 0), (0.05, 120, 2_000, 100), (0.5, 24, 500, 0)]
)
def test_the_time_left_is_near_the_truth(
    latency: float, texts: int, missing: int, cached: int, tmp_path: Path, every_event: None
) -> None:
    """At the rate at which the service has answered so far, whatever share is missing or cached."""
    frame = pd.DataFrame({"t": [*(f"text {number}" for number in range(texts + cached)), *[None] * missing]})
    said: list[float] = []
    elapsed: list[float] = []

    def compare(event: Progress) -> None:
        answered = server.stats["chat"].answered
        if event.state == "running" and 0.2 < answered / texts < 0.8:
            elapsed.append(event.processing_seconds)
            said.append((event.seconds_left or 0.0) / (event.processing_seconds * (texts - answered) / answered))

    with served(f"latency={latency}") as server, connected(server, tmp_path / "c.sqlite"):
        if cached:
            frame.head(cached).skytells.complete("{t}", progress=False, max_in_flight=32)
        wait_until_idle(server, "chat")
        server.stats.reset()
        started = time.monotonic()
        frame.skytells.complete("{t}", max_in_flight=4, progress=compare)
    assert len(said) > 3
    assert max(elapsed) < time.monotonic() - started
    # Where missing or cached rows counted, it would be a tenth; the answers may have come faster before, or slower.
    assert 0.3 < statistics.median(said) < 3


def test_the_look_up_of_cached_answers_is_shown(place: Session, every_event: None) -> None:
    frame = frame_of(1_500)
    frame.skytells.embed("t", progress=False)
    events: list[Progress] = []
    frame.skytells.embed("t", progress=events.append)
    looking = [event for event in events if event.step == "looking up cached answers"]
    assert [event.cached for event in looking] == [0, 512, 1_024]
    assert (events[-1].state, events[-1].done, events[-1].step) == ("done", 1_500, None)
    assert [event.state for event in events].count("done") == 1


def test_what_follows_the_run_is_shown_before_its_end(place: Session, every_event: None) -> None:
    events: list[Progress] = []
    frame_of(3).skytells.complete("Say {t}", details=True, progress=events.append)
    steps = [event.step for event in events if event.step and event.processed]
    assert {"building columns", "building details"} <= {*steps}
    assert [event.state for event in events[-2:]] == ["running", "done"]


def test_what_follows_the_run_is_silent_where_it_is_short(place: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    set_delays(monkeypatch, 1_000.0)  # a machine may stand still for seconds
    events: list[Progress] = []
    frame_of(3).skytells.complete("Say {t}", details=True, progress=events.append)
    assert not [event for event in events if event.step]
    assert events[-1].state == "done"
    building()  # outside of a call


def test_seconds_are_what_the_call_took(place: Session) -> None:
    """Prompts that a slow function makes are part of it."""
    events: list[Progress] = []

    def slow(row: Any) -> str:
        time.sleep(0.15)
        return f"Say {row.t}"

    frame = frame_of(2)
    started = time.monotonic()
    out = frame.skytells.complete(slow, progress=events.append)
    took = time.monotonic() - started
    assert 0.3 <= out.skytells.report.seconds <= took
    assert frame.skytells.report is out.skytells.report is sky.current().last_report
    assert 0.3 <= events[-1].seconds <= took
    assert len(sky.current().reports) == 1


def test_seconds_of_a_method_that_sends_nothing_are_told_too(place: Session) -> None:
    out = vectors(300).skytells.dedupe(threshold=0.99)
    assert out.skytells.report.seconds > 0


def test_a_step_without_requests_has_the_events_of_a_run(place: Session, every_event: None) -> None:
    events: list[Progress] = []
    vectors(3_000).skytells.dedupe(threshold=0.99, progress=events.append)
    assert {(event.label, event.step, event.rows) for event in events} == {("dedupe", "comparing", 3_000)}
    assert (events[-1].state, events[-1].done) == ("done", 3_000)


def test_each_run_of_a_method_ends_once(place: Session, every_event: None) -> None:
    """Texts are embedded, then compared: two parts, each with its own end."""
    events: list[Progress] = []
    frame_of(30).skytells.dedupe("t", threshold=0.99, progress=events.append)
    ends = [(event.label, event.step) for event in events if event.state == "done"]
    assert ends == [("embed", None), ("dedupe", "comparing")]


def test_a_call_that_ends_with_an_error_ends_its_line(place: Session) -> None:
    """A function that fails at the last event costs nothing that is paid for."""
    events: list[Progress] = []

    def listen(event: Progress) -> None:
        events.append(event)
        if event.state == "done":
            raise ValueError("no")

    with pytest.warns(SkytellsWarning, match="will not be called again: ValueError: no"):
        out = frame_of(3).skytells.embed("t", progress=listen)
    assert out["embedding"].notna().all()
    with pytest.raises(InputError):
        frame_of(3).skytells.embed("nothing", progress=events.append)
    assert events[-1].state == "done"
