"""complete(schema=...) where the service takes JSON schemas, only "some JSON object", or neither."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pydantic
import pytest
from serving import KEY, Exchange, serving

import skytells_nb as sky
from skytells_nb.engine.operations.response_format import (
    RESPONSE_FORMATS,
    apply_format,
    rejects_response_format,
)
from skytells_nb.engine.service.profile import ServiceProfile, forget_profiles
from skytells_nb.errors import BadRequestError, ContentPolicyError, ContextLengthError, ServerError, SkytellsError


class Animal(pydantic.BaseModel):
    name: str


class Plant(pydantic.BaseModel):
    name: str
    tall: bool


WORDS = [f"word{n}" for n in range(8)]
FRAME = pd.DataFrame({"t": WORDS})


class Service:
    """Takes some forms, refuses the others with its words, and answers each prompt with its last word as the name."""

    def __init__(self, takes: tuple[str, ...], refusal: str = "response_format {} is not supported") -> None:
        self.takes = takes
        self.refusal = refusal
        self.lock = threading.Lock()
        self.refused: list[str] = []
        self.answered: list[dict[str, Any]] = []

    def __call__(self, exchange: Exchange) -> None:
        body = exchange.json
        form = (body.get("response_format") or body.get("text", {}).get("format") or {}).get("type", "words")
        with self.lock:
            (self.answered.append(body) if form in self.takes else self.refused.append(form))
        if form not in self.takes:
            return exchange.reply({"error": {"message": self.refusal.format(form), "type": "invalid"}}, status=400)
        if "input" in body:
            said = self._said(body["input"][-1]["content"])
            output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": said}]}]
            return exchange.reply({"status": "completed", "output": output, "usage": {"input_tokens": 9}})
        choice = {"message": {"content": self._said(body["messages"][-1]["content"])}, "finish_reason": "stop"}
        return exchange.reply({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 4}})

    def _said(self, prompt: str) -> str:
        def answer(words: str) -> dict[str, Any]:
            return {"name": words.split()[-1], "tall": True}

        if prompt.startswith("["):
            return json.dumps({row["id"]: answer(row["message"]) for row in json.loads(prompt)})
        return json.dumps(answer(prompt))


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Callable[..., pd.DataFrame]]:
    """Complete the frame at a service that runs for the length of a test, on a port that another may have had."""
    forget_profiles()
    running: dict[int, Any] = {}

    def complete(service: Service, frame: pd.DataFrame = FRAME, **settings: Any) -> pd.DataFrame:
        if id(service) not in running:
            manager = serving(service)
            running[id(service)] = manager, manager.__enter__()
        sky.connect(KEY, base_url=running[id(service)][1].url, cache=tmp_path / f"{id(service)}.sqlite")
        given: dict[str, Any] = {"schema": Animal, "flatten": True, "progress": False, **settings}
        return frame.skytells.complete("{t}", **given)

    yield complete
    for manager, _ in running.values():
        manager.__exit__(None, None, None)


@pytest.mark.parametrize(
    ("takes", "refused"),
    [
        (("json_schema",), []),
        (("json_object", "words"), ["json_schema"]),
        (("words",), ["json_schema", "json_object"]),
    ],
)
def test_every_row_is_answered_and_paid_once_whatever_the_service_takes(
    ask: Callable[..., pd.DataFrame], takes: tuple[str, ...], refused: list[str]
) -> None:
    service = Service(takes)
    out = ask(service)
    assert out["name"].tolist() == WORDS
    assert len(service.answered) == len(WORDS)
    assert service.refused == refused
    assert out.skytells.report.requests == len(service.answered) + len(service.refused)


def test_what_a_service_refuses_is_remembered_for_other_schemas_too(ask: Callable[..., pd.DataFrame]) -> None:
    service = Service(("words",))
    ask(service)
    ask(service, schema=Plant)
    assert len(service.answered) == 2 * len(WORDS)
    assert service.refused == ["json_schema", "json_object"]


def test_a_schema_that_is_refused_for_itself_does_not_weaken_the_others(ask: Callable[..., pd.DataFrame]) -> None:
    class Picky(Service):
        def __call__(self, exchange: Exchange) -> None:
            body = exchange.json
            self.takes = ("json_object",) if "tall" in json.dumps(body.get("response_format")) else RESPONSE_FORMATS
            super().__call__(exchange)

    service = Picky((), "Invalid schema for response_format: 'tall' is not permitted")
    ask(service, schema=Plant)
    ask(service, schema=Animal)
    assert service.refused == ["json_schema"]
    formats = [body["response_format"]["type"] for body in service.answered]
    assert formats == ["json_object"] * len(WORDS) + ["json_schema"] * len(WORDS)


def test_without_schemas_the_system_text_says_the_schema_after_its_own_words(ask: Callable[..., pd.DataFrame]) -> None:
    service = Service(("json_object",))
    ask(service, system="Be brief.")
    system = service.answered[0]["messages"][0]
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.\n\nAnswer with one JSON object")
    assert '"required":["name"]' in system["content"]


def test_an_answer_is_found_again_whatever_form_it_was_asked_in(ask: Callable[..., pd.DataFrame]) -> None:
    service = Service(("words",))
    first = ask(service)
    service.takes = RESPONSE_FORMATS
    second = ask(service)
    pd.testing.assert_frame_equal(first, second)
    assert len(service.answered) == len(WORDS)


def test_rows_that_share_a_request_stay_together_in_every_form(ask: Callable[..., pd.DataFrame]) -> None:
    service = Service(("words",))
    out = ask(service, rows_per_request=4)
    assert out["name"].tolist() == WORDS
    assert len(service.answered) == 2
    assert service.refused == ["json_schema", "json_object"]
    assert "r4" in service.answered[0]["messages"][0]["content"]


def test_an_answer_in_a_weaker_form_is_repaired_in_that_form(ask: Callable[..., pd.DataFrame]) -> None:
    class Careless(Service):
        def _said(self, prompt: str) -> str:
            return '{"name": "again"}' if prompt.startswith("That answer") else "Sorry?"

    service = Careless(("json_object",))
    out = ask(service)
    assert out["name"].tolist() == ["again"] * len(WORDS)
    assert {body["response_format"]["type"] for body in service.answered} == {"json_object"}
    assert service.refused == ["json_schema"]


def test_a_refusal_for_another_reason_is_an_error_of_its_row(ask: Callable[..., pd.DataFrame]) -> None:
    service = Service((), "max_tokens is too large")
    out = ask(service, FRAME[:2], on_error="null")
    assert out["name"].isna().all()
    assert service.refused == ["json_schema"] * 2


def test_a_400_for_another_reason_keeps_the_schema_on(ask: Callable[..., pd.DataFrame]) -> None:
    """Whatever words the refusal uses: the parameter it names decides."""

    class Strict(Service):
        """Refuses one prompt because of its length, and takes every form."""

        def __call__(self, exchange: Exchange) -> None:
            if exchange.json["messages"][-1]["content"] != WORDS[0]:
                return super().__call__(exchange)
            self.refused.append(exchange.json["response_format"]["type"])
            message = "max_tokens is too small for a response_format of type json_schema"
            return exchange.reply({"error": {"message": message, "param": "max_tokens"}}, 400)

    service = Strict(RESPONSE_FORMATS)
    out = ask(service, on_error="null", max_in_flight=1)
    assert out["name"].fillna("").tolist() == ["", *WORDS[1:]]
    assert service.refused == ["json_schema"]
    assert [body["response_format"]["type"] for body in service.answered] == ["json_schema"] * (len(WORDS) - 1)


CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
}
RESPONSES = {
    "model": "m",
    "input": [{"role": "user", "content": "Hi"}],
    "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
}
SAYS = 'Answer with one JSON object and nothing else. It fits this JSON schema: {"type":"object"}'


def test_both_apis_have_every_form() -> None:
    plain = {"type": "json_object"}
    said = [{"role": "system", "content": SAYS}, *CHAT["messages"]]  # type: ignore[misc]
    assert apply_format("json_schema", CHAT) == CHAT
    assert apply_format("json_object", CHAT) == {"model": "m", "messages": said, "response_format": plain}
    assert apply_format("words", CHAT) == {"model": "m", "messages": said}
    asked = {"model": "m", "input": RESPONSES["input"], "instructions": SAYS}
    assert apply_format("json_schema", RESPONSES) == RESPONSES
    assert apply_format("json_object", RESPONSES) == {**asked, "text": {"verbosity": "low", "format": plain}}
    assert apply_format("words", RESPONSES) == {**asked, "text": {"verbosity": "low"}}


def refused(message: str, param: str | None = None, kind: type[BadRequestError] = BadRequestError) -> BadRequestError:
    return kind(message, status=400, param=param)


@pytest.mark.parametrize(
    ("problem", "is_form"),
    [
        (refused("Only text is supported.", "response_format"), True),
        (refused("Only text is supported.", "response_format.type"), True),
        (refused("Not known.", "text.format"), True),
        (refused("'response_format' of type 'json_schema' is not supported with this model."), True),
        (
            refused("Say 'json' in 'messages' to use response_format of type json_object.", "messages"),
            True,
        ),
        (refused("The value is too large.", "max_tokens"), False),
        (refused("The schema of a tool is wrong, see json_schema.", "tools[0]"), False),
        (refused("Too long."), False),
        (refused("response_format", kind=ContentPolicyError), False),
        (refused("response_format", kind=ContextLengthError), False),
        (ServerError("response_format", status=500), False),
        (ServerError("Failed to write a structured output.", status=500), False),
        (ServerError("The backend of guided decoding is not installed.", status=500), True),
        (ServerError("JSON mode is not supported.", status=503), False),
        (BadRequestError("JSON mode is not implemented.", status=501), True),
        (refused("No grammar for this engine."), True),
    ],
)
def test_what_counts_as_a_refused_form(problem: Any, is_form: bool) -> None:
    assert rejects_response_format(problem) is is_form


def downgrade(problem: SkytellsError, levels: Mapping[str, int]) -> tuple[str, int] | None:
    return ("format", levels["format"] + 1) if rejects_response_format(problem) else None


def test_threads_that_begin_together_find_out_once() -> None:
    profile, start, tried, lock = ServiceProfile(), threading.Barrier(8), [], threading.Lock()

    def send(levels: Mapping[str, int]) -> int:
        with lock:
            tried.append(levels["format"])
        if not levels["format"]:
            raise refused("json_schema is not supported", "response_format")
        return levels["format"]

    def work() -> None:
        start.wait(20)
        assert profile.send(["format"], send, downgrade) == 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(tried) == [0] + [1] * 8


def test_a_first_try_that_fails_otherwise_leaves_the_next_one_to_find_out() -> None:
    profile = ServiceProfile()

    def fail(levels: Mapping[str, int]) -> int:
        raise ServerError("down", status=500)

    with pytest.raises(ServerError):
        profile.send(["format"], fail, downgrade)
    assert profile.get_fact("format") is None
    assert profile.send(["format"], lambda levels: levels["format"], downgrade) == 0
