"""A refusal is a missing row whose error quotes it, asked once; an empty answer is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serving import Exchange, ScriptedServer, serving

import skytells_nb as sky
from skytells_nb.errors import PaymentRequiredError, RefusalError, RowError, SkytellsWarning

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
PROMPT = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False, "severity": "low"}}}]


def chat(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return {"id": "c", "object": "chat.completion", "model": "gpt-5", "choices": [choice], "usage": USAGE, **more}


def responses(*parts: dict[str, Any]) -> dict[str, Any]:
    usage = {"input_tokens": 3, "output_tokens": 2}
    return {"status": "completed", "output": [{"type": "message", "content": list(parts)}], "usage": usage}


REFUSED = chat({"content": None, "refusal": "I cannot help."}, prompt_filter_results=PROMPT)
REFUSALS = {
    "member": (REFUSED, "chat"),
    "parts": (chat({"content": [{"type": "refusal", "refusal": "I cannot help."}]}), "chat"),
    "at the limit": (chat({"content": "", "refusal": "I cannot help."}, "length"), "chat"),
    "responses": (responses({"type": "refusal", "refusal": "I cannot help."}), "responses"),
}


@contextmanager
def answering(answer: Callable[[Exchange], Any], cache: Any = "memory") -> Iterator[ScriptedServer]:
    with (
        serving(lambda exchange: exchange.reply(answer(exchange))) as server,
        sky.connect("sk-test-0123456789", base_url=server.url, cache=cache),
    ):
        yield server


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_is_a_missing_row_whose_error_quotes_it(name: str) -> None:
    body, api = REFUSALS[name]
    frame = pd.DataFrame({"t": ["a"]})
    with answering(lambda _: body) as server:
        with pytest.warns(SkytellsWarning, match=r"The model refused to answer: I cannot help\."):
            result = frame.skytells.complete("{t}", into="c", api=api, model="gpt-5", progress=False, details=True)
        assert len(server.exchanges) == 1
    row = result.iloc[0]
    assert pd.isna(row["c"])
    assert row["c_error"] == "RefusalError: The model refused to answer: I cannot help."
    assert (row["c_tokens_in"], row["c_tokens_out"]) == (3, 2)
    report = result.skytells.report
    assert (report.failed, report.answered, report.tokens_in, report.tokens_out, report.retries) == (1, 0, 3, 2, 0)
    (error,) = report.errors.values()
    assert isinstance(error, RefusalError)
    assert error.refusal == "I cannot help."


def test_a_refusal_is_asked_once_also_in_a_later_call_and_process(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["a", "a", "b"]})
    with answering(lambda _: REFUSED, tmp_path / "c.sqlite") as server:
        frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, on_error="null")
        assert len(server.exchanges) == 2
        again = frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, on_error="null", details=True)
        assert len(server.exchanges) == 2
    assert again["c_error"].tolist() == ["RefusalError: The model refused to answer: I cannot help."] * 3
    assert again["c_severity"].tolist() == ["low"] * 3
    assert again["c_tokens_in"].tolist() == [3] * 3


def test_refused_rows_can_be_asked_again() -> None:
    said: list[dict[str, Any]] = [REFUSED, chat({"content": "hello"})]
    frame = pd.DataFrame({"t": ["a"]})
    with answering(lambda _: said.pop(0)):
        first = frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, on_error="null")
        again = frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, retry="failed")
    assert pd.isna(first["c"].iloc[0])
    assert again["c"].tolist() == ["hello"]


def test_a_refusal_is_not_repaired() -> None:
    """An answer that does not match its schema is asked about again; a refusal is not."""
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    frame = pd.DataFrame({"t": ["a"]})
    with answering(lambda _: REFUSED) as server:
        result = frame.skytells.complete("{t}", into="c", schema=schema, model="gpt-5", progress=False, on_error="null")
        assert len(server.exchanges) == 1
    assert result["c"].tolist() == [None]
    assert "I cannot help." in str(result.skytells.report.errors[0])


def test_a_refused_row_does_not_end_the_others() -> None:
    def answer(exchange: Exchange) -> Any:
        return REFUSED if "bad" in exchange.json["messages"][-1]["content"] else chat({"content": "hello"})

    frame = pd.DataFrame({"t": [f"bad {n}" for n in range(20)] + ["good"]})
    with answering(answer):
        result = frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, on_error="null")
    assert result["c"].notna().tolist() == [False] * 20 + [True]


def test_a_refusal_raises_where_errors_do() -> None:
    frame = pd.DataFrame({"t": ["a"]})
    with answering(lambda _: REFUSED), pytest.raises(RowError, match="refused to answer"):
        frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, on_error="raise")


def test_several_rows_in_a_refused_request_are_asked_alone() -> None:
    def answer(exchange: Exchange) -> Any:
        together = "response_format" in exchange.json
        return REFUSED if together else chat({"content": "hello"})

    frame = pd.DataFrame({"t": ["a", "b"]})
    with answering(answer):
        result = frame.skytells.complete("{t}", into="c", model="gpt-5", progress=False, rows_per_request=2)
    assert result["c"].tolist() == ["hello", "hello"]


def test_a_moderated_text_has_its_result_whatever_the_model_says() -> None:
    frame = pd.DataFrame({"t": ["a"]})
    with answering(lambda _: REFUSED):
        result = frame.skytells.moderate("t", progress=False)
    assert result["moderation_severity"].tolist() == ["low"]


@pytest.mark.parametrize(
    ("said", "warned"),
    [
        (chat({"content": ""}), True),
        (chat({"content": " \n"}), True),
        (chat({"content": None}, None), True),
        (chat({"content": "hello"}), False),
        (chat({"content": "", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}), False),
    ],
)
def test_an_empty_answer_that_ended_as_answers_do_is_told(
    said: dict[str, Any], warned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    with answering(lambda _: said):
        pd.DataFrame({"t": ["a"]}).skytells.complete("{t}", into="c", model="gpt-5", progress=False)
    told = [str(warning.message) for warning in recwarn if warning.category is SkytellsWarning]
    assert [message for message in told if "1 of 1 completions are empty" in message] == told
    assert bool(told) is warned


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}, 429),
        ({"error": {"message": "No more.", "type": "insufficient_quota"}}, 200),
        ({"detail": "Your credit balance is too low."}, 400),
        ({"status": "failed", "error": {"code": "insufficient_quota", "message": "No credit."}}, 200),
    ],
)
def test_no_credit_ends_the_run_at_once_with_the_accounts_words(body: dict[str, Any], status: int) -> None:
    api = "responses" if "status" in body else "chat"
    frame = pd.DataFrame({"t": [str(n) for n in range(50)]})
    with (
        serving(lambda exchange: exchange.reply(body, status)) as server,
        sky.connect("sk-test-0123456789", base_url=server.url, cache="memory"),
    ):
        with pytest.raises(PaymentRequiredError, match=r"quota|No more|balance|credit"):
            frame.skytells.complete("{t}", api=api, model="gpt-5", progress=False, max_in_flight=1)
        assert len(server.exchanges) == 1
        assert json.loads(server.exchanges[0].body)["model"] == "gpt-5"
