"""Inputs that are conversations: one text for equal ones, and nothing sent but what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_fakes import EchoGenerator
from served import connected, served

from skytells_nb.client.images import load_image
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.conversation import (
    IMAGE_REFERENCE,
    ROLES,
    PromptOptions,
    build_messages,
    deserialize_messages,
    serialize_messages,
)
from skytells_nb.engine.operations.jobs import (
    CHAT_OVERHEAD_TOKENS,
    Job,
    completion_job,
    embedding_job,
    follow_up_input,
    follow_up_job,
)
from skytells_nb.engine.operations.row_packing import batch_rows
from skytells_nb.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
texts = st.text(st.characters(exclude_categories=["Cs"]))
messages = st.lists(st.fixed_dictionaries({"role": st.sampled_from(ROLES), "content": texts}), min_size=1, max_size=6)
params = st.dictionaries(st.text(min_size=1), st.one_of(st.integers(), st.booleans(), texts), max_size=3)


def texts_of(job: Job, inputs: list[str], tmp_path: Path) -> tuple[list[str | None], list[list[dict[str, Any]]]]:
    """What the model answered, and what it was asked."""
    generator = EchoGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite") as session:
        values = session.engine.run(job, inputs).values
    return [None if value is None else CachedCompletion.from_bytes(value).text for value in values], generator.messages


@given(messages, params)
def test_serialized_messages_are_restored(turns: list[dict[str, Any]], own: dict[str, Any]) -> None:
    assert deserialize_messages(serialize_messages(turns, own)) == (turns, own)


@given(messages)
def test_the_order_of_keys_does_not_matter(turns: list[dict[str, Any]]) -> None:
    turned = [dict(reversed(list(turn.items()))) for turn in turns]
    assert serialize_messages(turned) == serialize_messages(turns)


def test_keys_without_a_value_are_left_out() -> None:
    """Arrow and Parquet give every message of a column the members of all of them."""
    turns = [{"role": "user", "content": "x", "name": None, "tool_calls": None}]
    assert serialize_messages(turns) == serialize_messages([{"role": "user", "content": "x"}])


@pytest.mark.parametrize(
    ("turns", "what"),
    [
        ("hello", "Messages must be a list of"),
        ([], "is empty"),
        (["hello"], "Message 0 must be"),
        ([{"role": "boss", "content": "x"}], "The role of message 0 must be .*, got 'boss'"),
        ([{"role": "user"}], "The content of message 0 must be .*, got NoneType None"),
        ([{"role": "user", "content": 5}], "The content of message 0 must be .*, got int 5"),
        ([{"role": "user", "content": [{"text": "x"}]}], "A part of message 0 must be"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "A part of message 0 must be"),
        ([{"role": "assistant", "tool_calls": ["f"]}], "tool_calls of message 0 must be a list"),
        ([{"role": "user", "content": "x", "when": object()}], "serialized as JSON"),
    ],
)
def test_invalid_messages_are_rejected(turns: Any, what: str) -> None:
    with pytest.raises(InputError, match=what):
        serialize_messages(turns)


@given(messages)
def test_messages_are_sent_unchanged(turns: list[dict[str, Any]]) -> None:
    job = completion_job("gpt-5", conversations=True)
    assert job.body is not None
    assert job.body([serialize_messages(turns)]) == {"model": "gpt-5", "messages": turns}


def test_examples_follow_the_leading_messages() -> None:
    turns = [{"role": "developer", "content": "d"}, {"role": "user", "content": "u"}]
    found = [turn["content"] for turn in build_messages("s", [("q", "a")], turns)]
    assert found == ["s", "d", "q", "a", "u"]


def test_a_plain_job_has_an_unchanged_key() -> None:
    """Whatever is stored of plain prompts must be found."""
    job = completion_job("gpt-5", system="Be brief.", params={"max_tokens": 5})
    assert (job.endpoint, job.params) == ("chat/completions", {"system": "Be brief.", "max_tokens": 5})


def test_each_kind_of_request_has_its_own_key(tmp_path: Path) -> None:
    """A prompt that reads like a conversation is none; examples and the other API make other answers."""
    text = serialize_messages([{"role": "user", "content": "one"}])
    jobs = [
        completion_job("gpt-5"),
        completion_job("gpt-5", conversations=True),
        completion_job("gpt-5", options=PromptOptions("responses")),
        completion_job("gpt-5", options=PromptOptions(examples=(("q", "a"),))),
    ]
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        reports = [session.engine.run(job, [text]).report for job in jobs * 2]
    assert [report.cached for report in reports] == [0, 0, 0, 0, 1, 1, 1, 1]


def test_equal_conversations_are_sent_once(tmp_path: Path) -> None:
    inputs = [serialize_messages([{"role": "user", "content": text}]) for text in ("one", "two", "one")]
    answers, asked = texts_of(completion_job("gpt-5", conversations=True), inputs, tmp_path)
    assert answers == ["one", "two"]
    assert len(asked) == 2


def test_parameters_of_one_input_override_those_of_the_job(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "one two three four"}]
    job = completion_job("gpt-5", params={"max_tokens": 3}, conversations=True)
    answers, _ = texts_of(job, [serialize_messages(turns), serialize_messages(turns, {"max_tokens": 1})], tmp_path)
    assert [answer and len(answer.split()) for answer in answers] == [3, 1]


def test_an_image_is_sent_whole_and_counted_as_an_image() -> None:
    made = load_image(PNG)
    assert not isinstance(made, str)
    part = {"type": "image_url", "image_url": {"url": f"{IMAGE_REFERENCE}{made.digest}"}}
    form = PromptOptions(conversations=True, images={made.digest: made}, image_tokens=765)
    job = completion_job("gpt-5", options=form)
    assert job.body is not None
    body = job.body([serialize_messages([{"role": "user", "content": [part]}])])
    assert body["messages"][0]["content"][0]["image_url"]["url"] == made.url
    assert job.overhead_tokens == CHAT_OVERHEAD_TOKENS + 765


def test_an_image_that_the_call_does_not_have_is_an_error_of_its_row(tmp_path: Path) -> None:
    """Nothing is sent for it, and the other row has its answer."""
    part = {"type": "image_url", "image_url": {"url": f"{IMAGE_REFERENCE}00"}}
    inputs = [
        serialize_messages([{"role": "user", "content": [part]}]),
        serialize_messages([{"role": "user", "content": "one"}]),
    ]
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        report = session.engine.run(completion_job("gpt-5", conversations=True), inputs).report
        assert server.stats["chat"].requests == 1
    assert [type(problem) for problem in report.errors.values()] == [InputError]


@pytest.mark.parametrize(
    "form", [PromptOptions(), PromptOptions("responses", (("q", "a"),)), PromptOptions(conversations=True)]
)
def test_a_follow_up_continues_from_what_was_sent(form: PromptOptions) -> None:
    """With everything that went before it, also where prompts are packed."""
    first = completion_job("gpt-5", system="s", params={"max_tokens": 9}, options=form)
    text = serialize_messages([{"role": "user", "content": "u"}], {"top_p": 0.5}) if form.conversations else "u"
    job = first if form.conversations else batch_rows(first, 4)
    more = [{"role": "assistant", "content": "no"}, {"role": "user", "content": "again"}]
    then = follow_up_job(job)
    assert first.body is not None
    assert then.body is not None
    before, after = first.body([text]), then.body([follow_up_input(job, text, more)])
    turns = "input" if form.api == "responses" else "messages"
    assert after.pop(turns) == [*before.pop(turns), *more]
    assert after == before


def test_an_embedding_has_no_follow_up() -> None:
    with pytest.raises(InputError, match="embed requests no completions"):
        follow_up_job(embedding_job("m"))


def test_conversations_are_not_batched() -> None:
    with pytest.raises(InputError, match="prompts that are texts"):
        batch_rows(completion_job("gpt-5", conversations=True), 2)


def test_batched_examples_are_one_exchange_of_the_same_form() -> None:
    job = batch_rows(completion_job("gpt-5", options=PromptOptions(examples=(("q", "a"), ("p", "b")))), 3)
    assert job.body is not None
    _, asked, answered, _ = job.body(["one", "two"])["messages"]
    assert [row["message"] for row in json.loads(asked["content"])] == ["q", "p"]
    assert json.loads(answered["content"]) == {"r1": "a", "r2": "b"}
