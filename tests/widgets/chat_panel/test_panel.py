"""The chat panel from Python: what is sent, what is stored, how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from html.parser import HTMLParser
from traceback import walk_stack

import ipywidgets
import pytest
from panel_service import PATIENCE_S, Tap
from served import KEY, connected, served, wait_until_idle

import skytells_nb as sky
import skytells_nb.session as sessions
from skytells_nb.errors import (
    AuthenticationError,
    ContentPolicyError,
    InputError,
    Interrupted,
    MissingExtraError,
    MissingKeyError,
    RateLimitError,
    SkytellsError,
    TruncatedStreamError,
)
from skytells_nb.local.server import LocalServer
from skytells_nb.widgets.chat_panel.exchange import Exchange
from skytells_nb.widgets.chat_panel.panel import ChatPanel
from skytells_nb.widgets.chat_panel.turns import Turn

COUNT = "one two three four five six seven eight"
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> [go](javascript:alert(1)) "
    "![see](https://evil.example/?q=1) <iframe srcdoc='x'></iframe>"
)


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name == "href"]


def until(fact: Callable[[], object]) -> None:
    """Wait for a condition; fail if it does not become true."""
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def asked(panel: ChatPanel, text: str) -> Turn:
    turn = panel.send(text)
    assert turn is not None
    return turn


def test_an_answer_is_a_turn_with_its_facts(panel: ChatPanel) -> None:
    """Text, model, tokens, dollars, safety and request id of the answer."""
    turn = asked(panel, "one two three")

    assert (turn.role, turn.text, turn.finish_reason) == ("assistant", "one two three", "stop")
    assert (turn.model, turn.tokens_out) == ("local-echo", 3)
    assert turn.tokens_in
    assert turn.cost == pytest.approx((turn.tokens_in * 0.5 + 3 * 1.25) / 1e6)
    assert turn.safety is not None
    assert turn.safety.checked
    assert turn.request_id


def test_the_second_question_brings_the_first_along(panel: ChatPanel, tap: Tap) -> None:
    """The service gets the system text and every turn so far."""
    panel.system = "Be brief."
    panel.send("one")
    panel.send("two")

    assert tap.messages[-1] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "two"},
    ]
    assert panel.messages == [*tap.messages[-1], {"role": "assistant", "content": "two"}]


def test_the_session_counts_what_was_used(panel: ChatPanel) -> None:
    """Requests and tokens of the panel are in the session's totals."""
    turns = [asked(panel, "one two"), asked(panel, "three")]

    totals = sky.current().totals
    assert totals.requests == 2
    assert totals.output_tokens == 3
    assert totals.cost == pytest.approx(sum(turn.cost or 0 for turn in turns))


def test_building_a_panel_sends_nothing(server: LocalServer) -> None:
    """Models to choose from are those known without asking; the default is the session's."""
    with ChatPanel(connected(server, "off", model="gpt-5.4")) as panel:
        names = panel.widget.models

    assert server.stats.records == []
    assert panel.model == names[0] == "gpt-5.4"
    assert "gpt-5" in names
    assert sky.current().settings.embedding_model not in names


def test_a_chosen_model_is_asked(panel: ChatPanel, server: LocalServer) -> None:
    """A model that is in no list can be named, and is then in the list."""
    panel.model = "deepbrain-router"
    panel.send("one")
    panel.model = "gpt-5.3-codex"
    panel.send("two")

    assert [record.model for record in server.stats.records] == ["deepbrain-router", "gpt-5.3-codex"]
    assert "gpt-5.3-codex" in panel.widget.models


def test_sending_without_waiting_returns_at_once(panel: ChatPanel, tap: Tap) -> None:
    """The answer arrives in a thread; ``wait`` returns it, or ``None`` after its timeout."""
    tap.shut()

    assert panel.send(COUNT, wait=False) is None
    assert panel.busy
    assert panel.wait(0) is None
    tap.flow()
    turn = panel.wait(PATIENCE_S)

    assert turn is not None
    assert turn.text == COUNT
    assert not panel.busy


