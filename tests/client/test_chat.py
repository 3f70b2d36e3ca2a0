"""A chat that comes whole, and what is refused before it is sent."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from answers import SAFE, replying
from serving import KEY, serving

from skytells_nb.client.client import Skytells
from skytells_nb.errors import (
    APIError,
    AuthenticationError,
    InputError,
    InvalidResponseError,
    RateLimitError,
    ServerError,
)

ANSWER = {
    "id": "chatcmpl-E1",
    "object": "chat.completion",
    "created": 1773759323,
    "model": "gpt-5.4-2026-03-01",
    "system_fingerprint": "fp_490a4ad033",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Two.", "annotations": [], "refusal": None},
            "content_filter_results": {"hate": SAFE, "protected_material_text": {"filtered": False, "detected": False}},
        }
    ],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {"hate": SAFE}}],
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "total_tokens": 15,
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": None},
    },
    "service_tier": "default",
}
ASK: dict[str, Any] = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "1 + 1?"}]}


def test_an_answer_says_its_text_reason_usage_safety_and_request() -> None:
    with replying(ANSWER, x_request_id="req_a") as (client, _):
        answer = client.chat.completions.create(**ASK)
    assert str(answer) == answer.text == answer.choices[0].message.content == "Two."
    assert answer.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 15
    assert answer.tokens == (12, 3)
    assert answer.request_id == "req_a"
    assert answer.safety.checked
    assert {f.source for f in answer.safety.findings} == {"prompt", "completion"}


def test_fields_we_do_not_know_are_kept() -> None:
    with replying(ANSWER) as (client, _):
        answer = client.chat.completions.create(**ASK)
    assert answer.model_extra == {"service_tier": "default"}
    assert answer.model_dump()["choices"][0]["message"]["annotations"] == []


def test_what_is_sent_is_what_was_passed_and_nothing_more() -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    with replying(ANSWER) as (client, server):
        client.chat.completions.create(**ASK, temperature=1, tools=tools, seed=7, logit_bias={"5": 1}, stop=None)
        (exchange,) = server.exchanges
    assert (exchange.method, exchange.path) == ("POST", "/v1/chat/completions")
    assert exchange.json == {**ASK, "temperature": 1, "tools": tools, "seed": 7, "logit_bias": {"5": 1}}


def test_a_string_is_one_message_of_the_user() -> None:
    with replying(ANSWER) as (client, server):
        client.chat.completions.create(model="gpt-5.4", messages="1 + 1?")
        assert server.exchanges[0].json == ASK


def test_nulls_and_text_of_any_script_travel_as_they_are() -> None:
    messages: list[dict[str, Any]] = [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]},
        {"role": "tool", "content": "Größe 🙂 \0 \u2028", "tool_call_id": "call_1"},
    ]
    with replying(ANSWER) as (client, server):
        client.chat.completions.create(model="gpt-5.4", messages=messages)
        assert server.exchanges[0].json["messages"] == messages


def test_the_message_of_an_answer_can_be_sent_back() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    with replying({**ANSWER, "choices": [{"index": 0, "message": message}]}) as (client, server):
        answer = client.chat.completions.create(**ASK)
        client.chat.completions.create(model="gpt-5.4", messages=[*ASK["messages"], answer.choices[0].message])
        sent = server.exchanges[1].json["messages"]
    assert sent == [*ASK["messages"], {"role": "assistant", "tool_calls": [call]}]


def test_numbers_of_numpy_that_are_numbers_of_python_are_taken() -> None:
    with replying(ANSWER) as (client, server):
        client.chat.completions.create(**ASK, temperature=np.float64(0.5))
        assert server.exchanges[0].json["temperature"] == 0.5


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"temperature": 3}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 1.5}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logprobs": 1}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, r"stop\[1\]"),
        ({"tools": {}}, "tools"),
        ({"tools": ["now"]}, r"tools\[0\]"),
        ({"tool_choice": 1}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"user": 5}, "user"),
        ({"model": 5}, "model"),
        ({"model": None}, "model is missing"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages is missing"),
        ({"messages": 5}, "messages"),
        ({"messages": b"Hi"}, "messages"),
        ({"messages": {"role": "user"}}, "messages"),
        ({"messages": ["Hi"]}, r"messages\[0\]"),
        ({"messages": [{"role": "user"}, None]}, r"messages\[1\]"),
        ({"metadata": {1, 2}.__iter__}, "JSON"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "JSON"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_sent_is_refused_by_name_before_it_is_sent(
    wrong: dict[str, Any], name: str, stream: bool
) -> None:
    with replying(ANSWER) as (client, server):
        with pytest.raises(InputError, match=name) as caught:
            client.chat.completions.create(**{**ASK, **wrong}, stream=stream)
        assert len(str(caught.value)) < 400
        assert server.exchanges == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (
            {"status": False, "error": {"http_status": 401, "message": "No.", "error_id": "UNAUTHORIZED"}},
            AuthenticationError,
        ),
        ({"status": False, "response": "No."}, ServerError),
        ({"error": {"status": 429, "message": "No.", "error_id": "RATE_LIMITED"}}, RateLimitError),
        ({"error": {"status": 200, "message": "No."}}, APIError),
    ],
)
def test_an_error_that_comes_with_status_200_is_an_error(body: dict[str, Any], kind: type[APIError]) -> None:
    with replying(body, x_request_id="req_e") as (client, _), pytest.raises(kind, match=r"No\.") as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.request_id == "req_e"


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"null", "<html>Log in</html>"])
def test_an_answer_that_is_not_json_is_not_trusted(body: Any) -> None:
    with replying(body, x_request_id="req_e") as (client, _), pytest.raises(InvalidResponseError, match="req_e"):
        client.chat.completions.create(**ASK)


@pytest.mark.parametrize("body", [[], "text", 5, {"choices": 5}, {"choices": [{"message": 5}]}])
def test_json_that_is_no_chat_is_not_trusted(body: Any) -> None:
    with (
        replying(json.dumps(body).encode(), x_request_id="req_e") as (client, _),
        pytest.raises(InvalidResponseError, match=r"not a ChatCompletion.*req_e"),
    ):
        client.chat.completions.create(**ASK)


def test_nulls_count_as_missing_and_everything_may_be_missing() -> None:
    body = {
        "id": None,
        "choices": [{"index": None, "message": {"role": None, "content": None}, "finish_reason": None}, {"index": 1}],
        "usage": {"prompt_tokens": None, "total_tokens": 3},
        "prompt_filter_results": [{"prompt_index": None, "content_filter_results": None}],
    }
    with replying(body) as (client, _):
        answer = client.chat.completions.create(**ASK)
    assert (answer.id, answer.text, answer.tokens, answer.request_id) == ("", "", (0, 0), None)
    assert [c.index for c in answer.choices] == [0, 1]
    assert not answer.safety.checked


def test_an_answer_without_choices_has_no_text() -> None:
    with replying({"choices": []}) as (client, _):
        answer = client.chat.completions.create(**ASK)
    assert (str(answer), answer.finish_reason) == ("", None)


def test_a_client_is_a_context_manager_and_says_where_it_sends() -> None:
    with serving(lambda e: e.reply(ANSWER)) as server, Skytells(KEY, base_url=server.url + "/") as client:
        assert client.base_url == server.url
        assert client.origin == server.url.removesuffix("/v1")
        assert client.limits is None
        assert not client.aborted


def test_the_limits_of_the_account_are_known_after_an_answer() -> None:
    with replying(ANSWER, x_skytells_ratelimit_limit_requests="25") as (client, _):
        client.chat.completions.create(**ASK)
        assert client.limits is not None
        assert client.limits.limit_requests == 25
