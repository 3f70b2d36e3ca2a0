"""The key shows nowhere: not in texts, logs, errors, nor in tracebacks that print every variable."""

from __future__ import annotations

import http.client
import logging
import pickle
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

import httpx
import pytest
from serving import KEY, Exchange, holding, serving
from test_abort import POSIX, interrupted

from skytells_nb.client.client import Skytells
from skytells_nb.client.streaming import Stream
from skytells_nb.client.transport.auth import APIKey
from skytells_nb.client.transport.request_options import Timeouts
from skytells_nb.errors import SkytellsError

BAD_KEY = f"{KEY} with a space"


def client_of(url: str, **more: Any) -> Skytells:
    return Skytells(KEY, base_url=url, timeout=Timeouts(connect=2, read=0.8, idle=0.8, write=2), **more)


def ask(client: Skytells) -> object:
    return client.chat.completions.create(model="gpt-5", messages="Hello")


def ask_for_a_stream(client: Skytells) -> object:
    return client.chat.completions.create(model="gpt-5", messages="Hello", stream=True).final


def seen(error: BaseException) -> str:
    """All that can be read off an error: text, arguments, attributes, every frame's variables, its whole chain."""
    texts = [str(error), repr(error), repr(error.args), repr(vars(error))]
    texts += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    texts += [repr(variables) for variables in below(error.__traceback__)]
    for cause in (error.__cause__, error.__context__):
        if cause is not None:
            texts.append(seen(cause))
    return "\n".join(texts)


def below(frames: TracebackType | None) -> list[dict[str, object]]:
    found = []
    while frames is not None:
        if __file__ != frames.tb_frame.f_code.co_filename:
            found.append(dict(frames.tb_frame.f_locals))
        frames = frames.tb_next
    return found


def verbose(error: BaseException) -> str:
    """What IPython prints with ``%xmode Verbose``."""
    from IPython.core.ultratb import VerboseTB

    return VerboseTB().text(type(error), error, error.__traceback__)


def echo(exchange: Exchange) -> None:
    """What a proxy's error page may do."""
    exchange.reply("".join(f"{k}: {v}\n" for k, v in exchange.headers.items()), 502)


def echo_as_json(exchange: Exchange) -> None:
    exchange.reply({"error": {"message": f"No such key: {exchange.headers['x-api-key']}", "status": 401}}, 401)


def echo_with_status_200(exchange: Exchange) -> None:
    exchange.reply(exchange.headers["x-api-key"])


def error_with_status_200(exchange: Exchange) -> None:
    exchange.reply({"status": False, "error": {"message": f"No such key: {exchange.headers['x-api-key']}"}})


def no_answer_with_status_200(exchange: Exchange) -> None:
    exchange.reply({"seen": exchange.headers["x-api-key"]})


def odd_answer(exchange: Exchange) -> None:
    exchange.reply({"choices": [[exchange.headers["x-api-key"]]]})


def request_id_with_the_key(exchange: Exchange) -> None:
    exchange.reply({}, 500, x_request_id=exchange.headers["x-api-key"])


def status_line_with_the_key(exchange: Exchange) -> None:
    exchange.send(f"JUNK {exchange.headers['x-api-key']}\r\n\r\n".encode())


def stream_with_an_error(exchange: Exchange) -> None:
    exchange.begin()
    exchange.event({"error": {"message": exchange.headers["x-api-key"], "code": exchange.headers["x-api-key"]}})


def stream_with_text(exchange: Exchange) -> None:
    exchange.begin()
    exchange.event(exchange.headers["x-api-key"])


def content_type_with_the_key(exchange: Exchange) -> None:
    exchange.reply("page", content_type=exchange.headers["x-api-key"])


def redirect_with_the_key(exchange: Exchange) -> None:
    exchange.reply(b"", 302, location=f"https://{exchange.headers['x-api-key']}@own.example/")


def broken_stream(exchange: Exchange) -> None:
    exchange.begin()
    exchange.event("not json")


def cut(exchange: Exchange) -> None:
    exchange.cut()


def silent(exchange: Exchange) -> None:
    exchange.client_left()


FAILURES = [
    *(echo, echo_as_json, echo_with_status_200, redirect_with_the_key, broken_stream, cut, silent),
    *(error_with_status_200, no_answer_with_status_200, odd_answer, request_id_with_the_key),
    *(status_line_with_the_key, stream_with_an_error, stream_with_text),
]