def test_stop_closes_the_connection_and_keeps_what_came(panel: ChatPanel, tap: Tap, server: LocalServer) -> None:
    """The service sees it go while its model is still at work; the turn is marked and the next one knows of it."""
    tap.shut()
    panel.send(COUNT, wait=False)
    until(lambda: panel.partial)
    panel.stop()
    turn = panel.wait(PATIENCE_S)

    assert turn is not None
    assert turn.finish_reason == "interrupted"
    assert turn.text
    assert COUNT.startswith(turn.text)
    assert turn.text != COUNT
    assert wait_until_idle(server, "chat").in_flight == 0
    assert not server.stats.records[0].complete
    tap.flow()
    panel.send("five")
    assert tap.messages[-1] == [
        {"role": "user", "content": COUNT},
        {"role": "assistant", "content": turn.text},
        {"role": "user", "content": "five"},
    ]


def test_stop_before_the_first_word_leaves_the_question_out(tap: Tap) -> None:
    """What the service never answered is shown and not sent again."""
    with served("latency=60, times=1", generator=tap) as slow, ChatPanel(connected(slow, "off")) as panel:
        panel.send("one", wait=False)
        until(lambda: slow.stats["chat"].in_flight)
        panel.stop()
        turn = panel.wait(PATIENCE_S)

        assert turn is not None
        assert (turn.text, turn.finish_reason) == ("", "interrupted")
        assert [turn.role for turn in panel.turns] == ["user", "assistant"]
        assert panel.messages == []


