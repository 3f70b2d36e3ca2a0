"""What users of the OpenAI SDK write: options of one call, retries, parsed answers, and the names of errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pydantic
import pytest
from answers import replying
from hypothesis import given
from hypothesis import strategies as st
from serving import KEY, Exchange, serving

from skytells_nb import errors
from skytells_nb.client.client import Skytells
from skytells_nb.client.parameters import check_numbers
from skytells_nb.client.transport.request_options import RequestOptions, Timeouts
from skytells_nb.errors import (
    ConfigurationError,
    ConnectError,
    InputError,
    InvalidResponseError,
    PaymentRequiredError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)

CHAT = {"id": "c", "choices": [{"index": 0, "message": {"content": "ok"}, "finish_reason": "stop"}]}
RESPONSE = {
    "id": "r",
    "status": "completed",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}],
}
VECTORS = {"data": [{"index": 0, "embedding": [0.5, 1.0]}], "model": "m"}


def answer(exchange: Exchange) -> None:
    if exchange.json.get("stream"):
        exchange.begin()
        exchange.event({"choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}]})
        exchange.event("[DONE]")
        return
    path = exchange.path.partition("?")[0].rpartition("/")[2]
    exchange.reply({"completions": CHAT, "responses": RESPONSE, "embeddings": VECTORS}[path])


CALLS: dict[str, Callable[..., Any]] = {
    "chat": lambda client, **options: client.chat.completions.create(model="m", messages="hi", **options),
    "stream": lambda client, **options: (
        client.chat.completions.create(model="m", messages="hi", stream=True, **options).final
    ),
    "responses": lambda client, **options: client.responses.create(model="m", input="hi", **options),
    "embeddings": lambda client, **options: client.embeddings.create(model="m", input="hi", **options),
}


@pytest.mark.parametrize("call", CALLS)
def test_options_of_one_call_are_no_part_of_its_body(call: str) -> None:
    with serving(answer) as server:
        CALLS[call](
            Skytells(KEY, base_url=server.url),
            timeout=20,
            extra_headers={"X-Team": "blue", "user-agent": "mine/1", "x-none": None},
            extra_query={"api-version": "2026-01-01", "tag": ["a b", None, 2], "none": None, "on": True},
            extra_body={"top_k": 5},
        )
        CALLS[call](Skytells(KEY, base_url=server.url))
    first, second = server.exchanges
    assert first.json["top_k"] == 5
    assert not {"timeout", "extra_headers", "extra_query", "extra_body"} & first.json.keys()
    assert (first.headers["x-team"], first.headers["user-agent"]) == ("blue", "mine/1")
    assert "x-none" not in first.headers
    assert first.headers["x-api-key"] == KEY
    assert first.path.partition("?")[2] == "api-version=2026-01-01&tag=a+b&tag=2&on=true"
    assert "?" not in second.path
    assert "x-team" not in second.headers
    assert second.headers["user-agent"].startswith("skytells-nb/")
    assert second.headers["user-agent"].partition("/")[2][0].isdigit()


@pytest.mark.parametrize("call", CALLS)
def test_a_timeout_of_one_call_ends_it(call: str) -> None:
    with serving(lambda exchange: exchange.client_left() and None) as server:
        client = Skytells(KEY, base_url=server.url, timeout=60)
        for timeout in (0.2, Timeouts(read=0.2, idle=0.2)):
            started = time.monotonic()
            with pytest.raises(RequestTimeoutError, match=r"sent nothing for 0.2 s"):
                CALLS[call](client, timeout=timeout)
            assert time.monotonic() - started < 30


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"timeout": True}, "timeout"),
        (
            {"extra_headers": {"x-a": "b\r\nx-api-key: c"}},
            "single-line Latin-1 strings, got an invalid value for 'x-a'",
        ),
        ({"extra_headers": {"x a": "b"}}, "extra_headers"),
        ({"extra_headers": {"x-a": 5}}, "extra_headers"),
        ({"extra_headers": {"x-a": "☃"}}, "single-line Latin-1 strings, got an invalid value for 'x-a'"),
        ({"extra_headers": {"X-API-Key": "b"}}, "client sets it"),
        ({"extra_headers": {"Content-Length": "5"}}, "client sets it"),
        ({"extra_headers": {"Host": "example.org"}}, "client sets it"),
        ({"extra_headers": ["a"]}, "extra_headers must be a mapping"),
        ({"extra_query": "a=b"}, "extra_query must be a mapping"),
        ({"extra_query": {"a": {}}}, "extra_query must have strings and numbers"),
        ({"extra_query": {"a": "\ud800"}}, "extra_query must be valid Unicode, got an unpaired surrogate"),
        ({"extra_headrs": {}}, "did you mean 'extra_headers'"),
        ({"metadata": {"a": float("nan")}}, "finite numbers, got nan"),
        ({"extra_body": {"a": [1, {"b": float("inf")}]}}, r"a\[1\].b must have finite numbers, got inf"),
    ],
)
def test_an_option_that_cannot_be_sent_sends_nothing(call: str, options: dict[str, Any], reason: str) -> None:
    with serving(answer) as server, pytest.raises(InputError, match=reason):
        CALLS[call](Skytells(KEY, base_url=server.url), **options)
    assert server.exchanges == []


def test_a_number_that_json_lacks_is_found_in_messages_too() -> None:
    with serving(answer) as server:
        client = Skytells(KEY, base_url=server.url)
        with pytest.raises(InputError, match="finite numbers"):
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": [{"type": "text", "text": "x", "y": float("-inf")}]}]
            )
        client.chat.completions.create(model="m", messages="NaN and Infinity are words here.")
    assert len(server.exchanges) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(JSON)
def test_a_value_is_refused_exactly_if_json_does_not_have_it(value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        with pytest.raises(InputError, match="finite"):
            check_numbers({"value": value})
    else:
        check_numbers({"value": value})


def failing(times: int, status: int, **headers: str) -> Callable[[Exchange], None]:
    """Fail so often, then answer."""
    left = [times]

    def script(exchange: Exchange) -> None:
        if left[0]:
            left[0] -= 1
            exchange.reply({"error": {"message": "not now"}}, status, **headers)
        else:
            answer(exchange)

    return script


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_a_client_retries_as_often_as_it_is_told(call: str, status: int) -> None:
    with serving(failing(2, status, retry_after="0")) as server:
        CALLS[call](Skytells(KEY, base_url=server.url, max_retries=2))
    assert len(server.exchanges) == 3
    with serving(failing(2, status, retry_after="0")) as server, pytest.raises(errors.APIError):
        CALLS[call](Skytells(KEY, base_url=server.url, max_retries=1))
    assert len(server.exchanges) == 2
    with serving(failing(1, status, retry_after="0")) as server, pytest.raises(errors.APIError) as caught:
        CALLS[call](Skytells(KEY, base_url=server.url))
    assert len(server.exchanges) == 1
    assert caught.value.status_code == caught.value.status == status


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (400, {}, errors.BadRequestError),
        (401, {}, errors.AuthenticationError),
        (402, {}, PaymentRequiredError),
        (404, {}, errors.NotFoundError),
        (429, {"retry_after": "3600"}, RateLimitError),
    ],
)
def test_what_another_attempt_does_not_change_is_not_retried(
    status: int, headers: dict[str, str], kind: type[errors.APIError]
) -> None:
    with serving(failing(5, status, **headers)) as server, pytest.raises(kind):
        CALLS["chat"](Skytells(KEY, base_url=server.url, max_retries=5))
    assert len(server.exchanges) == 1


def test_a_retry_waits_as_long_as_the_service_says() -> None:
    with serving(failing(1, 503, retry_after="0.4")) as server:
        started = time.monotonic()
        CALLS["chat"](Skytells(KEY, base_url=server.url, max_retries=1))
        assert time.monotonic() - started >= 0.4


def test_a_lost_connection_and_silence_are_retried() -> None:
    times = [0]

    def script(exchange: Exchange) -> None:
        times[0] += 1
        if times[0] == 1:
            exchange.cut()
        elif times[0] == 2:
            exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{")
        else:
            answer(exchange)

    with serving(script) as server:
        url = server.url
        assert CALLS["chat"](Skytells(KEY, base_url=url, max_retries=2)).text == "ok"
    with pytest.raises(ConnectError):
        CALLS["chat"](Skytells(KEY, base_url=url, max_retries=1, timeout=5))


def test_abort_ends_the_wait_for_a_retry() -> None:
    with serving(failing(9, 503, retry_after="50")) as server:
        client = Skytells(KEY, base_url=server.url, max_retries=3)
        import threading

        threading.Timer(0.3, client.abort).start()
        with pytest.raises(errors.RequestCancelledError):
            CALLS["chat"](client)


def test_a_client_with_other_options_shares_the_connections() -> None:
    def keep(exchange: Exchange) -> None:
        for _ in range(2):
            answer_kept(exchange)
            exchange._sock.recv(65536)

    def answer_kept(exchange: Exchange) -> None:
        exchange.reply(CHAT, connection="keep-alive")

    with serving(keep) as server:
        client = Skytells(KEY, base_url=server.url, default_headers={"x-team": "blue"}, default_query={"v": 1})
        other = client.with_options(timeout=20, max_retries=3, default_headers={"x-more": "2"}, default_query={"w": 2})
        CALLS["chat"](client)
        CALLS["chat"](other)
        assert len(server.exchanges) == 1
        assert server.exchanges[0].headers["x-team"] == "blue"
        assert server.exchanges[0].path.endswith("?v=1")
        assert type(other) is Skytells
        assert other._transport.timeouts.read == 20
        assert (client._transport._max_retries, other._transport._max_retries) == (0, 3)
        assert other._transport._options.headers == (("x-team", "blue"), ("x-more", "2"))
        assert other._transport._options.query == "v=1&w=2"
        other.abort()
        assert client.aborted
        assert other.aborted
        with pytest.raises(errors.RequestCancelledError):
            CALLS["chat"](client)


@pytest.mark.parametrize("name", ["max_retries", "default_headers"])
def test_an_option_of_the_client_is_not_sent_as_a_parameter(name: str) -> None:
    with replying({}) as (client, server):
        for given in ({name: 2}, {"extra_body": {name: 2}}):
            with pytest.raises(InputError, match=rf"use client.with_options\({name}="):
                client.chat.completions.create(model="m", messages="x", **given)
        assert server.exchanges == []


def test_scalars_of_numpy_and_tuples_are_parameters() -> None:
    with replying({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}) as (client, server):
        client.chat.completions.create(
            model="m", messages="x", max_tokens=np.int64(5), temperature=np.float32(0.5), stop=("a", np.str_("b"))
        )
    sent = server.exchanges[0].json
    assert (sent["max_tokens"], sent["temperature"], sent["stop"]) == (5, 0.5, ["a", "b"])


def test_create_with_a_model_says_that_parse_takes_it() -> None:
    with replying({}) as (client, _), pytest.raises(InputError, match=r"pass response_format to parse\(\)"):
        client.chat.completions.create(model="m", messages="x", response_format=Animal)


@pytest.mark.parametrize("max_retries", [-1, 1.5, True, "2", None, 101])
def test_a_number_of_retries_is_a_small_whole_number(max_retries: Any) -> None:
    if max_retries is not None:
        with pytest.raises(ConfigurationError, match="max_retries must be"):
            Skytells(KEY, base_url="http://127.0.0.1/v1", max_retries=max_retries)
    client = Skytells(KEY, base_url="http://127.0.0.1/v1", max_retries=4)
    assert client.with_options()._transport._max_retries == 4


def test_a_timeout_limits_connecting_too() -> None:
    assert (Timeouts.of(3).connect, Timeouts.of(3).read, Timeouts.of(1000).connect) == (3, 3, 10)
    assert Timeouts.of(float("inf")).read > 1e6
    assert RequestOptions.of(0.5).timeouts == Timeouts.of(0.5)
    import httpx

    mixed = RequestOptions.of(httpx.Timeout(7, connect=2)).timeouts  # type: ignore[arg-type]
    assert mixed is not None
    assert (mixed.read, mixed.connect, mixed.write) == (7, 2, 7)


class Animal(pydantic.BaseModel):
    name: str
    legs: int = 4


def chat_with(**message: Any) -> dict[str, Any]:
    finish = message.pop("finish_reason", "stop")
    return {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


@pytest.mark.parametrize("text", ['{"name": "cat", "legs": 4}', '```json\n{"name": "cat", "legs": 4}\n```'])
def test_a_completion_is_parsed_into_a_model(text: str) -> None:
    with serving(lambda exchange: exchange.reply(chat_with(content=text))) as server:
        client = Skytells(KEY, base_url=server.url)
        completion = client.chat.completions.parse(
            model="m", messages="A cat.", response_format=Animal, max_tokens=50, timeout=20
        )
    assert completion.parsed == completion.choices[0].message.parsed == Animal(name="cat")
    (exchange,) = server.exchanges
    assert exchange.json["max_tokens"] == 50
    named = exchange.json["response_format"]["json_schema"]
    assert (named["name"], named["strict"], named["schema"]["required"]) == ("Animal", True, ["name", "legs"])


def test_a_response_is_parsed_into_a_model() -> None:
    body = {
        **RESPONSE,
        "output": [{**RESPONSE["output"][0], "content": [{"type": "output_text", "text": '{"name": "cat"}'}]}],
    }  # type: ignore[index]
    with serving(lambda exchange: exchange.reply(body)) as server:
        client = Skytells(KEY, base_url=server.url)
        response = client.responses.parse(model="m", input="A cat.", text_format=Animal, text={"verbosity": "low"})
    assert response.output_parsed == Animal(name="cat")
    text = server.exchanges[0].json["text"]
    assert (text["verbosity"], text["format"]["type"], text["format"]["name"]) == ("low", "json_schema", "Animal")


@pytest.mark.parametrize(
    "message", [{"content": "", "refusal": "I will not."}, {"content": None, "tool_calls": [{"id": "t"}]}]
)
def test_a_refusal_and_a_call_of_a_tool_have_no_object(message: dict[str, Any]) -> None:
    with serving(lambda exchange: exchange.reply(chat_with(**message))) as server:
        client = Skytells(KEY, base_url=server.url)
        assert client.chat.completions.parse(model="m", messages="?", response_format=Animal).parsed is None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"content": '{"name": "c', "finish_reason": "length"}, "cut at the token limit"),
        ({"content": "", "finish_reason": "content_filter"}, "withheld by the safety filter"),
        ({"content": "a cat"}, "is not a Animal"),
        ({"content": '{"name": 5}'}, "name cannot be 5"),
    ],
)
def test_a_completion_that_is_no_such_object_is_an_error(message: dict[str, Any], reason: str) -> None:
    with serving(lambda exchange: exchange.reply(chat_with(**message))) as server:
        client = Skytells(KEY, base_url=server.url)
        with pytest.raises(InvalidResponseError, match=reason):
            client.chat.completions.parse(model="m", messages="?", response_format=Animal)


@pytest.mark.parametrize("kind", [dict, {"type": "json_object"}, None, Animal(name="cat"), int])
def test_only_a_model_is_parsed_into(kind: Any) -> None:
    client = Skytells(KEY, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(InputError, match="response_format must be a class"):
        client.chat.completions.parse(model="m", messages="?", response_format=kind)
    with pytest.raises(InputError, match="text_format must be a class"):
        client.responses.parse(model="m", input="?", text_format=kind)
    with pytest.raises(InputError, match="stream must be False for parse, got True"):
        client.chat.completions.parse(model="m", messages="?", response_format=Animal, stream=True)


def test_every_error_of_a_status_has_its_code() -> None:
    assert ServerError("x", status=503).status_code == 503
