"""Responses as types: which parameters are refused, and what is read from items, answers and events."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.serialization import validate
from skytells_nb.types.responses import Response, ResponseEvent, ResponsesRequest

BOUNDS = [
    ("temperature", 0, 2, 0.01),
    ("top_p", 0, 1, 0.01),
    ("max_output_tokens", 1, None, 1),
    ("top_logprobs", 0, 20, 1),
]
PARTS = st.fixed_dictionaries(
    {"type": st.sampled_from(["output_text", "refusal", "other"]), "text": st.one_of(st.none(), st.text())}
)
ITEMS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["message", "reasoning", "function_call", "other"]),
        "content": st.one_of(st.none(), st.lists(PARTS, max_size=3)),
    }
)


@pytest.mark.parametrize(("name", "least", "most", "step"), BOUNDS)
def test_a_parameter_is_taken_at_its_bounds_and_refused_beyond(
    name: str, least: float, most: float | None, step: float
) -> None:
    for value in (least, *(() if most is None else (most,))):
        assert getattr(ResponsesRequest(model="m", input="a", **{name: value}), name) == value
    for value in (least - step, *(() if most is None else (most + step,))):
        with pytest.raises(pydantic.ValidationError, match=name):
            ResponsesRequest(model="m", input="a", **{name: value})


@given(st.lists(ITEMS, max_size=4))
def test_the_text_is_that_of_the_text_parts_of_messages(items: list[Any]) -> None:
    texts = [
        part["text"] or ""
        for item in items
        if item["type"] == "message"
        for part in item["content"] or ()
        if part["type"] == "output_text"
    ]
    answer = validate(Response, {"output": items}, request_id=None)
    assert answer.output_text == str(answer) == "".join(texts)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({}, "stop"),
        ({"output": [{"type": "message"}, {"type": "function_call"}]}, "tool_calls"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "incomplete", "incomplete_details": {}}, "incomplete"),
        ({"status": "incomplete"}, "incomplete"),
        ({"status": "failed", "output": [{"type": "function_call"}]}, "failed"),
    ],
)
def test_the_reason_of_an_end_is_in_the_words_of_chat(body: dict[str, Any], reason: str) -> None:
    assert Response.model_validate(body).finish_reason == reason


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_tokens_are_those_in_and_those_out(tokens_in: int, tokens_out: int) -> None:
    usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
    assert Response.model_validate({"usage": usage}).tokens == (tokens_in, tokens_out)
    assert Response.model_validate({}).tokens == Response.model_validate({"usage": {}}).tokens == (0, 0)


@pytest.mark.parametrize(("type", "source"), [("prompt", "prompt"), ("completion", "completion"), ("x", "completion")])
def test_a_verdict_is_on_the_prompt_or_else_on_the_completion(type: str, source: str) -> None:
    result = {"hate": {"filtered": False, "severity": "low"}}
    answer = Response.model_validate({"content_filters": [{"source_type": type, "content_filter_results": result}]})
    assert [(f.source, f.category, f.severity) for f in answer.safety.findings] == [(source, "hate", "low")]
    assert not answer.safety.filtered


@pytest.mark.parametrize("severities", [("low", "high"), ("high", "low")])
def test_of_two_verdicts_on_one_category_the_worse_counts(severities: tuple[str, str]) -> None:
    filters = [{"content_filter_results": {"hate": {"filtered": False, "severity": word}}} for word in severities]
    (finding,) = Response.model_validate({"content_filters": filters}).safety.findings
    assert finding.severity == "high"


@pytest.mark.parametrize(
    ("body", "filtered"),
    [
        ({"content_filters": [{"blocked": True}, {"blocked": False}]}, True),
        ({"content_filters": [{"blocked": False}, {"blocked": True}]}, True),
        ({"content_filters": [{}]}, False),
        ({"incomplete_details": {"reason": "content_filter"}}, True),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, False),
        ({"incomplete_details": {"reason": "content_filter"}, "content_filters": [{"blocked": False}]}, True),
    ],
)
def test_one_block_makes_the_whole_answer_filtered(body: dict[str, Any], filtered: bool) -> None:
    assert Response.model_validate(body).safety.filtered is filtered


@given(st.text(), st.one_of(st.none(), st.text(), st.dictionaries(st.text(), st.text())))
def test_only_a_delta_of_text_adds_text(type: str, delta: Any) -> None:
    assert ResponseEvent(type="response.output_text.delta", delta=delta).text == (
        delta if isinstance(delta, str) else ""
    )
    assert ResponseEvent(type=type, delta=delta).text in ("", delta if type == "response.output_text.delta" else "")


def test_an_event_that_is_not_known_keeps_its_fields() -> None:
    event = ResponseEvent.model_validate({"type": "response.new", "sequence_number": 4, "more": [1]})
    assert (event.type, event.sequence_number, event.text, event.model_extra) == ("response.new", 4, "", {"more": [1]})
