"""The turns of a conversation: what is sent of them, what stands under them, and how they are written down."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytells_nb.types.safety import Finding, Safety
from skytells_nb.widgets.chat_panel.transcript import Transcript, describe_usage, safety_badge
from skytells_nb.widgets.chat_panel.turns import Turn, TurnError, messages, read_messages
from skytells_nb.widgets.page_layout import MUTED_CLASS

QUESTION = Turn("user", "Why\nso?")
ANSWER = Turn(
    "assistant", "For **this**.", model="gpt-5", finish_reason="stop", tokens_in=1200, tokens_out=5, cost=0.25
)
BROKEN = Turn("assistant", "Half an", model="gpt-5", problem=TurnError("StreamError", "It broke.", "Send again."))
TURNS = st.lists(st.builds(Turn, st.sampled_from(["user", "assistant"]), st.sampled_from(["", "a", "b"])), max_size=6)


def test_a_transcript_has_every_turn_in_order_as_text_and_as_html() -> None:
    made = Transcript("Chat", "Be brief.", (QUESTION, BROKEN, QUESTION, ANSWER))
    assert made.text == repr(made)
    assert made.text.split("\n\n") == [
        "Chat",
        "[System: Be brief.]",
        "You:\nWhy\nso?",
        "gpt-5:\nHalf an\nStreamError: It broke. Send again.",
        "You:\nWhy\nso?",
        "gpt-5:\nFor **this**.\n[1,200 tokens in, 5 out · $0.25]",
    ]
    html = made.html()
    places = [
        html.index(part) for part in ("Chat", "System: Be brief.", "Why<br>so?", "Half an", "It broke. Send again.")
    ]
    assert places == sorted(places)
    assert "<p>Half an</p>" in html
    assert "<p><strong>StreamError</strong>: It broke. Send again.</p>" in html
    assert "<strong>this</strong>" in html
    assert html.endswith(f'<p class="{MUTED_CLASS}"><small>1,200 tokens in, 5 out · $0.25</small></p></div></div>')


def test_a_transcript_says_the_usage_once() -> None:
    """The total stands below where it is more than that of the only answer."""
    alone, two = Transcript("Chat", "", (QUESTION, ANSWER)), Transcript("Chat", "", (QUESTION, ANSWER) * 2)
    replaced = Transcript("Chat", "", (QUESTION, ANSWER), replaced=(ANSWER,))
    for made, total in ((alone, ""), (two, "In total: 2,400 tokens in"), (replaced, "with 1 replaced answer")):
        for shown in (made.html(), made.markdown):
            assert shown.count("In total: ") == bool(total)
            assert total in shown
            assert shown.count("1,200 tokens in") == len(made.turns) // 2


def test_questions_stand_out_in_a_transcript_and_its_title_is_above_the_headings_of_answers() -> None:
    """A question is in a frame with its speaker."""
    question = Turn("user", "<b>Why</b>\n\u05d0\u05d1?")
    answer = Turn("assistant", "# Big\n\n### *Small* <h1>\n\n###### Least\n\n`<h1>x</h1>`", model="<i>")
    html = Transcript("<b>", "", (question, answer)).html()
    assert re.findall(r"<h(\d)[^>]*>(.*?)</h\d>", html) == [
        ("3", "&lt;b&gt;"),
        ("4", "Big"),
        ("5", "<strong><em>Small</em> &lt;h1&gt;</strong>"),
        ("5", "<strong>Least</strong>"),
    ]
    frame = '<div class="lm-TabBar-content" dir="rtl"><div class="highlight alert" dir="ltr">'
    assert f'{frame}<div><strong>You</strong></div><div dir="auto">&lt;b&gt;Why&lt;/b&gt;<br>' in html
    assert "<strong>&lt;i&gt;</strong>" in html
    assert "<code>&lt;h1&gt;x&lt;/h1&gt;</code>" in html


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("length", "Cut at the length limit after 5 tokens: ask the model to go on."),
        ("content_filter", "The safety filter ended this answer early."),
        ("interrupted", "interrupted: what arrived is above"),
    ],
)
def test_a_transcript_says_in_a_line_of_its_own_that_an_answer_is_not_complete(reason: str, words: str) -> None:
    """Apart from the quiet line of its cost, on a page, as text and as Markdown."""
    made = Transcript("Chat", "", (QUESTION, replace(ANSWER, finish_reason=reason)))
    assert f"</div><p><em>{words}</em></p><p class" in made.html()
    assert f"\n[{words}]\n[1,200 tokens in" in made.text
    assert f"\n\n*{words}*\n\n1,200 tokens in" in made.markdown


def test_a_question_keeps_its_indents_in_a_transcript() -> None:
    """A page joins spaces; in code that was asked about they say what belongs to what."""
    html = Transcript("Chat", "", (Turn("user", "for x in y:\n    if x:\n\tf(x,  1)"),)).html()
    assert "for x in y:<br>\xa0\xa0\xa0\xa0if x:<br>\xa0\xa0\xa0\xa0f(x, \xa01)" in html


def test_a_turn_without_a_text_has_no_line_for_it() -> None:
    made = Transcript("Chat", "", (Turn("assistant", "", problem=TurnError("Oh", "No.")),))
    assert made.text == "Chat\n\nAssistant:\nOh: No."
    assert "System" not in made.html()
    assert Transcript("Chat", "", ()).text == "Chat\n\nNo turns yet."
    assert "<p>No turns yet.</p>" in Transcript("Chat", "", ()).html()


def test_the_name_of_a_transcript_is_a_class_and_hides_the_lost_panel() -> None:
    bundle = Transcript("Chat", "", (QUESTION,)).mime_bundle("mine")
    assert bundle["text/html"].startswith('<div class="skytells-chat mine">')
    assert "<style>" in bundle["text/html"]
    assert ".mine)" in bundle["text/html"]
    plain = Transcript("Chat", "", (QUESTION,)).mime_bundle()
    assert plain["text/html"].startswith('<div class="skytells-chat">')
    assert "<style>" not in plain["text/html"]


@settings(deadline=None)
@given(TURNS, st.sampled_from(["", "Be brief."]))
def test_a_question_is_sent_unless_an_empty_answer_follows_it(turns: list[Turn], system: str) -> None:
    expected = [("system", system)] if system else []
    for number, turn in enumerate(turns):
        follower = turns[number + 1] if number + 1 < len(turns) else None
        if turn.text and (turn.role == "assistant" or follower is None or follower.text):
            expected.append((turn.role, turn.text))
    sent = messages(turns, system)
    assert [(message["role"], message["content"]) for message in sent] == expected
    assert read_messages(sent) == (system or None, [Turn(role, text) for role, text in expected if role != "system"])  # type: ignore[arg-type]


def test_a_conversation_without_turns_is_its_system_text_alone() -> None:
    assert messages([]) == []
    assert messages([], "Be brief.") == [{"role": "system", "content": "Be brief."}]


def test_what_was_used_is_the_sum_and_a_cost_that_is_not_known_makes_it_a_least() -> None:
    unknown = Turn("assistant", "b", finish_reason="stop", tokens_in=10, tokens_out=None)
    assert describe_usage([QUESTION, ANSWER, ANSWER]) == "2,400 tokens in, 10 out · $0.50"
    assert describe_usage([ANSWER, unknown]) == "at least 1,210 tokens in, 5 out · $0.25"
    assert describe_usage([QUESTION, Turn("assistant", "c")]) == ""
    assert unknown.facts == "10 tokens in, 0 out · cost unknown"
    assert Turn("assistant", "b", finish_reason="stop").facts == "tokens unknown"
    assert Turn("assistant", "b", finish_reason="stop", problem=TurnError("Oh", "No.")).facts == ""


def found(severity: str | None, source: str = "completion", *, checked: bool = True) -> Safety:
    return Safety((Finding(source, 0, "violence", severity, checked=checked),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("safety", "reason", "kind"),
    [
        (None, "stop", ""),
        (found("safe"), "stop", "safe"),
        (found("low"), "stop", "low"),
        (found("medium"), "stop", "medium"),
        (found("high"), "stop", "high"),
        (found("extreme"), "stop", "medium"),
        (found("safe", checked=False), "stop", "unchecked"),
        (found("safe", "prompt"), "stop", "unchecked"),
        (Safety(), "stop", "unchecked"),
        (Safety(blocked=True), "stop", "filtered"),
    ],
)
def test_the_kind_of_a_verdict(safety: Safety | None, reason: str, kind: str) -> None:
    assert safety_badge(Turn("assistant", "a", finish_reason=reason, safety=safety))[0] == kind
