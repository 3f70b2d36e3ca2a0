"""The same messages by both APIs, and answers that ended before they had a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_fakes import EchoGenerator, EchoPiece
from served import connected, served
from serving import Exchange, serving

import skytells_nb as sky
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.conversation import Api, PromptOptions, serialize_messages
from skytells_nb.engine.operations.jobs import MAX_RETRY_TOKENS, completion_job
from skytells_nb.errors import InputError, InvalidResponseError
from skytells_nb.types.chat import ChatCompletion


class ReasoningGenerator(EchoGenerator):
    """Says nothing unless it may use this many tokens."""

    context = 100_000

    def __init__(self, needs: int) -> None:
        super().__init__()
        self.needs = needs
        self.limits: list[int] = []

    def stream(self, messages: list[dict[str, Any]], *, max_tokens: int, **sampling: Any) -> Iterator[EchoPiece]:
        self.limits.append(max_tokens)
        if max_tokens >= self.needs:
            return super().stream(messages, max_tokens=max_tokens, **sampling)
        return iter([EchoPiece("", "length", 3, max_tokens)])


def sent_by(api: Api, **settings: Any) -> dict[str, Any]:
    """The body that one plain prompt has."""
    job = completion_job("gpt-5", options=PromptOptions(api), **settings)
    assert job.body is not None
    return job.body(["Hello"])


def test_responses_use_their_own_parameter_names() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}}}
    params = {"max_tokens": 20, "reasoning_effort": "low", "response_format": schema, "temperature": 0.5}
    assert sent_by("responses", system="Be brief.", params=params) == {
        "model": "gpt-5",
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hello"}],
        "store": False,
        "max_output_tokens": 20,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object"}}},
        "temperature": 0.5,
    }


def test_chat_gets_parameters_as_they_are() -> None:
    assert sent_by("chat", params={"reasoning_effort": "low", "seed": 3}) == {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "Hello"}],
        "reasoning_effort": "low",
        "seed": 3,
    }


def test_parts_calls_and_results_are_items_of_an_input() -> None:
    turns: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://e.org/a.png", "detail": "low"}}],
        },
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "4"},
        {"role": "assistant", "content": [{"type": "text", "text": "four"}]},
        {"role": "user", "content": [{"type": "text", "text": "why?"}]},
    ]
    job = completion_job("gpt-5", options=PromptOptions("responses", conversations=True))
    assert job.body is not None
    assert job.body([serialize_messages(turns)])["input"] == [
        {
            "role": "user",
            "content": [{"type": "input_image", "image_url": "https://e.org/a.png", "detail": "low"}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "four"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "why?"}]},
    ]


@pytest.mark.parametrize("name", ["store", "previous_response_id", "stop", "model", "stream"])
def test_parameters_that_responses_lack_are_rejected(name: str) -> None:
    with pytest.raises(InputError, match=f"params cannot contain '{name}'"):
        completion_job("gpt-5", params={name: "x"}, options=PromptOptions("responses"))


def test_two_limits_of_one_answer_are_rejected() -> None:
    with pytest.raises(InputError, match="params must have one token limit, got max_tokens and max_output_tokens"):
        completion_job("gpt-5", params={"max_tokens": 5, "max_output_tokens": 6}, options=PromptOptions("responses"))


def test_an_unknown_api_is_rejected() -> None:
    with pytest.raises(InputError, match="api must be 'chat' or 'responses', got 'both'"):
        completion_job("gpt-5", options=PromptOptions("both"))  # type: ignore[arg-type]


def test_both_apis_return_the_same_completion(tmp_path: Path) -> None:
    """Text, finish reason, tokens and verdicts."""
    found = []
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        for api in ("chat", "responses"):
            job = completion_job("gpt-5", params={"max_tokens": 2}, options=PromptOptions(api))
            (value,) = session.engine.run(job, ["one two violence:low"]).values
            found.append(CachedCompletion.from_bytes(value or b""))
        assert (server.stats["chat"].requests, server.stats["responses"].requests) == (1, 1)
    chat, responses = found
    assert chat.request_id != responses.request_id
    for one in found:
        assert (one.text, one.finish_reason, one.tokens_in, one.tokens_out) == ("one two ", "length", 3, 2)
        assert one.safety.severity == "low"
    assert {f["category"] for f in chat.findings} == {f["category"] for f in responses.findings}


def test_a_failed_response_is_an_error_of_its_row(tmp_path: Path) -> None:
    def failed(exchange: Exchange) -> None:
        exchange.reply({"id": "r", "status": "failed", "error": {"code": "server_error", "message": "It broke"}})

    with serving(failed) as server, sky.connect("sk-x", base_url=server.url, cache=tmp_path / "c.sqlite") as session:
        report = session.engine.run(completion_job("gpt-5", options=PromptOptions("responses")), ["Hello"]).report
    (problem,) = report.errors.values()
    assert isinstance(problem, InvalidResponseError)
    assert "It broke" in str(problem)


@pytest.mark.parametrize("status", ["queued", "in_progress", "requires_action"])
def test_a_response_that_did_not_begin_is_an_error_of_its_row_and_no_empty_answer(status: str, tmp_path: Path) -> None:
    def waiting(exchange: Exchange) -> None:
        exchange.reply({"id": "r", "status": status, "output": []})

    with serving(waiting) as server, sky.connect("sk-x", base_url=server.url, cache=tmp_path / "c.sqlite") as session:
        report = session.engine.run(completion_job("gpt-5", options=PromptOptions("responses")), ["Hello"]).report
    assert status in str(report.errors[0])


@pytest.mark.parametrize(
    ("told", "kept"),
    [("MAX_TOKENS", "length"), ("end_turn", "stop"), ("model_length", "length"), ("new", "new")],
)
def test_the_end_of_an_answer_is_kept_in_the_documented_words(told: str, kept: str) -> None:
    body = {"choices": [{"message": {"content": "ha"}, "finish_reason": told}]}
    assert CachedCompletion.from_response(ChatCompletion.model_validate(body)).finish_reason == kept


@pytest.mark.parametrize("reason", ["STOP", "eos_token", "something", None])
def test_an_empty_answer_is_silent_whatever_its_end_is_called(reason: str | None) -> None:
    body = {"choices": [{"message": {"content": " "}, "finish_reason": reason}]}
    assert CachedCompletion.from_response(ChatCompletion.model_validate(body)).is_silent


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_answer_without_a_word_is_asked_for_with_twice_the_room(api: Api, tmp_path: Path) -> None:
    """Both answers are paid for and counted, the second is stored, and nothing is retried."""
    generator = ReasoningGenerator(needs=50)
    job = completion_job("gpt-5", params={"max_tokens": 40}, options=PromptOptions(api))
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite") as session:
        outcome = session.engine.run(job, ["one two three"])
        again = session.engine.run(job, ["one two three"])
    kept = CachedCompletion.from_bytes(outcome.values[0] or b"")
    assert (kept.text, kept.finish_reason) == ("one two three", "stop")
    assert generator.limits == [40, 80]
    assert (outcome.report.requests, outcome.report.tokens_out) == (2, 43)
    assert (kept.tokens_in, kept.tokens_out) == (outcome.report.tokens_in, 43)
    assert (again.report.requests, again.report.cached) == (0, 1)


def test_an_answer_that_stays_empty_is_stored_as_such(tmp_path: Path) -> None:
    generator = ReasoningGenerator(needs=1000)
    job = completion_job("gpt-5", params={"max_tokens": 40})
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite") as session:
        values = session.engine.run(job, ["one"]).values + session.engine.run(job, ["one"]).values
    assert [CachedCompletion.from_bytes(value or b"").is_empty_reasoning for value in values] == [True, True]
    assert CachedCompletion.from_bytes(values[0] or b"").tokens_out == 120
    assert generator.limits == [40, 80]


def test_room_has_an_end(tmp_path: Path) -> None:
    """A limit that is as high as it may be is not passed."""
    generator = ReasoningGenerator(needs=10**6)
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite") as session:
        job = completion_job("gpt-5", params={"max_tokens": MAX_RETRY_TOKENS - 1})
        session.engine.run(job, ["one"])
        session.engine.run(completion_job("gpt-5", params={"max_tokens": MAX_RETRY_TOKENS}), ["one"])
    assert generator.limits == [MAX_RETRY_TOKENS - 1, MAX_RETRY_TOKENS, MAX_RETRY_TOKENS]


def test_the_budget_foresees_the_wider_answer(tmp_path: Path) -> None:
    """What may be spent is told before the second request, so that a budget holds."""
    job = completion_job("gpt-5", params={"max_tokens": 40})
    before = job.operation.max_output_tokens()
    with served(generator=ReasoningGenerator(needs=50)) as server, connected(server, tmp_path / "c.sqlite") as session:
        session.engine.run(job, ["one"])
    assert (before, job.operation.max_output_tokens()) == (40, 80)
