"""A streamed answer: everything arrives, at a bounded rate, and the last word is saved."""

from __future__ import annotations

import io
import os
import re
import threading
from itertools import pairwise
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

from skytells_nb.widgets import live as live_module
from skytells_nb.widgets.display import Publish
from skytells_nb.widgets.growing_text import FORCED_SPLIT_FACTOR, TextSegment, split_at_lines
from skytells_nb.widgets.live import (
    BYTES_PER_S,
    MAX_INTERVAL_S,
    MAX_READ_PAUSE_S,
    MAX_SEGMENTS,
    MIN_INTERVAL_S,
    READ_PAUSE_S,
    SEGMENT_CHARS,
    StreamingOutput,
    answer_bundle,
)
from skytells_nb.widgets.page_layout import CHIP_CLASS
from skytells_nb.widgets.reasoning import reasoning_bundle
from skytells_nb.widgets.safe_text import plain


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Cell:
    """What a front end holds: outputs by display id, in order, and every message on the way."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock
        self.messages: list[tuple[float, int, bool]] = []
        self.outputs: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}
        self.arrived = threading.Condition()

    def __call__(self, data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        assert update == (display_id in self.outputs)
        with self.arrived:
            size = sum(len(text.encode()) for text in data.values())
            self.messages.append((self.clock() if self.clock else 0.0, size, update))
            self.outputs[display_id] = (data, metadata)
            self.arrived.notify_all()

    @property
    def texts(self) -> list[str]:
        return [data["text/plain"] for data, _ in self.outputs.values()]

    @property
    def pages(self) -> list[str]:
        return [data["text/html"] for data, _ in self.outputs.values()]


def timed_cell() -> tuple[Cell, Clock]:
    clock = Clock()
    return Cell(clock), clock


def stream(cell: Publish, clock: Clock, pieces: list[str], seconds_each: float, **options: Any) -> StreamingOutput:
    live = StreamingOutput(publish=cell, clock=clock, pause=lambda seconds: None, watch_stalls=False, **options)
    for piece in pieces:
        live.write(piece)
        clock.now += seconds_each
    live.close()
    return live


def test_the_first_piece_is_shown_at_once() -> None:
    """The first word is shown without waiting for an interval."""
    cell = Cell()
    with StreamingOutput(publish=cell, clock=Clock(), watch_stalls=False) as live:
        live.write("Hello")
        assert "Hello" in cell.pages[0]


def test_the_final_state_holds_the_whole_text_as_html_and_as_plain_text() -> None:
    """One output is saved, and its text/plain is the text."""
    cell, clock = timed_cell()
    live = stream(cell, clock, ["Hello ", "**wor", "ld**"], 0.01)
    assert cell.texts == ["Hello **world**"] == [live.text]
    assert "<strong>world</strong>" in cell.pages[0]


@pytest.mark.parametrize("format", ["markdown", "text", "code"])
@pytest.mark.parametrize("mode", ["live", "final"])
def test_each_output_is_html_and_plain_text(mode: str, format: str) -> None:
    """Every message holds both, and what is saved in the end is the whole text as plain text, cut or not."""
    clock, outputs, kinds = Clock(), {}, []  # type: Clock, dict[str, dict[str, str]], list[set[str]]

    def publish(data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        kinds.append(set(data))
        outputs[display_id] = data

    live = stream(publish, clock, [f"value = {n}\n\n" for n in range(1_500)], 0.01, mode=mode, format=format)

    assert all(kind - {"text/markdown"} == {"text/html", "text/plain"} for kind in kinds)
    assert any("text/markdown" in kind for kind in kinds) == (format == "markdown")
    assert (len(outputs) > 1, len(kinds) > len(outputs)) == ((True, True) if mode == "live" else (False, False))
    assert "".join(data["text/plain"] for data in outputs.values()) == live.text
    assert all("value" in data["text/html"] for data in outputs.values())


def test_updates_come_at_most_eight_times_a_second() -> None:
    """A thousand pieces in a second make at most nine messages and the final one."""
    cell, clock = timed_cell()
    stream(cell, clock, ["x"] * 1000, 0.001)
    assert 5 <= len(cell.messages) <= 10
    gaps = [b[0] - a[0] for a, b in zip(cell.messages, cell.messages[1:-1], strict=False)]
    assert min(gaps) >= 0.125 - 1e-9


@settings(deadline=None, max_examples=25)
@given(
    paragraphs=st.lists(st.integers(1, 3_000), min_size=1, max_size=60),
    rate=st.sampled_from([200.0, 2_000.0, 20_000.0, 1e6]),
)
def test_traffic_is_bounded_by_the_budget_and_the_text(paragraphs: list[int], rate: float) -> None:
    """Bytes sent stay within the budget over the duration plus what is saved and one update for each part."""
    cell, clock = timed_cell()
    text = "".join("word " * (size // 5) + "\n\n" for size in paragraphs)
    pieces = [text[i : i + 5] for i in range(0, len(text), 5)]
    start = clock.now
    live = stream(cell, clock, pieces, 5 / rate)
    saved = sum(len(v.encode()) for data, _ in cell.outputs.values() for v in data.values())
    # The part that is open weighs at most a seal and a paragraph, so the cap of one second never outruns the budget.
    unspaced = BYTES_PER_S * 0.125 + 2 * (max(SEGMENT_CHARS, len(text) // MAX_SEGMENTS) + 4_000)
    assert sum(size for _, size, _ in cell.messages) <= BYTES_PER_S * (clock.now - start) + saved + unspaced
    assert "".join(cell.texts) == text == live.text


def test_a_long_answer_at_full_speed_takes_few_messages() -> None:
    """A hundred thousand characters in no time are sent about once, not once a token."""
    cell, clock = timed_cell()
    text = "All work and no play.\n\n" * 4_700
    stream(cell, clock, [text[i : i + 5] for i in range(0, len(text), 5)], 0.0)
    assert len(cell.messages) <= len(text) // SEGMENT_CHARS + 3
    assert sum(size for _, size, _ in cell.messages) < 3 * len(text)


def test_a_fast_stream_sends_each_part_once() -> None:
    """A segment about to be split is not shown before: of 60,000 letters none is sent twice."""
    cell, clock = timed_cell()
    text = "".join(f"paragraph {n} of many\n\n" for n in range(2_600))
    stream(cell, clock, [text[i : i + 50] for i in range(0, len(text), 50)], 50 / 60_000)
    updated = [size for _, size, update in cell.messages if update]
    assert len(updated) <= 2, "the opening and the end, which grow, and no part between them"


def test_a_fast_stream_that_falls_silent_shows_what_it_held_back() -> None:
    """Text is held back for at most an eighth of a second."""
    cell, clock = timed_cell()
    live = StreamingOutput(publish=cell, clock=clock, watch_stalls=False)
    for _ in range(72):
        live.write("word " * 20)
        clock.now += MIN_INTERVAL_S / 70
    assert len(cell.messages) == 1, "7,200 letters in an eighth of a second: a part of 8,000 will be cut soon"
    clock.now += MIN_INTERVAL_S
    live.flush_due()
    assert re.sub("<[^>]*>", "", cell.pages[-1]).split() == live.text.split()


def test_a_grown_part_is_sealed_at_a_blank_line() -> None:
    """Past the seal size the text goes on in a new output; together they are the text."""
    cell, clock = timed_cell()
    text = ("A paragraph of some length. " * 10 + "\n\n") * 200
    stream(cell, clock, [text[i : i + 100] for i in range(0, len(text), 100)], 0.05)
    assert len(cell.texts) > 2
    assert "".join(cell.texts) == text
    assert all(part.endswith("\n\n") for part in cell.texts)
    assert max(map(len, cell.texts)) < SEGMENT_CHARS + 4_000


def test_a_code_block_is_not_cut_at_its_blank_lines() -> None:
    """A part ends before a fence rather than inside it."""
    cell, clock = timed_cell()
    text = "Intro.\n\n" + "para\n\n" * 2_000 + "```python\n" + "x = 1\n\n" * 1_500 + "```\n\nend\n"
    stream(cell, clock, [text[i : i + 50] for i in range(0, len(text), 50)], 0.05)
    assert "".join(cell.texts) == text
    assert all(part.count("```") % 2 == 0 for part in cell.texts)


def test_a_code_block_without_end_is_cut_at_a_line_and_goes_on_as_code() -> None:
    """Where no blank line comes, the cut is at a line's end and the next output is still code."""
    cell, clock = timed_cell()
    text = "````python\n" + "value = 'some text of a line'\n" * 3_000 + "````\n"
    stream(cell, clock, [text[i : i + 200] for i in range(0, len(text), 200)], 0.05)
    assert len(cell.texts) >= 2
    assert "".join(cell.texts) == text
    assert all(part.endswith("\n") for part in cell.texts)
    assert all('<pre><code class="language-python">' in page for page in cell.pages)


