"""The progress line: its text, its updates, and its final state."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest

from skytells_nb.accessor.multi_call import MultiRun
from skytells_nb.errors import SkytellsWarning
from skytells_nb.formatting import format_compact, format_dollars, format_duration
from skytells_nb.progress.events import Progress, RunState
from skytells_nb.progress.line import LongStep, progress_text
from skytells_nb.progress.long_step import ProgressLine, long_step


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Cell:
    """The messages a front end gets."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bool, dict[str, str]]] = []

    def __call__(self, data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        self.messages.append((display_id, update, data))

    @property
    def lines(self) -> list[str]:
        return [data["text/plain"] for _, _, data in self.messages]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def event(done: int, state: RunState = "running", **facts: Any) -> Progress:
    given: dict[str, Any] = {
        **{"label": "embed", "rows": 20_000, "cached": 0, "failed": 0, "requests": 1, "tokens": 0, "cost": None},
        **{"seconds": 1.0},
        **facts,
    }
    processed: dict[str, Any] = {"processed": done - given["cached"], "processing_seconds": given["seconds"]}
    return Progress(state=state, done=done, **{**processed, **given})


def test_the_line_names_rows_cache_failures_tokens_cost_rate_and_time() -> None:
    """Everything a person watches for is in one line."""
    line = progress_text(event(1_200, cached=300, failed=2, tokens=34_000, cost=0.02, seconds=2.0))
    assert line == ("embed · 1,200/20,000 rows · 300 cached · 2 failed · 34k tokens · $0.02 · 450 rows/s · 42 s left")


def test_the_line_names_what_is_under_way_and_what_holds_it_back() -> None:
    line = progress_text(event(10, retries=2, in_flight=16, limit="25 requests per 60 s", seconds=10.0))
    assert (
        line
        == "embed · 10/20,000 rows · 2 retries · 1 rows/s · 16 in flight · limit 25 requests per 60 s · 5 h 33 min left"
    )


@pytest.mark.parametrize("state", ["interrupted", "failed"])
def test_an_early_end_is_named(state: RunState) -> None:
    """A stopped run is reported as such, without a remaining time."""
    line = progress_text(event(5, state))
    assert line.startswith(f"embed · {state} · 5/20,000 rows")
    assert "left" not in line


def test_a_wait_is_explained() -> None:
    """Where nothing moves, the reason takes the place of the time left."""
    line = progress_text(event(5, waiting="waiting 12 s for the account's limit"))
    assert line.endswith("· waiting 12 s for the account's limit")


def test_updates_come_at_most_four_times_a_second() -> None:
    """A thousand events in two seconds make few messages on one display, the last being the final state."""
    clock, cell = Clock(), Cell()
    listener = ProgressLine(publish=cell, clock=clock)
    for done in range(1_000):
        listener(event(done))
        clock.now += 0.002
    listener(event(20_000, "done"))
    assert 5 <= len(cell.messages) <= 9
    assert len({display_id for display_id, _, _ in cell.messages}) == 1
    assert [update for _, update, _ in cell.messages] == [False] + [True] * (len(cell.messages) - 1)
    assert cell.lines[-1].startswith("embed · 20,000/20,000 rows")


def test_a_short_run_shows_its_final_line_only() -> None:
    """Within a third of a second nothing flickers."""
    clock, cell = Clock(), Cell()
    listener = ProgressLine(publish=cell, clock=clock)
    for done in range(10):
        listener(event(done))
        clock.now += 0.02
    assert cell.messages == []
    listener(event(20_000, "done"))
    assert len(cell.messages) == 1


def test_closing_shows_the_last_event_once() -> None:
    """A run without a final event still leaves its line, and a second close adds nothing."""
    cell = Cell()
    with ProgressLine("rows", publish=cell, clock=Clock()) as listener:
        listener(event(7))
    listener.close()
    listener(event(8))
    assert [line.split(" · ")[:2] for line in cell.lines] == [["rows", "7/20,000 rows"]]


def test_a_run_without_events_shows_nothing() -> None:
    """Closing a line that heard nothing publishes nothing."""
    cell = Cell()
    ProgressLine(publish=cell).close()
    assert cell.messages == []


def test_final_mode_is_silent_until_the_end() -> None:
    """Without support for updates there is one message."""
    clock, cell = Clock(), Cell()
    listener = ProgressLine(mode="final", publish=cell, clock=clock)
    for done in range(10):
        clock.now += 1
        listener(event(done))
    listener(event(20_000, "done"))
    assert len(cell.messages) == 1


def test_the_bar_is_a_progress_element_with_its_text() -> None:
    """A screen reader gets the same line; the label cannot bring in HTML."""
    cell = Cell()
    ProgressLine("<b>x", publish=cell)(event(7, "done"))
    page = cell.messages[0][2]["text/html"]
    assert '<progress max="20000" value="7" aria-label="&lt;b&gt;x · 7/20,000 rows' in page
    assert 'aria-busy="false"' in page
    assert "<b>" not in page


def test_a_terminal_line_is_rewritten_in_place() -> None:
    """Each state covers the one before; only the final one ends the line."""
    clock, out = Clock(), Terminal()
    listener = ProgressLine(mode="plain", clock=clock, out=out)
    for done in (10, 20):
        clock.now += 1
        listener(event(done, waiting="a long reason to wait"))
    listener(event(30, "done"))
    states = out.getvalue().split("\r")[1:]
    assert [state.split(" · ")[1] for state in states] == ["10/20,000 rows", "20/20,000 rows", "30/20,000 rows"]
    assert out.getvalue().count("\n") == 1
    assert len(states[2].rstrip("\n")) >= len(states[1].rstrip())


def test_a_log_file_gets_the_final_line_of_a_short_run_only() -> None:
    """Where stderr is no terminal, states in between are not written."""
    clock, out = Clock(), io.StringIO()
    listener = ProgressLine(mode="plain", clock=clock, out=out)
    for done in range(5):
        clock.now += 1
        listener(event(done))
    listener(event(20_000, "done"))
    assert out.getvalue() == "embed · 20,000/20,000 rows · 20,000 rows/s · 1.0 s\n"


def test_a_log_file_gets_a_line_each_half_minute_and_where_a_wait_begins() -> None:
    clock, out = Clock(), io.StringIO()
    listener = ProgressLine(mode="plain", clock=clock, out=out)
    for second in range(1, 101):
        clock.now += 1
        waiting = f"{100 - second} s for the account's limit" if 40 <= second < 60 else None
        listener(event(second, seconds=float(second), waiting=waiting))
    listener(event(100, "done", seconds=100.0))
    lines = out.getvalue().splitlines()
    assert [line.split(" · ")[1] for line in lines] == [f"{done}/20,000 rows" for done in (30, 40, 70, 100, 100)]
    assert "60 s for the account's limit" in lines[1]


def test_waits_that_begin_every_second_do_not_fill_a_log() -> None:
    clock, out = Clock(), io.StringIO()
    listener = ProgressLine(mode="plain", clock=clock, out=out)
    for tick in range(120):
        clock.now += 0.5
        listener(event(tick, seconds=1.0, waiting="1 s for the account's limit" if tick % 2 else None))
    assert 8 <= len(out.getvalue().splitlines()) <= 13


@pytest.mark.parametrize(("cached", "missing"), [(0, 19_000), (19_000, 0), (0, 0)])
def test_the_time_left_is_that_of_rows_that_take_time(cached: int, missing: int) -> None:
    """A fifth of the rows that are sent took 20 seconds: the others take 80, whatever took no time."""
    sent = 20_000 - cached - missing
    done = cached + missing + sent // 5
    state = event(done, cached=cached, seconds=33.0, processed=sent // 5, processing_seconds=20.0)
    assert state.seconds_left == pytest.approx(80)
    assert event(cached + missing, cached=cached, processed=0, processing_seconds=0.5).seconds_left is None


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (950, "950"), (1_234, "1.2k"), (34_000, "34k"), (999_999, "1M"), (1.5e9, "1.5G")]
)
def test_counts_are_short(number: float, text: str) -> None:
    """Tokens in few characters."""
    assert format_compact(number) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "$0.00"), (0.02, "$0.02"), (1234.5, "$1,234.50"), (0.00042, "$0.00042"), (1e-9, "under $0.000001")],
)
def test_small_amounts_are_not_rounded_to_nothing(amount: float, text: str) -> None:
    """Below a cent the digits that matter are shown."""
    assert format_dollars(amount) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.4 s"), (46, "46 s"), (200, "3 min"), (4_300, "1 h 12 min")])
