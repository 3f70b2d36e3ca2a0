"""Chat Completions as types: which parameters are refused, and what is read from answers and chunks."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.serialization import validate
from skytells_nb.types.chat import ChatCompletion, ChatCompletionChunk, ChatMessage, ChatRequest, ToolCall, content_text

HELLO = [{"role": "user", "content": "Hi"}]
BOUNDS = [
    ("max_tokens", 1, None, 1),
    ("n", 1, None, 1),
    ("temperature", 0, 2, 0.01),
    ("top_p", 0, 1, 0.01),
    ("presence_penalty", -2, 2, 0.01),
    ("frequency_penalty", -2, 2, 0.01),
    ("top_logprobs", 0, 20, 1),
]
PARTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": st.text()}),
    st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.just({"url": "x"})}),
    st.fixed_dictionaries({"type": st.just("text"), "text": st.one_of(st.none(), st.integers())}),
)


@pytest.mark.parametrize(("name", "least", "most", "step"), BOUNDS)
def test_a_parameter_is_taken_at_its_bounds_and_refused_beyond(
    name: str, least: float, most: float | None, step: float
) -> None:
    for value in (least, *(() if most is None else (most,))):
        assert getattr(ChatRequest(model="m", messages=HELLO, **{name: value}), name) == value
    for value in (least - step, *(() if most is None else (most + step,))):
        with pytest.raises(pydantic.ValidationError, match=name):
            ChatRequest(model="m", messages=HELLO, **{name: value})


def test_a_request_names_a_model_and_has_a_message() -> None:
    with pytest.raises(pydantic.ValidationError, match="at least 1 item"):
        ChatRequest(model="m", messages=[])
    with pytest.raises(pydantic.ValidationError, match="model"):
        ChatRequest(messages=HELLO)
    assert ChatRequest(model="m", messages=HELLO).model_dump(exclude_none=True) == {"model": "m", "messages": HELLO}


@given(st.lists(PARTS, max_size=5))
def test_the_text_of_a_list_is_that_of_its_text_parts(parts: list[Any]) -> None:
    texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
    assert content_text(parts) == ChatMessage(content=parts).content == "".join(texts)


@given(st.lists(PARTS, max_size=3), st.one_of(st.none(), st.text(), st.integers()), st.lists(PARTS, max_size=3))
def test_a_list_with_anything_but_parts_is_refused(before: list[Any], odd: Any, after: list[Any]) -> None:
    content = [*before, odd, *after]
    assert content_text(content) is content
    with pytest.raises(pydantic.ValidationError, match="content"):
        ChatMessage(content=content)


@given(st.one_of(st.booleans(), st.integers(), st.floats(), st.dictionaries(st.text(), st.text())))
def test_content_that_is_neither_text_nor_a_list_is_refused(content: Any) -> None:
    assert content_text(content) is content
    with pytest.raises(pydantic.ValidationError, match="content"):
        ChatMessage(content=content)


def test_missing_content_is_empty_text() -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": None}}]}
    assert validate(ChatCompletion, body, request_id=None).choices[0].message.content == ""
    assert ChatMessage.model_validate({}).content == ""


@given(st.text())
def test_a_text_is_itself(text: str) -> None:
    assert content_text(text) == ChatMessage(content=text).text == text


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_an_answer_speaks_by_its_first_choice(texts: list[str]) -> None:
    choices = [
        {"index": n, "message": {"content": text}, "finish_reason": f"reason {n}"} for n, text in enumerate(texts)
    ]
    answer = ChatCompletion.model_validate({"choices": choices})
    assert answer.text == str(answer) == texts[0]
    assert answer.finish_reason == "reason 0"


def test_an_answer_without_choices_or_usage_is_empty() -> None:
    answer = ChatCompletion.model_validate({})
    assert (answer.text, answer.finish_reason, answer.tokens, answer.request_id) == ("", None, (0, 0), None)
    assert (answer.id, answer.object, answer.created, answer.model) == ("", "chat.completion", 0, "")
    assert answer.safety.findings == ()
    assert not answer.safety.filtered


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_tokens_are_those_in_and_those_out(tokens_in: int, tokens_out: int) -> None:
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    assert ChatCompletion.model_validate({"usage": usage}).tokens == (tokens_in, tokens_out)
    assert ChatCompletion.model_validate({"usage": {}}).tokens == (0, 0)


def test_the_verdict_is_on_the_prompt_and_on_every_choice() -> None:
    hate = {"hate": {"filtered": False, "severity": "low"}}
    answer = ChatCompletion.model_validate(
        {
            "prompt_filter_results": [{"prompt_index": 3, "content_filter_results": hate}],
            "choices": [{"index": 0}, {"index": 1, "content_filter_results": hate}],
        }
    )
    assert [(f.source, f.index, f.category) for f in answer.safety.findings] == [
        ("prompt", 3, "hate"),
        ("completion", 1, "hate"),
    ]
    assert not answer.safety.filtered


@pytest.mark.parametrize("place", [0, 1])
def test_a_choice_that_the_filter_ended_makes_the_answer_filtered(place: int) -> None:
    reasons = ["stop", "stop"]
    reasons[place] = "content_filter"
    choices = [{"index": n, "finish_reason": reason} for n, reason in enumerate(reasons)]
    assert ChatCompletion.model_validate({"choices": choices}).safety.blocked


@given(st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.text())), max_size=5))
def test_a_chunk_adds_to_the_first_choice_alone(pieces: list[tuple[int, str | None]]) -> None:
    choices = [{"index": n, "delta": None if text is None else {"content": text}} for n, text in pieces]
    chunk = validate(ChatCompletionChunk, {"choices": choices}, request_id=None)
    assert chunk.text == "".join(text for n, text in pieces if n == 0 and text is not None)


def test_a_chunk_without_an_index_is_of_the_first_choice() -> None:
    assert ChatCompletionChunk.model_validate({"choices": [{"delta": {"content": "a"}}]}).text == "a"
    assert ChatCompletionChunk.model_validate({}).text == ""


def test_a_tool_call_has_a_function_even_where_the_service_names_none() -> None:
    call = ToolCall.model_validate({"index": 1})
    assert (call.index, call.type, call.id) == (1, "function", "")
    assert (call.function.name, call.function.arguments) == ("", "")
