"""The client against the local Skytells: both speak the same wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from local_fakes import HashEmbedder, fake_server

from skytells_nb import errors
from skytells_nb.client.client import Skytells
from skytells_nb.client.streaming import Stream
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.local.errors import ERROR_CATALOG
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer

PLAIN = "one two three"


@pytest.fixture(scope="module")
def served() -> Iterator[LocalServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def client(served: LocalServer) -> Iterator[Skytells]:
    with Skytells(served.api_key, base_url=served.base_url) as client:
        yield client


def spoilt(faults: str) -> LocalServer:
    """A server that does this wrong with every request."""
    return fake_server(faults=Faults.parse(faults))


_opened: list[Skytells] = []


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def client_of(server: LocalServer) -> Skytells:
    """A client that loses patience soon; closed after the test."""
    client = Skytells(server.api_key, base_url=server.base_url, timeout=Timeouts(read=20, idle=2))
    _opened.append(client)
    return client


def test_a_chat(client: Skytells) -> None:
    answer = client.chat.completions.create(model="gpt-5", messages=PLAIN)
    assert str(answer) == PLAIN
    assert answer.finish_reason == "stop"
    assert answer.tokens == (3, 3)
    assert answer.request_id
    assert answer.safety.checked
    assert not answer.safety.filtered


def test_a_chat_as_a_stream(client: Skytells) -> None:
    stream = client.chat.completions.create(
        model="gpt-5", messages=PLAIN, stream=True, stream_options={"include_usage": True}
    )
    assert "".join(stream.text) == PLAIN
    assert stream.final.tokens == (3, 3)
    assert stream.final.finish_reason == "stop"
    assert stream.final.safety.checked


def test_a_response(client: Skytells) -> None:
    answer = client.responses.create(model="gpt-5", input=PLAIN)
    assert (answer.output_text, answer.finish_reason, answer.tokens) == (PLAIN, "stop", (3, 3))
    assert answer.safety.checked


def test_a_response_as_a_stream(client: Skytells) -> None:
    stream = client.responses.create(model="gpt-5", input=PLAIN, stream=True)
    assert "".join(stream.text) == PLAIN
    assert stream.final.output_text == PLAIN
    assert stream.final.safety.checked


@pytest.mark.parametrize("form", ["base64", "float"])
def test_embeddings(client: Skytells, form: Any) -> None:
    texts = ["one", "two", "one"]
    answer = client.embeddings.create(model="skytells-embed-3-small", input=texts, encoding_format=form)
    np.testing.assert_allclose(answer.matrix, HashEmbedder().encode(texts), atol=1e-6)


def test_the_catalog_and_its_models(client: Skytells) -> None:
    names = [m.namespace for m in client.models.list() if m.openai_compatible]
    assert names
    assert client.models.retrieve(names[0]).namespace == names[0]
    with pytest.raises(errors.ModelNotFoundError):
        client.models.retrieve("unknown-model")


@pytest.mark.parametrize("error_id", sorted(ERROR_CATALOG))
def test_every_error_of_the_catalog_has_the_class_its_id_says(error_id: str, served: LocalServer) -> None:
    expected = errors.api_error(ERROR_CATALOG[error_id].status, {"error": {"error_id": error_id}})
    with spoilt(f"status={error_id}") as server:
        client = client_of(server)
        for call in (
            lambda: client.chat.completions.create(model="gpt-5", messages=PLAIN),
            lambda: client.chat.completions.create(model="gpt-5", messages=PLAIN, stream=True),
            lambda: client.responses.create(model="gpt-5", input=PLAIN, stream=True),
            lambda: client.embeddings.create(model="skytells-embed-3-small", input="x"),
        ):
            with pytest.raises(errors.APIError) as caught:
                call()
            assert type(caught.value) is type(expected)
            assert (caught.value.status, caught.value.error_id) == (expected.status, error_id)
            assert caught.value.request_id
            assert (caught.value.retry_after is not None) == ERROR_CATALOG[error_id].retry_after


def test_an_unknown_key_is_an_authentication_error(served: LocalServer) -> None:
    with Skytells("sk-unknown", base_url=served.base_url) as client:
        for call in (client.models.list, lambda: client.chat.completions.create(model="gpt-5", messages="x")):
            with pytest.raises(errors.AuthenticationError):
                call()


def test_an_unknown_model_is_a_model_not_found(client: Skytells) -> None:
    with pytest.raises(errors.ModelNotFoundError, match="unknown-model"):
        client.chat.completions.create(model="unknown-model", messages="x")


@pytest.mark.parametrize("faults", ["block_prompt", "block_prompt, block_status=400"])
def test_a_blocked_prompt_is_a_content_policy_error(faults: str) -> None:
    with spoilt(faults) as server:
        for stream in (False, True):
            with pytest.raises(errors.ContentPolicyError):
                client_of(server).chat.completions.create(model="gpt-5", messages=PLAIN, stream=stream)


@pytest.mark.parametrize("filtering", ["default", "async"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_filtered_completion_says_so(filtering: str, stream: bool) -> None:
    with spoilt(f"filter_completion={filtering}") as server:
        given = client_of(server).chat.completions.create(model="gpt-5", messages=PLAIN, stream=stream)
        answer = given.final if isinstance(given, Stream) else given
        assert answer.safety.filtered


def test_a_filter_that_is_down_is_not_a_pass() -> None:
    with spoilt("filter_down") as server:
        client = client_of(server)
        assert not client.chat.completions.create(model="gpt-5", messages=PLAIN).safety.checked
        assert not client.chat.completions.create(model="gpt-5", messages=PLAIN, stream=True).final.safety.checked


@pytest.mark.parametrize("faults", ["no_space", "crlf", "keepalive", "split_utf8", "list_content", "no_prompt_chunk"])
def test_the_quirks_of_a_stream_do_not_show(faults: str) -> None:
    with spoilt(faults) as server:
        stream = client_of(server).chat.completions.create(model="gpt-5", messages="Größe 🙂 zählt", stream=True)
        assert stream.final.text == "Größe 🙂 zählt"


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        ("stream_cut_after=3", errors.TruncatedStreamError),
        ("no_done", errors.TruncatedStreamError),
        ("malformed_chunk=3", errors.StreamError),
        ("stream_error=3", errors.StreamError),
        ("stream_stall_after=3", errors.RequestTimeoutError),
    ],
)
def test_a_stream_that_goes_wrong_keeps_its_text(faults: str, kind: Any) -> None:
    with spoilt(faults) as server:
        stream = client_of(server).chat.completions.create(model="gpt-5", messages=PLAIN, stream=True)
        with pytest.raises(kind) as caught:
            list(stream)
        assert caught.value.partial == stream.partial().text != ""


@pytest.mark.parametrize("cut", ["before", "headers", "body"])
def test_a_connection_that_breaks_is_lost(cut: str) -> None:
    with spoilt(f"cut={cut}") as server, pytest.raises(errors.ConnectionLostError):
        client_of(server).chat.completions.create(model="gpt-5", messages=PLAIN)


@pytest.mark.parametrize("faults", ["wrong_count", "nan", "bad_index", "bad_base64"])
def test_vectors_that_cannot_be_right_are_not_given(faults: str) -> None:
    with spoilt(faults) as server, pytest.raises(errors.InvalidResponseError):
        _ = client_of(server).embeddings.create(model="skytells-embed-3-small", input=["a", "b", "c"]).matrix


def test_a_service_without_base64_is_asked_for_numbers() -> None:
    with spoilt("float_only") as server:
        answer = client_of(server).embeddings.create(model="skytells-embed-3-small", input=["a", "b"])
        assert answer.matrix.shape == (2, HashEmbedder.dimensions)


def test_a_redirect_is_not_followed() -> None:
    with spoilt("redirect=elsewhere") as server, pytest.raises(errors.APIError, match="not followed"):
        client_of(server).chat.completions.create(model="gpt-5", messages=PLAIN)


def test_a_proxys_page_is_a_server_error() -> None:
    with spoilt("html_error") as server, pytest.raises(errors.ServerError) as caught:
        client_of(server).chat.completions.create(model="gpt-5", messages=PLAIN)
    assert "<" not in caught.value.message


def test_a_prompt_that_does_not_fit_is_a_context_length_error(client: Skytells) -> None:
    with pytest.raises(errors.ContextLengthError):
        client.chat.completions.create(model="gpt-5", messages="word " * 500)