def test_times_are_in_words(seconds: float, text: str) -> None:
    """Seconds, minutes, hours."""
    assert format_duration(seconds) == text


class BrokenTerminal(io.StringIO):
    """A stream whose other end has gone."""

    def __init__(self, problem: Exception, *, fails: str) -> None:
        super().__init__()
        self.problem, self.fails = problem, fails
        self.calls = 0

    def _fail_in(self, name: str) -> None:
        self.calls += 1
        if self.fails == name:
            raise self.problem

    def isatty(self) -> bool:
        self._fail_in("isatty")
        return True

    def write(self, text: str) -> int:
        self._fail_in("write")
        return super().write(text)

    def flush(self) -> None:
        self._fail_in("flush")


@pytest.mark.parametrize("fails", ["isatty", "write", "flush"])
@pytest.mark.parametrize(
    "problem",
    [
        BrokenPipeError(32, "Broken pipe"),
        OSError(28, "No space left on device"),
        OSError(5, "Input/output error"),
        ValueError("I/O operation on closed file"),
        UnicodeEncodeError("ascii", "·", 0, 1, "ordinal not in range"),
    ],
)
def test_a_terminal_that_fails_is_not_written_to_again(fails: str, problem: Exception) -> None:
    out = BrokenTerminal(problem, fails=fails)
    clock = Clock()
    line = ProgressLine(mode="plain", out=out, clock=clock)
    clock.now = 1.0
    line(event(1))
    calls = out.calls
    clock.now = 2.0
    line(event(2))
    line(event(3, state="done"))
    line.close()
    assert calls == out.calls > 0