def test_text_without_any_line_end_is_cut_too() -> None:
    """One endless line does not grow past the forced seal."""
    cell, clock = timed_cell()
    text = "x" * (2 * FORCED_SPLIT_FACTOR * SEGMENT_CHARS)
    stream(cell, clock, [text[i : i + 1000] for i in range(0, len(text), 1000)], 0.5)
    assert "".join(cell.texts) == text
    assert max(map(len, cell.texts)) <= FORCED_SPLIT_FACTOR * max(SEGMENT_CHARS, len(text) // MAX_SEGMENTS) + 4_000


def test_the_interval_never_passes_a_second() -> None:
    """However heavy the open part, an update is due after one second."""
    cell, clock = timed_cell()
    live = StreamingOutput(publish=cell, clock=clock, watch_stalls=False)
    live.write("x" * 60_000)
    live.write("y")
    clock.now += MAX_INTERVAL_S
    live.flush_due()
    assert "y" in cell.pages[0]
    live.close()


def test_a_stalled_stream_shows_what_arrived() -> None:
    """Text that arrived before a pause is shown without another write."""
    cell = Cell()
    with StreamingOutput(publish=cell) as live:
        live.write("first ")
        live.write("second")
        with cell.arrived:
            assert cell.arrived.wait_for(lambda: "second" in cell.pages[0], timeout=30)


def test_nothing_is_sent_after_close() -> None:
    """Writing, flushing and closing again change nothing."""
    cell, clock = timed_cell()
    live = stream(cell, clock, ["done"], 1.0)
    sent = len(cell.messages)
    live.write("late")
    clock.now += 10
    live.flush_due()
    live.close(notes=["late"])
    assert len(cell.messages) == sent
    assert live.text == "done"


@pytest.mark.parametrize("mode", ["live", "final"])
def test_code_within_a_line_has_the_ground_of_blocks_of_code(mode: Any) -> None:
    """Each piece of it, and no block, which has that ground already; in reasoning and whole answers too."""
    long = "x" * 70
    text = f"One `a`, `` ` `` and\n\n```\n<code>{long}\n```\n\n    <code>b</code>\n"
    cell, clock = timed_cell()
    stream(cell, clock, [text], 0.01, mode=mode)
    for page in (cell.pages[0], answer_bundle(text)["text/html"], reasoning_bundle(text)["text/html"]):
        assert page.count(f'<span class="{CHIP_CLASS}"><code>') == page.count(CHIP_CLASS) == 2
        assert page.count("</code></span>") == 2
        assert page.count("<pre><code>") == page.count('<pre tabindex="0"><code>') == 1


def test_final_mode_publishes_once() -> None:
    """No partial state is sent, one output at the end."""
    cell, clock = timed_cell()
    stream(cell, clock, ["a", "b", "c"], 1.0, mode="final")
    assert len(cell.messages) == 1
    assert cell.texts == ["abc"]


@pytest.mark.parametrize("mode", ["live", "final"])
def test_an_answer_without_text_and_notes_leaves_no_output(mode: Any) -> None:
    """A failed call shows nothing but its error."""
    cell = Cell()
    with StreamingOutput(publish=cell, mode=mode):
        pass
    assert cell.messages == []


def test_notes_and_metadata_come_with_the_final_state() -> None:
    """Notes are set under the text, escaped; metadata is saved with the output."""
    cell = Cell()
    live = StreamingOutput(publish=cell, clock=Clock(), watch_stalls=False)
    live.write("text")
    live.close(notes=["interrupted <b>"], metadata={"model": "m"})
    (data, metadata), *_ = cell.outputs.values()
    assert data["text/plain"] == "text\n\n[interrupted <b>]"
    assert "interrupted &lt;b&gt;" in data["text/html"]
    assert metadata == {"skytells": {"model": "m"}}


def test_text_format_is_shown_letter_for_letter() -> None:
    """With the format text, Markdown and HTML are characters like others."""
    cell, clock = timed_cell()
    stream(cell, clock, ["*a* <b>\n"], 1.0, format="text")
    assert cell.pages[0] == '<pre class="skytells-text">*a* &lt;b&gt;\n</pre>'


def test_plain_mode_writes_pieces_as_they_come() -> None:
    """A terminal gets the text itself, then the end of the line and the notes."""
    out = io.StringIO()
    live = StreamingOutput(mode="plain", out=out)
    live.write("Hello, ")
    assert out.getvalue() == "Hello, "
    live.write("world")
    live.close(notes=["interrupted"])
    assert out.getvalue() == "Hello, world\n[interrupted]\n"


@given(st.data())
def test_plain_mode_strips_escapes_however_they_are_cut(data: st.DataObject) -> None:
    """A sequence split over pieces does not reach the terminal, and its text is that of the whole."""
    text = "a\x1b[31mred\x1b[0m \x1b]0;title\x07b\r\nc \x1b]52;c;ZXZpbA==\x1b\\end"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    out = io.StringIO()
    with StreamingOutput(mode="plain", out=out) as live:
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            live.write(text[start:end])
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out.getvalue())
    assert out.getvalue() == plain(text) + "\n"


