"""Retry, edit and new chat: what is sent, what stays, and what is billed."""

from __future__ import annotations

from typing import Any

import pytest
from panel_service import PATIENCE_S, Tap
from served import connected, served

import skytells_nb as sky
import skytells_nb.session as sessions
from skytells_nb.errors import InputError, RateLimitError
from skytells_nb.local.server import LocalServer
from skytells_nb.widgets.chat_panel.panel import ChatPanel


def sent(tap: Tap) -> list[Any]:
    return [(message["role"], message["content"]) for message in tap.messages[-1]]


def test_a_retry_replaces_the_last_answer_and_both_are_billed(panel: ChatPanel, tap: Tap, server: LocalServer) -> None:
    """The same messages are sent again, of the model chosen now; the conversation goes on from the new answer."""
    panel.send("one")
    first = panel.send("two three")
    panel.model = "deepbrain-router"
    second = panel.retry()

    assert first is not None
    assert second is not None
    assert sent(tap) == [("user", "one"), ("assistant", "one"), ("user", "two three")]
    assert server.stats.records[-1].model == "deepbrain-router"
    assert [turn.text for turn in panel.turns] == ["one", "one", "two three", "two three"]
    assert panel.turns[-1] is second
    assert panel.turns[-1].request_id != first.request_id
    totals = sky.current().totals
    assert totals.requests == 3
    assert totals.output_tokens == 1 + 2 + 2
    assert f"{totals.input_tokens:,} tokens in, {totals.output_tokens:,} out" in panel.widget.totals
    assert panel.widget.totals.endswith(", with 1 replaced answer")
    assert panel.widget.totals in panel.freeze().html()


def test_an_edit_replaces_a_question_and_all_that_followed(panel: ChatPanel, tap: Tap) -> None:
    """Turns before it stay; what is replaced is no part of what is sent, and stays in the cost."""
    for text in ("one", "two", "three"):
        panel.send(text)
    before = sky.current().totals.output_tokens
    panel.edit("four five", turn=3)

    assert sent(tap) == [("user", "one"), ("assistant", "one"), ("user", "four five")]
    assert [turn.text for turn in panel.turns] == ["one", "one", "four five", "four five"]
    assert panel.to_frame()["turn"].tolist() == [1, 2, 3, 4]
    assert f" {before + 2:,} out" in panel.widget.totals
    assert "with 2 replaced answers" in panel.widget.totals
    panel.edit("six")
    assert panel.messages[-1] == {"role": "assistant", "content": "six"}
    panel.clear()
    panel.send("seven")
    assert "replaced" not in panel.widget.totals


def test_an_answer_stays_while_no_other_arrives(tap: Tap, server: LocalServer) -> None:
    """A retry that fails raises, says so on the page, and loses nothing; the next one takes its place."""
    with served("status=429, retry_after=7, times=1", generator=tap) as failing, ChatPanel(model="gpt-5") as panel:
        connected(server, "off")
        panel.send("one two")
        turns, cost = panel.turns, panel.widget.totals
        sessions.reset()
        connected(failing, "off")
        with pytest.raises(RateLimitError):
            panel.edit("three")

        assert panel.turns == turns
        assert panel.widget.totals == cost
        assert panel.widget.notice.startswith("RateLimitError: ")
        assert panel.widget.notice.endswith("Wait 7 s, then send again. The earlier answer stays.")
        panel.edit("three")
        assert panel.widget.notice == ""
        assert [turn.text for turn in panel.turns] == ["three", "three"]
        assert "with 1 replaced answer" in panel.widget.totals


def test_a_question_without_an_answer_is_asked_again_in_its_place(tap: Tap) -> None:
    """Where the first attempt has no text, a second one takes its place, whether it succeeds or not."""
    with (
        served("status=500, times=2", generator=tap) as server,
        ChatPanel(connected(server, "off"), model="gpt-5") as panel,
    ):
        for ask in (lambda: panel.send("one"), panel.retry):
            with pytest.raises(sky.SkytellsError):
                ask()
            assert [turn.role for turn in panel.turns] == ["user", "assistant"]
            assert panel.turns[-1].problem is not None
        panel.retry()

        assert [turn.text for turn in panel.turns] == ["one", "one"]
        assert "replaced" not in panel.widget.totals


def test_there_has_to_be_a_question(panel: ChatPanel, tap: Tap) -> None:
    with pytest.raises(InputError, match="no question to ask again"):
        panel.retry()
    panel.send("one")
    with pytest.raises(InputError, match=r"turn must be the number of a question, one of \[1\], got 2"):
        panel.edit("two", turn=2)
    with pytest.raises(InputError, match="must be a non-empty text"):
        panel.edit(" ")
    tap.shut()
    panel.send("one two three four five six", wait=False)
    with pytest.raises(InputError, match="still in flight"):
        panel.retry()
    tap.flow()
    panel.wait(PATIENCE_S)
    assert len(panel.turns) == 4


def test_what_the_page_requests_is_done_and_answered(panel: ChatPanel) -> None:
    """Retry, edit and new chat by message; a request that cannot be done is answered with the reason."""
    said: list[dict[str, Any]] = []
    panel.widget.send = lambda content, buffers=None: said.append(content)

    def request(**message: Any) -> dict[str, Any]:
        panel._on_message(panel.widget, message, [])
        answer = next(content for content in said if content["kind"] in ("accepted", "refused"))
        panel.wait(PATIENCE_S)
        said.clear()
        return answer

    assert request(kind="retry")["why"] == "There is no question to ask again; send one first."
    assert request(kind="send", text="one") == {"kind": "accepted"}
    assert request(kind="edit", turn=1, text="two") == {"kind": "accepted"}
    assert request(kind="retry") == {"kind": "accepted"}
    assert request(kind="edit", turn="1", text="two")["kind"] == "refused"
    assert [turn.text for turn in panel.turns] == ["two", "two"]
    assert request(kind="new") == {"kind": "accepted"}
    assert (panel.turns, panel.widget.totals) == ((), "")
    panel._on_message(panel.widget, {"kind": "unknown"}, [])
    panel._on_message(panel.widget, "text", [])
    assert said == []