def test_without_stderr_there_is_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under pythonw, in a service, and after a terminal was closed."""
    monkeypatch.setattr("sys.stderr", None)
    with ProgressLine(mode="plain") as line:
        line(event(1))
        line(event(2, state="done"))


def test_a_cell_that_takes_no_output_is_not_sent_more() -> None:
    sent = []

    def publish(data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        sent.append(data)
        raise RuntimeError("the front end has gone")

    line = ProgressLine(publish=publish)
    line(event(1, state="done"))
    line.close()
    assert len(sent) == 1


class StepClock:
    """A long step on a clock that the test sets, and the events that it shows."""

    def __init__(self, **options: Any) -> None:
        self.clock, self.events = Clock(), list[Progress]()
        self.step = LongStep("dedupe", self.events.append, step="comparing", clock=self.clock, **options)

    def states(self) -> list[tuple[str, int, int]]:
        return [(event.state, event.done, event.rows) for event in self.events]


def test_a_step_of_less_than_two_seconds_shows_nothing() -> None:
    given = StepClock(total=100)
    with given.step as on_progress:
        for done in range(100):
            given.clock.now += 0.0199
            on_progress(done)
    assert given.events == []


def test_a_long_step_shows_how_far_it_is_its_rate_and_its_end() -> None:
    given = StepClock(total=100)
    with given.step as on_progress:
        for done in range(1, 101):
            given.clock.now = done / 10
            on_progress(done)
    assert given.states()[0] == ("running", 20, 100)
    assert given.states()[-1] == ("done", 100, 100)
    assert 25 <= len(given.events) <= 35
    assert given.events[0].seconds_left == pytest.approx(8.0)
    assert progress_text(given.events[0]) == "dedupe · comparing · 20/100 rows · 10 rows/s · 8.0 s left"
    assert progress_text(given.events[-1]) == "dedupe · comparing · 100/100 rows · 10 rows/s · 10 s"


@pytest.mark.parametrize(("problem", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_a_long_step_that_ends_early_says_so(problem: type[BaseException], state: str) -> None:
    given = StepClock(total=100)

    def work() -> None:
        with given.step as on_progress:
            given.clock.now = 3.0
            on_progress(30)
            raise problem

    with pytest.raises(problem):
        work()
    assert given.states()[-1] == (state, 30, 100)


def test_a_total_that_only_the_step_knows_is_shown_once_it_is_known() -> None:
    given = StepClock(unit="answers")
    with given.step as on_progress:
        given.clock.now = 3.0
        on_progress(30)
        given.clock.now = 6.0
        on_progress(60, 90)
    assert [progress_text(event) for event in given.events] == [
        "dedupe · comparing · 30 answers · 10 answers/s · 3.0 s",
        "dedupe · comparing · 60/90 answers · 10 answers/s · 3.0 s left",
        "dedupe · comparing · 90/90 answers · 15 answers/s · 6.0 s",
    ]


def test_a_step_that_says_nothing_is_seen_to_go_on() -> None:
    """What one call of another library does for a minute cannot be counted."""
    shown = threading.Event()
    events: list[Progress] = []

    def show(event: Progress) -> None:
        events.append(event)
        shown.set()

    with LongStep("map", show, step="compiling", heartbeat=True, delay_s=0.01):
        assert shown.wait(30)
    assert [event.state for event in (events[0], events[-1])] == ["running", "done"]


def test_a_step_tells_a_function_of_the_user_the_events_of_every_other_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytells_nb.progress.line.LONG_STEP_S", 0.0)
    events: list[Progress] = []
    with long_step("prune", events.append, total=2, unit="answers") as on_progress:
        on_progress(1)
    assert [(event.label, event.done, event.unit) for event in events] == [
        ("prune", 1, "answers"),
        ("prune", 2, "answers"),
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_a_step_of_which_only_the_name_is_known_has_no_total(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is one of a method or one by itself."""
    monkeypatch.setattr("skytells_nb.progress.line.LONG_STEP_S", 0.0)
    events: list[Progress] = []

    def no_call() -> Any:
        raise AssertionError("a step sends nothing")

    step = long_step("sort", events.append) if whole else MultiRun("sort", 9, no_call, progress=events.append).step("x")
    with step as on_progress:
        on_progress(0)
    assert [(event.label, event.rows, event.unit, event.expected_seconds) for event in events] == [
        ("sort", 0, "rows", None)
    ] * len(events)
    assert [event.state for event in events] == ["running", "done"]