def test_ctrl_c_stops_a_waiting_call(panel: ChatPanel, tap: Tap, server: LocalServer) -> None:
    """The cell fails with one line, what arrived is stored and the connection is closed."""
    tap.shut()
    main = threading.get_ident()

    def waits() -> bool:
        return any(frame.f_code is Exchange.wait.__code__ for frame, _ in walk_stack(sys._current_frames()[main]))

    def interrupt() -> None:
        until(lambda: panel.partial and waits())
        signal.pthread_kill(main, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    with pytest.raises(Interrupted):
        panel.send(COUNT)
    watcher.join()

    assert panel.turns[-1].finish_reason == "interrupted"
    assert panel.turns[-1].text.startswith("one")
    assert wait_until_idle(server, "chat").in_flight == 0


def test_ctrl_c_while_a_call_starts_stops_it_too(
    panel: ChatPanel, tap: Tap, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting a thread waits until it runs; Ctrl-C then is no other than a moment later."""
    tap.shut()
    begin = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        begin(thread)
        if thread.name == "skytells-panel":
            raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(Interrupted):
            panel.send(COUNT)

    turn = panel.wait(PATIENCE_S)
    assert turn is not None
    assert turn.finish_reason == "interrupted"
    assert wait_until_idle(server, "chat").in_flight == 0


@pytest.mark.parametrize(
    ("fault", "kind", "advice"),
    [
        ("status=429, retry_after=7, times=1", RateLimitError, "Wait 7 s, then send again."),
        ("status=401, times=1", AuthenticationError, "Connect again with a valid key"),
        ("block_prompt, times=1", ContentPolicyError, "The safety filter blocked this prompt."),
    ],
)
def test_an_error_is_shown_and_the_panel_goes_on(tap: Tap, fault: str, kind: type[SkytellsError], advice: str) -> None:
    """One block with what to do; the question that brought it is not sent again with the next one."""
    with served(fault, generator=tap) as server, ChatPanel(connected(server, "off")) as panel:
        with pytest.raises(kind):
            panel.send("one")
        shown = panel.widget.turns[-1]["problem"]
        assert shown["name"] == kind.__name__
        assert advice in shown["advice"]
        assert not panel.widget.busy

        assert asked(panel, "one").text == "one"
        assert tap.messages == [[{"role": "user", "content": "one"}]]


def test_a_blocked_prompt_shows_its_verdict(tap: Tap) -> None:
    """The turn in place of the answer reports what the filter found."""
    with served("block_prompt", generator=tap) as server, ChatPanel(connected(server, "off")) as panel:
        with pytest.raises(ContentPolicyError):
            panel.send("one")

        assert panel.widget.turns[-1]["badge"]["kind"] == "filtered"
        assert panel.widget.turns[-1]["badge"]["text"].startswith("Safety: prompt blocked")
        assert panel.to_frame()["filtered"].tolist()[-1] is True


def test_a_stream_that_breaks_keeps_what_came(tap: Tap) -> None:
    """The text stays, and the turn is marked as incomplete and not checked completely."""
    with served("stream_cut_after=4", generator=tap) as server, ChatPanel(connected(server, "off")) as panel:
        with pytest.raises(TruncatedStreamError):
            panel.send("one two three four five six seven eight nine ten")
        turn = panel.turns[-1]

        assert turn.finish_reason == "truncated"
        assert turn.text.startswith("one ")
        assert "truncated: the stream ended early" in turn.ending
        assert panel.widget.turns[-1]["badge"]["kind"] == "unchecked"


def test_without_a_key_the_panel_says_how_to_get_one(server: LocalServer) -> None:
    """It can be built and shown before anything is connected, and works once something is."""
    with ChatPanel() as panel:
        with pytest.raises(MissingKeyError):
            panel.send("one")
        assert "connect(" in panel.widget.turns[-1]["problem"]["message"]

        connected(server, "off")
        assert asked(panel, "two").text == "two"


def test_one_answer_at_a_time(panel: ChatPanel, tap: Tap) -> None:
    """A second question while an answer comes is refused, and so is an empty one."""
    tap.shut()
    panel.send(COUNT, wait=False)

    with pytest.raises(InputError, match="still in flight"):
        panel.send("three")
    tap.flow()
    panel.wait(PATIENCE_S)
    with pytest.raises(InputError, match="must be a non-empty text"):
        panel.send(" \n")


def test_verdicts_are_words(panel: ChatPanel) -> None:
    """Safe, graded and not checked are distinguished without color."""
    panel.send("a quiet word")
    panel.send("violence:low here")
    with ChatPanel(messages=panel.messages) as other:
        badges = [turn["badge"] for turn in (*panel.widget.turns, *other.widget.turns) if turn["role"] == "assistant"]

    assert badges[0] == {"kind": "safe", "text": "Safety: safe"}
    assert badges[1] == {"kind": "low", "text": "Safety: violence low in the prompt; violence low in the answer"}
    assert [badge["text"] for badge in badges[2:]] == ["", ""]


@pytest.mark.parametrize(
    ("fault", "kind", "words", "ending"),
    [
        ("filter_down", "unchecked", "Safety: not checked", ""),
        ("filter_completion=default", "filtered", "Safety: filtered", "safety filter"),
        ("empty_length", "safe", "Safety: safe", "before any text"),
    ],
)
def test_a_badge_and_an_ending_say_what_happened(tap: Tap, fault: str, kind: str, words: str, ending: str) -> None:
    """A missing result is a separate state; a withheld answer and one without text say why."""
    with served(fault, generator=tap) as server, ChatPanel(connected(server, "off")) as panel:
        panel.send(COUNT)
        shown = panel.widget.turns[-1]

        assert shown["badge"]["kind"] == kind
        assert shown["badge"]["text"].startswith(words)
        assert ending in shown["ending"]


def test_the_frame_has_a_row_for_each_turn(panel: ChatPanel) -> None:
    """Facts of answers are typed columns, missing for questions."""
    panel.send("one two")
    frame = panel.to_frame()

    assert list(frame.columns) == [
        *("turn", "role", "text", "model", "finish_reason", "tokens_in", "tokens_out"),
        *("cost", "filtered", "severity", "request_id"),
    ]
    assert frame["role"].tolist() == ["user", "assistant"]
    assert frame["tokens_out"].isna().tolist() == [True, False]
    assert frame.loc[1, ["turn", "text", "finish_reason", "tokens_out", "severity"]].tolist() == [
        *(2, "one two", "stop", 2, "safe"),
    ]
    assert (str(frame["tokens_in"].dtype), str(frame["filtered"].dtype)) == ("Int64", "boolean")


def test_an_empty_panel_has_an_empty_frame(panel: ChatPanel) -> None:
    """The columns are there with their types."""
    frame = panel.to_frame()

    assert len(frame) == 0
    assert str(frame["tokens_in"].dtype) == "Int64"


def test_an_empty_panel_has_no_messages_but_its_system_text(panel: ChatPanel) -> None:
    assert panel.messages == []
    panel.system = "Be brief."
    assert panel.messages == [{"role": "system", "content": "Be brief."}]


def test_a_conversation_can_be_taken_up_again(panel: ChatPanel, tap: Tap) -> None:
    """``messages`` of one panel are the start of another, system text included."""
    panel.system = "Be brief."
    panel.send("one")

    with ChatPanel(messages=panel.messages) as other:
        assert other.messages == panel.messages
        other.send("two")

    assert [message["content"] for message in tap.messages[-1]] == ["Be brief.", "one", "one", "two"]


@pytest.mark.parametrize(
    "message", [{"role": "tool", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "x"}]}, {}]
)
def test_messages_that_cannot_be_shown_are_refused(message: dict[str, object]) -> None:
    """The error names the place."""
    with pytest.raises(InputError, match=r"messages\[1\]"):
        ChatPanel(messages=[{"role": "user", "content": "x"}, message])


def test_clear_forgets_the_turns(panel: ChatPanel, tap: Tap) -> None:
    """The next question starts a conversation; the system text stays. An answer in flight is stopped first."""
    panel.system = "Be brief."
    tap.shut()
    panel.send(COUNT, wait=False)
    until(lambda: panel.partial)
    panel.clear()
    assert (panel.turns, panel.widget.turns, panel.widget.busy) == ((), [], False)

    tap.flow()
    panel.send("three")
    assert [message["content"] for message in tap.messages[-1]] == ["Be brief.", "three"]


def test_what_is_frozen_cannot_act(panel: ChatPanel) -> None:
    """A hostile answer and a hostile question become text; the transcript has them as HTML and as plain text."""
    panel.send(HOSTILE)
    frozen = panel.freeze()
    bundle = frozen._repr_mimebundle_()

    assert set(bundle) == {"text/html", "text/markdown", "text/plain"}
    for page in (bundle["text/html"], *(turn["html"] for turn in panel.widget.turns)):
        tags = Tags(page)
        assert tags.names <= {"div", "h3", "p", "strong", "small", "a", "br", "span"}
        assert tags.attributes <= {"class", "dir", "href", "rel"}
        assert all(link.startswith("https://") for link in tags.links)
    assert HOSTILE in bundle["text/plain"]
    assert bundle["text/plain"].startswith("Skytells chat\n\nYou:\n")


def test_a_frozen_transcript_stays_as_it_was(panel: ChatPanel) -> None:
    """Later turns do not change it."""
    panel.send("one")
    frozen = panel.freeze()
    before = frozen.text
    panel.send("two")

    assert frozen.text == before
    assert "two" not in before


def test_the_key_is_nowhere_in_the_panel(panel: ChatPanel, server: LocalServer) -> None:
    """Neither the widget's state nor any representation holds it."""
    panel.send("one")

    everything = f"{panel.widget.get_state()} {panel!r} {panel.freeze().html()} {panel.turns} {panel.to_frame()}"
    assert KEY not in everything
    assert "one" in everything


def test_closing_leaves_nothing_behind(panel: ChatPanel, tap: Tap, server: LocalServer) -> None:
    """The stream ends, its thread too, and neither the widget nor its layout stays registered."""
    known = set(ipywidgets.widgets.widget._instances)
    other = ChatPanel()
    tap.shut()
    other.send(COUNT, wait=False)
    until(lambda: other.partial)
    other.close()
    other.close()

    assert set(ipywidgets.widgets.widget._instances) == known
    until(lambda: not [t for t in threading.enumerate() if t.name in ("skytells-panel", "skytells-live")])
    assert wait_until_idle(server, "chat").in_flight == 0
    assert other.turns[-1].text.startswith("one")
    with pytest.raises(InputError, match="closed"):
        other.send("three")


def test_naming_the_panel_loads_no_widgets() -> None:
    """``sky.widgets.ChatPanel`` is a class without ipywidgets; building one loads what it needs."""
    code = (
        "import sys, skytells_nb as sky; sky.widgets.ChatPanel; print({'ipywidgets', 'anywidget'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert shown.stdout == "set()\n"


def test_without_its_extra_the_panel_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs what is missing is in the error."""
    monkeypatch.setitem(sys.modules, "anywidget", None)

    with pytest.raises(MissingExtraError, match=r"anywidget is missing.*skytells-nb\[notebook\]"):
        sky.widgets.ChatPanel()


def test_a_panel_follows_the_default_session(server: LocalServer) -> None:
    """Without a session of its own it asks whichever is the default then."""
    with ChatPanel() as panel, served(generator=Tap()) as second:
        connected(server, "off")
        panel.send("one")
        sessions.reset()
        connected(second, "off")
        panel.send("two")

        assert (server.stats["chat"].requests, second.stats["chat"].requests) == (1, 1)
