"""Every long step without requests shows how far it is, how long it will take, and ends with Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from served import connected, served

from skytells_nb.progress import line
from skytells_nb.progress.events import Progress
from skytells_nb.progress.line import LongStep
from skytells_nb.session import Session
from skytells_nb.vectors.arrays import Floats, unit_vectors
from skytells_nb.vectors.inverted_file import nearest_approximately
from skytells_nb.vectors.near_duplicates import near_duplicates

Listener = Callable[[Progress], None]
ROWS = 1_200


@pytest.fixture(autouse=True)
def every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short steps are shown too, as often as they are told, a thousand rows of a read column at a time."""
    for constant in ("LONG_STEP_S", "UPDATE_INTERVAL_S"):
        monkeypatch.setattr(line, constant, 0.0)
    monkeypatch.setattr("skytells_nb.columns.CELLS_AT_ONCE", 1_000)
    monkeypatch.setattr("skytells_nb.vectors.neighbors.BLOCK_ELEMENTS", ROWS * 100)
    monkeypatch.setattr("skytells_nb.vectors.near_duplicates.BLOCK_ROWS", 256)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Session]:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        yield session


def vectors(rows: int = ROWS, dimensions: int = 8) -> pd.DataFrame:
    """A frame whose column is no view of one matrix, as one that was read from a file."""
    matrix = np.random.default_rng(0).standard_normal((rows, dimensions)).astype(np.float32)
    return pd.DataFrame({"embedding": [row.copy() for row in matrix]})


def searched(listener: Listener, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("place")
    queries = [f"text {number}" for number in range(150)]
    vectors(dimensions=16).skytells.search(queries, progress=listener)


def exported(listener: Listener, request: pytest.FixtureRequest) -> None:
    session = request.getfixturevalue("place")
    pd.DataFrame({"t": [f"text {number}" for number in range(ROWS)]}).skytells.embed("t", progress=False)
    session.export(request.getfixturevalue("tmp_path") / "recording.sqlite", replace=True, progress=listener)


STEPS: dict[str, tuple[str, str, Callable[[Listener, pytest.FixtureRequest], Any]]] = {
    "read": ("similar", "reading vectors", lambda to, _: vectors().skytells.similar(0, progress=to)),
    "search": ("search", "comparing", searched),
    "similar": ("similar", "comparing", lambda to, _: vectors().skytells.similar(0, progress=to)),
    "dedupe": ("dedupe", "comparing", lambda to, _: vectors().skytells.dedupe(progress=to)),
    "join": ("join", "comparing", lambda to, _: vectors().skytells.join(vectors(), "embedding", progress=to)),
    "number": (
        "cluster",
        "choosing the number of clusters",
        lambda to, _: vectors(40).skytells.cluster(name=None, progress=to),
    ),
    "cluster": ("cluster", "clustering", lambda to, _: vectors(40).skytells.cluster(n=3, name=None, progress=to)),
    "export": ("export", "", exported),
}
COUNTED = {"read": ROWS, "search": 150, "similar": 1, "dedupe": ROWS, "join": ROWS, "number": 19, "export": ROWS}
"""How much there is in all, where that is known."""


@pytest.mark.parametrize("name", STEPS)
def test_a_long_step_has_one_line_and_ends_with_ctrl_c(name: str, request: pytest.FixtureRequest) -> None:
    label, step, work = STEPS[name]
    events: list[Progress] = []
    work(events.append, request)
    mine = [event for event in events if (event.label, event.step or "") == (label, step)]
    assert [event.state for event in mine].count("done") == 1
    assert mine[-1].state == "done"
    assert [event.done for event in mine] == sorted(event.done for event in mine)
    total = COUNTED.get(name, 0)
    assert {event.rows for event in mine} == {total}
    if total:
        assert mine[-1].done == total
        assert total == 1 or any(0 < event.done < total and event.seconds_left is not None for event in mine)
    else:
        # A time left that is not known is not made up.
        assert {event.seconds_left for event in mine} == {None}

    def interrupt(event: Progress) -> None:
        if (event.label, event.step or "", event.state) == (label, step, "running"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(interrupt, request)


def test_pruning_from_python_shows_a_line(place: Session, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Without a line of the caller's own."""
    frame = pd.DataFrame({"t": ["a text", "another"]})
    frame.skytells.embed("t", cache=str(tmp_path / "small.sqlite"), progress=False)
    store = place.caches[-1]
    assert store.prune(max_bytes=0) == 2
    assert capsys.readouterr().err.startswith("prune · ")
    assert store.prune(max_bytes=0, on_progress=lambda done, total=None: None) == 0
    assert capsys.readouterr().err == ""


def random_vectors(rows: int) -> Floats:
    return unit_vectors(np.random.default_rng(0).standard_normal((rows, 64)).astype(np.float32))


class Comparisons:
    """A clock of work in place of seconds: how many pairs of vectors have been compared, told to a step as it goes on.

    Where each vector is a representative, a row of ``near_duplicates`` is compared with all rows before it, and takes
    what some thousand pairs take besides.
    """

    def __init__(self, what: str) -> None:
        self._growing = what == "dedupe"
        self.now = self._done = 0

    def advance(self, done: int) -> None:
        if not done:
            self.now += 1_000_000_000  # the preparation of an index, which is not to be taken for progress
        rows = range(self._done, done)
        self.now += sum(rows) + 5_000 * len(rows) if self._growing else len(rows)
        self._done = done


@pytest.mark.parametrize("what", ["dedupe", "join"])
def test_the_time_left_is_near_the_truth_also_where_rows_take_longer_and_longer(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytells_nb.vectors.inverted_file.QUERY_ROWS", 256)
    work = Comparisons(what)
    matrix = random_vectors(14_000)
    events: list[Progress] = []

    def on_progress(done: int) -> None:
        work.advance(done)
        step(done)

    total = len(matrix) if what == "dedupe" else 4_000
    with LongStep("compare", events.append, total=total, delay_s=0, clock=lambda: float(work.now)) as step:
        begun = work.now
        if what == "join":
            nearest_approximately(matrix[:total], random_vectors(30_000), 2, recall=0.5, on_progress=on_progress)
        else:
            near_duplicates(matrix, 0.9, on_progress=on_progress, on_share=step.set_share)
        begun += 1_000_000_000
    middle = [event for event in events if 0.2 < (event.seconds - begun) / (work.now - begun) < 0.8]
    assert len(middle) > 3
    for event in middle:
        assert event.seconds_left is not None
        assert 1 / 1.5 < event.seconds_left / (work.now - event.seconds) < 1.5
