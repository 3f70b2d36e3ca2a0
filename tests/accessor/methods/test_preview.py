"""The preview shows what would be sent, and sends nothing."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pydantic
import pytest
from serving import Exchange, serving

import skytells_nb as sky
from skytells_nb.client.serialization import dump_json, validate_request
from skytells_nb.errors import InputError
from skytells_nb.local.server import LocalServer
from skytells_nb.types.chat import ChatRequest
from skytells_nb.types.responses import ResponsesRequest

PNG = b"\x89PNG\r\n\x1a\n" + bytes(52)


class Animal(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"system": "Be brief.", "examples": [("q", "a")], "params": {"max_tokens": 9}},
        {"schema": Animal},
        {"row_params": {"temperature": "t"}},
        {"conversation": "talk"},
        {"images": "pic"},
        {"api": "responses", "system": "Be brief.", "images": "pic", "reasoning_effort": "low"},
        {"rows_per_request": 5},
    ],
)
def test_what_is_shown_is_what_is_sent(tmp_path: Any, asked: dict[str, Any]) -> None:
    def answer(exchange: Exchange) -> None:
        content = '{"name": "x", "r1": "x", "r2": "x"}'
        if exchange.path.endswith("/responses"):
            part = {"type": "output_text", "text": content}
            exchange.reply({"status": "completed", "output": [{"type": "message", "content": [part]}]})
        else:
            exchange.reply({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})

    talk = [{"role": "user", "content": "Hi"}]
    frame = pd.DataFrame({"text": ["a", "b"], "t": [0.1, 0.2], "talk": [talk, talk], "pic": [PNG, PNG + b"2"]})
    with serving(answer) as service, sky.connect("sk-x", base_url=service.url, cache=tmp_path / "c.sqlite"):
        preview = frame.skytells.preview("Say {text}", **asked)
        assert service.exchanges == []
        frame.skytells.complete("Say {text}", progress=False, max_in_flight=1, **asked)
        sent = [exchange.json for exchange in service.exchanges if exchange.method == "POST"]
    assert sorted(map(repr, sent)) == sorted(map(repr, (dict_of(request) for request in preview.requests)))


def dict_of(request: dict[str, Any]) -> dict[str, Any]:
    """In the order in which a request is written."""
    kind = ChatRequest if "messages" in request else ResponsesRequest
    found: dict[str, Any] = json.loads(dump_json(validate_request(kind, **request)))
    return found


def test_the_first_different_rows_are_shown(server: LocalServer) -> None:
    frame = pd.DataFrame({"text": [None, *["a"] * 20, "b", "", "c"]})
    preview = frame.skytells.preview("{text}", 2)
    assert [messages[-1]["content"] for messages in preview] == ["a", "b"]
    assert preview.labels == [[1], [21]]
    assert server.stats["chat"].requests == 0


def test_a_row_that_cannot_be_sent_is_named(server: LocalServer) -> None:
    frame = pd.DataFrame({"pic": [PNG, b"x"]}, index=["good", "bad"])
    shown = repr(frame.skytells.preview("What?", images="pic"))
    assert "Row 'good' to deepbrain-router\n  user: What?\n    [image/png, 60 bytes]" in shown
    assert "Row 'bad' cannot be sent: an image must be PNG" in shown


def test_a_column_cannot_speak_to_the_terminal(server: LocalServer) -> None:
    preview = pd.DataFrame({"text": ["\x1b[2Jgone"]}).skytells.preview("{text}")
    assert "\x1b" not in repr(preview)
    assert preview[0][0]["content"] == "\x1b[2Jgone"


def test_long_texts_are_cut_in_what_is_shown_alone(server: LocalServer) -> None:
    preview = pd.DataFrame({"text": ["x" * 9_000]}).skytells.preview("{text}")
    assert "7,000 characters more" in repr(preview)
    assert len(preview[0][0]["content"]) == 9_000


def test_a_frame_with_nothing_to_send_says_so(server: LocalServer) -> None:
    assert repr(pd.DataFrame({"text": [None]}, dtype=object).skytells.preview("{text}")).startswith("Nothing would be")


@pytest.mark.parametrize("n", [0, -1, "all", True, 1.5])
def test_a_number_of_rows_that_is_none_is_refused(server: LocalServer, n: Any) -> None:
    with pytest.raises(InputError, match="n must be a positive integer"):
        pd.DataFrame({"a": ["x"]}).skytells.preview("{a}", n)


def test_an_unknown_keyword_is_refused(server: LocalServer) -> None:
    with pytest.raises(InputError, match=r"'bugdet'.*Did you mean 'budget'"):
        pd.DataFrame({"a": ["x"]}).skytells.preview("{a}", bugdet=1)