def test_saved_text_holds_no_escape_sequences() -> None:
    """A notebook printed in a terminal cannot act on it."""
    cell, clock = timed_cell()
    stream(cell, clock, ["\x1b[31m", "red"], 1.0)
    assert cell.texts == ["red"]


def test_the_watching_thread_ends_with_the_stream() -> None:
    """Closing stops the thread that watches for stalls."""
    with StreamingOutput(publish=Cell()) as live:
        live.write("x")
        mine = [t for t in threading.enumerate() if t.name == "skytells-live"]
        assert mine
    for thread in mine:
        thread.join(timeout=30)
        assert not thread.is_alive()


def test_limits_are_the_measured_ones() -> None:
    """Eight updates and 12 kB a second, sealed at 8 kB: what front ends and a kernel were measured to take."""
    assert (live_module.MIN_INTERVAL_S, BYTES_PER_S, SEGMENT_CHARS) == (0.125, 12_000, 8_000)


@pytest.mark.parametrize("length", [100_000, 400_000, 1_500_000])
def test_a_very_long_answer_stays_below_the_outputs_that_a_page_shows(length: int) -> None:
    """JupyterLab shows 50 outputs of a cell; later parts get longer."""
    cell, clock = timed_cell()
    text = ("Forty characters of text and a newline.\n\n" * (length // 41))[:length]
    stream(cell, clock, [text[i : i + 500] for i in range(0, len(text), 500)], 0.1)
    assert "".join(cell.texts) == text
    assert len(cell.texts) < 45


@settings(deadline=None, max_examples=60)
@given(
    blocks=st.lists(
        st.sampled_from(
            [
                *("Plain *words* here.", "# Heading", "- one\n- two\n\n  more of two\n- three", "1. a\n2. b", "> said"),
                *(
                    "```python\nx = 1\n\ny = 2\n```",
                    "~~~\n\n# no heading\n~~~",
                    "| a |\n|---|\n| b |",
                    "    code",
                    "***",
                ),
            ]
        ),
        max_size=12,
    ),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=60),
)
def test_a_part_rendered_while_it_grows_reads_like_the_whole(blocks: list[str], cuts: list[int]) -> None:
    """Rendering only what is new gives the page that rendering everything gives, at every moment."""
    text = "\n\n".join(blocks)
    part, position = TextSegment(), 0
    while position < len(text):
        size = cuts[position % len(cuts)]
        part.add(text[position : position + size])
        position += size
        assert part.to_html() == part.to_final_html()


def test_a_long_list_is_cut_between_its_items() -> None:
    """Where no block begins for long, a blank line between two items is a border."""
    part = TextSegment()
    part.add("".join(f"- item {n}\n\n" for n in range(300)))
    head, rest = part.split_complete(1_500) or (part, part)
    assert head.text + rest.text == part.text
    assert head.text.endswith("\n\n")
    assert part.split_complete(3_000) is None


def test_pieces_that_trickle_in_are_read_together() -> None:
    """At 100 pieces a second the reader is held up ten times at most, not a hundred, and longer where updates are far
    apart.
    """
    cell, clock = timed_cell()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        clock.now += seconds

    live = StreamingOutput(publish=cell, clock=clock, pause=pause, watch_stalls=False)
    arrived = [clock.now + n / 100 for n in range(900)]
    for when in arrived:
        clock.now = max(clock.now, when)
        live.write("word ")
    live.close()
    assert min(pauses) >= READ_PAUSE_S
    assert max(pauses) == MAX_READ_PAUSE_S
    assert 36 <= len(pauses) <= 65
    assert cell.texts == ["word " * 900]


def test_a_fast_stream_is_not_held_up() -> None:
    """What comes faster than it can be shown is read at once, after the first piece."""
    cell, clock = timed_cell()
    pauses: list[float] = []
    live = StreamingOutput(publish=cell, clock=clock, pause=pauses.append, watch_stalls=False)
    for _ in range(2_000):
        clock.now += 0.003
        live.write("x" * 100)
    live.close()
    assert len(pauses) <= 1


def test_text_is_shown_before_the_reader_is_held_up() -> None:
    """The first piece is on the page when the pause begins."""
    cell, clock = timed_cell()
    shown: list[str] = []
    live = StreamingOutput(
        publish=cell, clock=clock, pause=lambda seconds: shown.extend(cell.pages), watch_stalls=False
    )
    clock.now += 1
    live.write("Hello")
    assert shown == cell.pages
    live.close()


def test_a_replaced_text_takes_the_outputs_that_were_there() -> None:
    """However many outputs a text had become, the one in its place is all that is left, and ends are shown under it."""
    cell, clock = timed_cell()
    live = StreamingOutput(publish=cell, clock=clock, pause=lambda seconds: None, watch_stalls=False, format="code")
    for number in range(1_000):
        live.write(f"line {number}\n" * 10)
        clock.now += 0.1
    assert len(cell.outputs) > 2
    before = list(cell.outputs)
    text = "".join(f"another line {number}\n" for number in range(5_000))
    live.replace(text)
    live.close(notes=["the end"])
    assert list(cell.outputs)[: len(before)] == before
    assert "".join(cell.texts) == text + "\n\n[the end]"
    assert all(part.endswith("\n") for part in cell.texts[:-1])
    assert "another line 4999" in cell.pages[-1]
    assert live.text == text


@given(st.text(alphabet="ab\n", max_size=60), st.integers(1, 9))
def test_a_text_cut_into_a_number_of_pieces_is_that_text(text: str, count: int) -> None:
    """As many pieces as asked for, cut after line ends."""
    pieces = split_at_lines(text, count)
    assert len(pieces) == count
    assert "".join(pieces) == text
    assert all(piece[-1:] in ("", "\n") or not after for piece, after in pairwise(pieces))


def test_code_is_cut_and_keeps_its_languages() -> None:
    """The rest of a split segment is highlighted as before."""
    part = TextSegment("code")
    part.add("# one\n\n" * 400, "python")
    part.add("// two\n\n" * 400, "js")
    head, rest = part.split_complete(1_500) or (part, part)
    assert head.text + rest.text == part.text
    assert "<i># one</i>" in head.to_html()
    assert "<i>// two</i>" in rest.to_html()
    assert "<i># one</i>" in rest.to_html()


LONG = "".join(f"## Part {n}\n\nSome *words* about number {n}, and then some more of them.\n\n" for n in range(600))
WRITE = f"""from skytells_nb.widgets.live import StreamingOutput
with StreamingOutput() as live:
    for start in range(0, {len(LONG)}, 7):
        live.write(text[start : start + 7])"""


@pytest.mark.slow
def test_a_notebook_run_without_a_browser_keeps_the_whole_text() -> None:
    """In a real kernel the saved outputs together are the text, as HTML and as plain text; a captured one is one."""
    notebook: Any = nbformat.v4.new_notebook()
    cells = [f"text = {LONG!r}", WRITE, f"%%capture kept\n{WRITE}", "kept.outputs[0].data['text/plain'] == text"]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    client = NotebookClient(notebook, timeout=90, kernel_name="python3")
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    shown = [output.data for output in notebook.cells[1].outputs]
    assert 2 < len(shown) < 45
    assert "".join(data["text/plain"] for data in shown) == LONG
    assert sum(data["text/html"].count("<h2 ") for data in shown) == 600
    assert notebook.cells[3].outputs[0].data["text/plain"] == "True"


def test_an_answer_whose_display_fails_is_kept_to_its_end() -> None:
    """It is paid for, whether it is seen or not."""

    def publish(data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    for output in (StreamingOutput(publish=publish, watch_stalls=False), StreamingOutput(mode="plain", out=Gone())):
        for piece in ("one ", "two ", "three"):
            output.write(piece)
        output.close(notes=["cut"])
        assert output.text == "one two three"