def test_a_function_that_fails_does_not_end_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytells_nb.progress.line.LONG_STEP_S", 0.0)

    def fail(event: Progress) -> None:
        raise ValueError("no")

    def work() -> None:
        with long_step("prune", fail, total=2) as on_progress:
            on_progress(1)
            on_progress(2)

    with pytest.warns(SkytellsWarning, match="will not be called again: ValueError: no"):
        work()


@pytest.mark.parametrize("progress", [True, False])
def test_a_short_step_writes_nothing(progress: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with long_step("prune", progress, total=2) as on_progress:
        on_progress(1)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "beats"), [({"total": 2}, 0), ({"total": 0}, 1), ({"total": 2, "prepares": True}, 1)]
)
def test_a_thread_beats_only_where_the_step_itself_may_say_nothing(options: dict[str, Any], beats: int) -> None:
    """One for each short step with a total would cost more than the step."""
    before = set(threading.enumerate())
    with long_step("prune", **options):
        begun = [thread.name for thread in set(threading.enumerate()) - before]
    assert begun.count("skytells-progress") == beats


def test_a_long_step_ends_with_a_line_in_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("skytells_nb.progress.line.LONG_STEP_S", 0.0)
    with long_step("prune", total=2) as on_progress:
        on_progress(1)
    assert capsys.readouterr().err.startswith("prune · 2/2 rows")


def test_a_step_whose_line_cannot_be_made_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skytells_nb.progress.line.LONG_STEP_S", 0.0)
    monkeypatch.setenv("SKYTELLS_NB_STREAM", "nothing")
    with long_step("prune", total=2) as on_progress:
        on_progress(1)
        on_progress(2)


@pytest.mark.parametrize("mode", ["live", "final"])
def test_a_note_is_shown_under_the_final_state(mode: Any) -> None:
    cell = Cell()
    listener = ProgressLine(mode=mode, publish=cell, clock=Clock())
    listener(event(20_000, "done", note="a <b> is better"))
    assert cell.lines == ["embed · 20,000/20,000 rows\na <b> is better"]
    assert "a &lt;b&gt; is better" in cell.messages[0][2]["text/html"]


@pytest.mark.parametrize("out", [io.StringIO(), Terminal()])
def test_a_note_is_a_line_of_its_own(out: io.StringIO) -> None:
    listener = ProgressLine(mode="plain", clock=Clock(), out=out)
    listener(event(20_000, "done", note="a note"))
    assert out.getvalue().endswith("\na note\n")
