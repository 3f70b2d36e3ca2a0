"""Optional parameters: checked by name before anything is sent, shown in signatures, and answers without None."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import pytest
from answers import DONE, PROMPT_CHUNK, chunk, lines, replying, streaming

from skytells_nb.client import parameters
from skytells_nb.client.chat import Completions
from skytells_nb.client.client import Skytells
from skytells_nb.client.embeddings import Embeddings
from skytells_nb.client.parameters import ChatParams, EmbeddingParams, ResponsesParams
from skytells_nb.client.responses import Responses
from skytells_nb.engine.operations.endpoints import endpoint
from skytells_nb.errors import InputError
from skytells_nb.types.chat import ChatRequest
from skytells_nb.types.embeddings import EmbeddingRequest
from skytells_nb.types.responses import ResponsesRequest

CREATE = {
    "chat": (lambda client: client.chat.completions.create, {"model": "m", "messages": "Hi"}),
    "responses": (lambda client: client.responses.create, {"model": "m", "input": "Hi"}),
    "embeddings": (lambda client: client.embeddings.create, {"model": "m", "input": "Hi"}),
}
VECTOR = {"data": [{"index": 0, "embedding": [1.0]}], "choices": [], "output": []}


def create(client: Skytells, api: str, **params: Any) -> Any:
    method, required = CREATE[api]
    return method(client)(**{**required, **params})


@pytest.mark.parametrize(
    ("api", "name", "meant"),
    [
        ("chat", "temprature", "temperature"),
        ("chat", "max_token", "max_tokens"),
        ("chat", "response_fromat", "response_format"),
        ("chat", "presense_penalty", "presence_penalty"),
        ("chat", "steam", "stream"),
        ("responses", "max_output_token", "max_output_tokens"),
        ("responses", "instruction", "instructions"),
        ("embeddings", "dimension", "dimensions"),
        ("embeddings", "encoding_fromat", "encoding_format"),
    ],
)
def test_a_misspelled_parameter_is_an_error_with_a_hint_and_nothing_is_sent(api: str, name: str, meant: str) -> None:
    with replying(VECTOR) as (client, server):
        with pytest.raises(InputError, match=rf"'{name}'; did you mean '{meant}'\?"):
            create(client, api, **{name: 1})
        assert server.exchanges == []


@pytest.mark.parametrize("name", ["top_k", "min_p", "web_search_options", "thinking"])
def test_an_unknown_parameter_that_resembles_none_is_sent(name: str) -> None:
    with replying({"choices": [], "output": []}) as (client, server):
        create(client, "chat", **{name: 5})
        assert server.exchanges[0].json[name] == 5


@pytest.mark.parametrize("api", CREATE)
def test_extra_body_is_sent_as_it_is_also_where_it_resembles_a_parameter(api: str) -> None:
    with replying(VECTOR) as (client, server):
        create(client, api, extra_body={"temprature": 1, "router": {"region": "eu"}}, user="u")
        sent = server.exchanges[0].json
    assert (sent["temprature"], sent["router"], sent["user"]) == (1, {"region": "eu"}, "u")
    assert "extra_body" not in sent


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"temperature": 1}, "must not repeat a parameter of the call, got 'temperature' in both"),
        ({"model": "other"}, "must not repeat a parameter of the call, got 'model' in both"),
        ([("a", 1)], "must be a mapping of names to values, got list"),
    ],
)
def test_an_extra_body_that_cannot_be_merged_is_refused(extra: Any, reason: str) -> None:
    with replying({"choices": [], "output": []}) as (client, server):
        with pytest.raises(InputError, match=f"extra_body {reason}"):
            create(client, "chat", temperature=0, extra_body=extra)
        assert server.exchanges == []


def test_values_in_extra_body_are_checked_too() -> None:
    with (
        replying({"choices": [], "output": []}) as (client, _),
        pytest.raises(InputError, match="temperature cannot be 3"),
    ):
        create(client, "chat", extra_body={"temperature": 3})


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_vectorized_call_finds_a_misspelled_parameter_too(api: Any) -> None:
    with pytest.raises(InputError, match=r"did you mean 'temperature'\?"):
        endpoint(api).check("m", {"temprature": 1})


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        (Completions.create, ChatParams),
        (Responses.create, ResponsesParams),
        (Embeddings.create, EmbeddingParams),
        (Embeddings.begin, EmbeddingParams),
    ],
)
def test_the_signature_names_every_parameter(method: Any, kind: Any) -> None:
    """As ``help()`` and completion read it; the last one still takes what the API may grow."""
    shown = inspect.signature(method).parameters
    assert list(kind.__annotations__) == [name for name in shown if name in kind.__annotations__]
    assert all(shown[name].kind is inspect.Parameter.KEYWORD_ONLY for name in kind.__annotations__)
    assert list(shown.values())[-1].kind is inspect.Parameter.VAR_KEYWORD
    assert "float | None" in str(inspect.signature(method)) or kind is EmbeddingParams


@pytest.mark.parametrize(
    ("request_kind", "kind"),
    [(ChatRequest, ChatParams), (ResponsesRequest, ResponsesParams), (EmbeddingRequest, EmbeddingParams)],
)
def test_every_field_that_is_checked_is_a_known_parameter(request_kind: Any, kind: Any) -> None:
    explicit = {"model", "messages", "input", "stream", "encoding_format", "dimensions"}
    assert set(request_kind.model_fields) - explicit <= set(kind.__annotations__)


def test_the_examples_are_true() -> None:
    assert doctest.testmod(parameters) == doctest.TestResults(0, 2)


def test_text_of_a_chunk_is_text_also_where_the_delta_has_none() -> None:
    """The first chunk of a tool call has ``content: null``, the last one no content at all."""
    bodies = (PROMPT_CHUNK, chunk({"role": "assistant", "content": None}), chunk({"content": "a"}), chunk({}, "stop"))
    with streaming(lines(*bodies) + DONE) as (client, _):
        stream = client.chat.completions.create(model="m", messages="Hi", stream=True)
        texts = [piece.choices[0].delta.content for piece in stream if piece.choices]
    assert texts == ["", "a", ""]


def test_the_content_of_a_message_is_text_also_where_it_came_as_null_or_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "other"}, {"text": "b"}]
    body = {"choices": [{"message": {"content": None, "tool_calls": None}}, {"message": {"content": parts}}, {}]}
    with replying(body) as (client, _):
        answer = client.chat.completions.create(model="m", messages="Hi")
    assert [choice.message.content for choice in answer.choices] == ["", "ab", ""]
    assert answer.choices[0].message.tool_calls == []


def test_a_streamed_message_that_calls_tools_is_sent_back_without_content() -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    with streaming(lines(chunk({"content": None, "tool_calls": [call]}), chunk({}, "tool_calls")) + DONE) as (
        client,
        _,
    ):
        message = client.chat.completions.create(model="m", messages="Hi", stream=True).final.choices[0].message
    with replying({"choices": [], "output": []}) as (client, server):
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}, message])
        sent = server.exchanges[0].json["messages"][1]
    assert sent == {"role": "assistant", "tool_calls": [call]}