@pytest.mark.parametrize("script", FAILURES)
@pytest.mark.parametrize("call", [ask, ask_for_a_stream])
def test_no_failing_call_shows_the_key(script: Callable[[Exchange], None], call: Callable[[Skytells], object]) -> None:
    with serving(script) as server:
        client = client_of(server.url)
        with pytest.raises(SkytellsError) as caught:
            call(client)
        assert KEY not in seen(caught.value)
        assert KEY not in verbose(caught.value)
        assert KEY.encode() not in pickle.dumps(caught.value)
        assert server.exchanges[0].headers["x-api-key"] == KEY


def test_a_content_type_that_is_quoted_does_not_show_the_key() -> None:
    with serving(content_type_with_the_key) as server, pytest.raises(SkytellsError, match=r"\[API key\]") as caught:
        ask_for_a_stream(client_of(server.url))
    assert KEY not in str(caught.value)
    assert KEY.encode() not in pickle.dumps(caught.value)


@pytest.mark.parametrize("script", FAILURES)
def test_a_failing_call_brings_no_frames_of_the_library_below(script: Callable[[Exchange], None]) -> None:
    with serving(script) as server:
        client = client_of(server.url)
        with pytest.raises(SkytellsError) as caught:
            ask(client)
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [name for name in files if "httpx" in name or "httpcore" in name]
    assert caught.value.__context__ is None


@POSIX
@pytest.mark.parametrize("call", [ask, ask_for_a_stream])
def test_ctrl_c_does_not_show_the_key(call: Callable[[Skytells], object]) -> None:
    with holding() as server:
        client = Skytells(KEY, base_url=server.url)
        with interrupted(server), pytest.raises(KeyboardInterrupt) as caught:
            call(client)
        assert KEY not in seen(caught.value)
        assert KEY not in verbose(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Skytells(BAD_KEY, base_url="https://own.example/v1"),
        lambda: Skytells(KEY, base_url="http://own.example/v1"),
        lambda: Skytells(KEY, base_url="local"),
    ],
)
def test_no_failing_constructor_shows_the_key(make: Callable[[], object]) -> None:
    with pytest.raises(SkytellsError) as caught:
        make()
    assert KEY not in str(caught.value)
    assert caught.value.__context__ is None
    for variables in below(caught.value.__traceback__):
        # A half-made object has no repr yet.
        assert KEY not in repr({name: value for name, value in variables.items() if name != "self"})


def test_no_log_holds_the_key(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("httpx", "httpcore", "skytells_nb"):
        caplog.set_level(logging.DEBUG, name)
    with serving(lambda e: e.reply({"id": "x", "choices": []})) as server:
        ask(client_of(server.url))
        with pytest.raises(SkytellsError):
            ask_for_a_stream(client_of(server.url))
        ask(client_of(server.url, transport=httpx.HTTPTransport()))
    assert "httpcore" in {record.name.partition(".")[0] for record in caplog.records}
    assert KEY not in caplog.text


def test_what_the_standard_library_prints_for_debugging_does_not_hold_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its switch is one for the whole process, and prints every line that is sent."""
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    with serving(lambda e: e.reply({"id": "x", "choices": []})) as server:
        ask(client_of(server.url))
        assert server.exchanges[0].headers["x-api-key"] == KEY
    assert KEY not in "".join(capsys.readouterr())


def test_no_repr_holds_the_key() -> None:
    def answer(exchange: Exchange) -> None:
        exchange.begin()
        exchange.send(b"data: [DONE]\n\n")

    with serving(answer) as server:
        client = client_of(server.url)
        stream = client.chat.completions.create(model="gpt-5", messages="Hello", stream=True)
        assert isinstance(stream, Stream)
        parts = [client, client.chat, client.models, client._transport, stream, vars(client), vars(client._transport)]
        parts += [vars(stream), vars(stream._source), client._transport._direct]
        for part in parts:
            assert KEY not in repr(part)
        assert repr(client) == f"Skytells(base_url='{server.url}')"


def test_a_key_given_as_a_key_is_the_same_key() -> None:
    with serving(lambda e: e.reply({"id": "x", "choices": []})) as server:
        ask(Skytells(APIKey(KEY), base_url=server.url))
        assert server.exchanges[0].headers["x-api-key"] == KEY
