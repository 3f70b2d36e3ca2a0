"""The line that says how far a fit is."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from skytells_nb.plots.maps.progress import INTERVAL_S, QUIET_START_S, StageProgress, progress_line


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def line_with(clock: Clock) -> tuple[StageProgress, list[str]]:
    said: list[str] = []
    return StageProgress("Map of 9 rows", lambda text, done, total, last: said.append(text), clock=clock), said


def test_a_fit_that_is_over_at_once_says_nothing() -> None:
    """Neither a stage nor an end."""
    clock = Clock()
    line, said = line_with(clock)
    clock.now = QUIET_START_S / 2
    line("laying out", 1, 200)
    line.close("done")
    assert said == []


def test_a_stage_without_a_known_length_is_said_at_once() -> None:
    """Loading and compiling are what takes long, and tell nothing on the way."""
    line, said = line_with(Clock())
    line("loading UMAP", 0, 0)
    assert said == ["Map of 9 rows · loading UMAP …"]


def test_the_line_is_rewritten_four_times_a_second_at_most() -> None:
    """However often it is told."""
    clock = Clock()
    line, said = line_with(clock)
    for step in range(1000):
        clock.now = QUIET_START_S + step / 1000
        line("laying out", step, 1000)
    assert len(said) == 1 / INTERVAL_S
    line.close("done")
    assert said[-1] == "Map of 9 rows · done in 1 s"


@pytest.mark.parametrize("progress", [False, True])
def test_where_no_line_can_be_rewritten_nothing_is_written(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Logs and pipes hear nothing, with or without ``progress``."""
    with progress_line(progress, "Map") as tell:
        tell("loading UMAP", 0, 0)
    assert capsys.readouterr() == ("", "")


def test_a_function_hears_every_stage() -> None:
    """It is called as it is, and no line is made."""
    heard: list[tuple[str, int, int]] = []
    with progress_line(lambda *stage: heard.append(stage), "Map") as tell:
        tell("loading UMAP", 0, 0)
        tell("laying out", 3, 200)
    assert heard == [("loading UMAP", 0, 0), ("laying out", 3, 200)]


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo-terminal is needed")
def test_a_terminal_shows_one_line_and_its_end() -> None:
    """The line is rewritten in place; an error ends it with another word."""
    code = (
        "from skytells_nb.plots.maps.progress import progress_line\n"
        "try:\n"
        "    with telling(True, 'Map') as tell:\n"
        "        tell('loading UMAP', 0, 0)\n"
        "        raise KeyError\n"
        "except KeyError: pass\n"
    )
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}
    subprocess.run([sys.executable, "-c", code], stderr=theirs, env=environment, check=True, timeout=60)
    os.close(theirs)
    shown = io.FileIO(ours).read(1000) or b""
    assert [part.strip() for part in shown.decode().split("\r") if part.strip()] == [
        "Map · loading UMAP …",
        "Map · stopped in 0 s",
    ]
