"""The progress line of a layout."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys

import pytest

from skytells_nb.plots.maps.progress import LogOutput, StageProgress, progress_line
from skytells_nb.progress.events import Progress
from skytells_nb.progress.line import INITIAL_DELAY_S, UPDATE_INTERVAL_S


class Clock:
    """A clock that is set by the test."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def line_with(clock: Clock) -> tuple[StageProgress, list[str]]:
    lines: list[str] = []
    return StageProgress("Map of 9 rows", lambda text, done, total, last: lines.append(text), clock=clock), lines


def test_a_fast_layout_shows_nothing() -> None:
    """Neither a stage nor the duration."""
    clock = Clock()
    line, lines = line_with(clock)
    clock.now = INITIAL_DELAY_S / 2
    line("laying out", 1, 200)
    line.close("done")
    assert lines == []


def test_a_stage_of_unknown_length_is_shown_immediately() -> None:
    """Loading and compiling take long and report no progress."""
    line, lines = line_with(Clock())
    line("loading UMAP", 0, 0)
    assert lines == ["Map of 9 rows · loading UMAP …"]


def test_the_line_is_updated_at_most_four_times_a_second() -> None:
    """However often it is called."""
    clock = Clock()
    line, lines = line_with(clock)
    for step in range(1000):
        clock.now = INITIAL_DELAY_S + step / 1000
        line("laying out", step, 1000)
    assert len(lines) == 1 / UPDATE_INTERVAL_S
    line.close("done")
    assert lines[-1] == "Map of 9 rows · done in 1 s"


@pytest.mark.parametrize("progress", [False, True])
def test_nothing_is_written_where_a_line_cannot_be_updated(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs and pipes get no output, with or without ``progress``."""
    with progress_line(progress, "Map") as on_progress:
        on_progress("loading UMAP", 0, 0)
    assert capsys.readouterr() == ("", "")


def test_a_function_is_called_with_every_stage() -> None:
    """It is called directly, without a line."""
    stages: list[tuple[str, int, int]] = []
    with progress_line(lambda *stage: stages.append(stage), "Map") as on_progress:
        on_progress("loading UMAP", 0, 0)
        on_progress("laying out", 3, 200)
    assert stages == [("loading UMAP", 0, 0), ("laying out", 3, 200)]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is needed")
def test_a_terminal_shows_one_line_and_its_end() -> None:
    """The line is updated in place; after an error its last state differs."""
    code = (
        "from skytells_nb.plots.maps.progress import progress_line\n"
        "try:\n"
        "    with progress_line(True, 'Map') as on_progress:\n"
        "        on_progress('loading UMAP', 0, 0)\n"
        "        raise KeyError\n"
        "except KeyError: pass\n"
    )
    reader, writer = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    subprocess.run([sys.executable, "-c", code], stderr=writer, env=environment, check=True, timeout=60)
    os.close(writer)
    output = io.FileIO(reader).read(1000) or b""
    first, last = [part.strip() for part in output.decode().split("\r") if part.strip()]
    assert first == "Map · loading UMAP …"
    assert re.fullmatch(r"Map · stopped in \d+ s", last)


def test_a_function_of_one_argument_gets_the_events_of_every_other_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytells_nb.progress.line.LONG_STEP_S", 0.0)
    monkeypatch.setattr("skytells_nb.progress.line.UPDATE_INTERVAL_S", 0.0)
    events: list[Progress] = []
    with progress_line(events.append, "Map") as on_progress:
        on_progress("loading UMAP", 0, 0)
        on_progress("laying out", 3, 200)
    assert [(event.step, event.done, event.rows) for event in (events[0], events[-1])] == [
        ("loading UMAP", 0, 0),
        ("laying out", 200, 200),
    ]
    assert events[-1].state == "done"


def test_a_log_gets_a_line_each_half_minute_and_the_end() -> None:
    clock, log = Clock(), io.StringIO()
    line = StageProgress("Map", LogOutput(log, clock), clock=clock)
    for second in range(1, 71):
        clock.now = second
        line("laying out", second, 100)
    line.close("done")
    assert log.getvalue().splitlines() == ["Map · laying out 30%", "Map · laying out 60%", "Map · done in 70 s"]


def test_a_log_of_a_short_layout_stays_empty() -> None:
    clock, log = Clock(), io.StringIO()
    line = StageProgress("Map", LogOutput(log, clock), clock=clock)
    line("loading UMAP", 0, 0)
    clock.now = 20.0
    line("laying out", 1, 2)
    line.close("done")
    assert log.getvalue() == ""
