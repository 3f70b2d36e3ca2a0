"""The notes under an answer, and the advice after an error."""

from __future__ import annotations

import json

import pytest

from skytells_nb.errors import InvalidResponseError, SkytellsError, StreamError, api_error
from skytells_nb.magics.ask import AskOutcome
from skytells_nb.magics.notes import add_advice, metadata, notes, safety_note
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.safety import Finding, Safety

SAFE = {"hate": {"filtered": False, "severity": "safe"}}


def answer(reason: str | None, text: str = "words") -> ChatCompletion:
    choice = {"message": {"content": text}, "finish_reason": reason, "content_filter_results": SAFE}
    return ChatCompletion.model_validate({"choices": [choice], "usage": {"completion_tokens": 1200}})


@pytest.mark.parametrize(
    ("reason", "text", "note"),
    [
        ("length", "w", "Cut at the length limit after 1,200 tokens: raise --max-tokens, or ask for a shorter answer."),
        ("content_filter", "w", "The safety filter ended this answer early."),
        ("content_filter", "", "The safety filter withheld this answer."),
        ("tool_calls", "", "The model asks for a tool call: see _sky.choices[0].message.tool_calls."),
        ("interrupted", "w", "interrupted: what arrived is above"),
        ("interrupted", "", "interrupted: nothing had arrived"),
        ("truncated", "w", "truncated: the stream ended early; what arrived is above"),
        ("error", "w", "error: the stream failed; what arrived is above"),
        ("stop", "", "The answer has no text."),
        (None, "", "The answer has no text."),
    ],
)
def test_an_early_end_is_put_in_words(reason: str | None, text: str, note: str) -> None:
    """Every finish reason but the normal one has its sentence."""
    assert notes(AskOutcome(answer(reason, text)))[0] == note


def test_an_ordinary_safe_answer_has_no_note() -> None:
    """A complete and safe answer has no note."""
    assert notes(AskOutcome(answer("stop"))) == ()


def test_findings_are_named_by_place_and_degree() -> None:
    """Category, severity or detection, and whether something was withheld."""
    safety = Safety(
        (
            Finding("prompt", 0, "jailbreak", detected=True),
            Finding("prompt", 0, "self_harm", "safe"),
            Finding("completion", 0, "violence", "medium"),
            Finding("completion", 0, "hate", "high", filtered=True),
        )
    )
    assert safety_note(safety) == (
        "Safety: jailbreak detected in the prompt; violence medium, hate high filtered in the answer."
    )


def test_a_missing_verdict_is_said_where_one_was_due() -> None:
    """A complete answer without a safety result is not checked; for an interrupted one none is expected yet."""
    assert "not checked" in safety_note(Safety())
    assert safety_note(Safety(), complete=False) == ""
    assert "not checked" in safety_note(Safety((Finding("prompt", 0, "all", checked=False),)), complete=False)


def test_a_verdict_on_the_prompt_alone_is_none_on_the_answer() -> None:
    """Only what the filter covered is reported as safe."""
    prompt = Safety((Finding("prompt", 0, "hate", "safe"),))
    missing = "Safety: the answer is not checked: the filter returned no result for it."
    assert safety_note(prompt) == safety_note(prompt, complete=False, always=True) == missing
    assert safety_note(prompt, complete=False) == safety_note(prompt, answered=False) == ""
    assert safety_note(prompt, always=True, answered=False) == "Safety: safe; hate in the prompt."


def test_metadata_is_json() -> None:
    """What is saved with the output can be saved."""
    facts = json.loads(json.dumps(metadata(answer("stop"), "m")))
    assert facts["model"] == "m"
    assert facts["usage"]["completion_tokens"] == 1200
    assert facts["safety"]["severity"] == "safe"


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (api_error(401, {}), "Set SKYTELLS_API_KEY"),
        (api_error(402, {}), "Add credit"),
        (api_error(404, {"error": {"code": "model_not_found"}}), "%skytells models"),
        (api_error(400, {"error": {"code": "context_length_exceeded"}}), "Shorten the prompt"),
        (api_error(451, {}), "the same prompt would be blocked again"),
        (api_error(429, {}, retry_after=12), "Wait 12 s"),
        (api_error(429, {}), "Wait a moment"),
        (api_error(503, {}), "it may succeed"),
        (StreamError("broken"), "it may succeed"),
    ],
)
def test_an_error_comes_with_the_next_step(problem: SkytellsError, said: str) -> None:
    """Below the message, as one line, and once however often it is raised."""
    lines = add_advice(add_advice(problem))._render_traceback_()
    assert len(lines) == 2
    assert said in lines[1]


def test_an_error_that_says_it_itself_gets_nothing_more() -> None:
    """An error whose message says what to do gets no note."""
    assert len(add_advice(InvalidResponseError("The answer is not a City."))._render_traceback_()) == 1
