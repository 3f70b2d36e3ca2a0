"""Many rows in one request: what is asked, what is read from the answer, and what is never taken for an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import jsonschema
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_fakes import Pairs, RowsGenerator, written
from served import connected, served

from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import BatchResult, completion_job
from skytells_nb.engine.operations.row_packing import (
    MAX_ROWS,
    ROW_TOKENS,
    PackedFormat,
    batch_messages,
    batch_rows,
    check_rows,
    row_id,
    split_proportionally,
    split_response,
)
from skytells_nb.errors import BadRequestError, ContentPolicyError, InputError

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.one_of(texts, st.dictionaries(texts, st.one_of(texts, st.integers(), st.booleans(), st.none())))
PROMPTS = ["a cat sleeps", "a dog runs", "stocks fell", "rain came"]


def parsed(text: str, rows: int) -> list[Any]:
    return [None if value is None else json.loads(value) for value in split_response(text, rows)]


def send_batch(generator: RowsGenerator, prompts: list[str] = PROMPTS, **settings: Any) -> BatchResult:
    """What one request to a real server with this model delivers."""
    check = settings.pop("check", None)
    job = batch_rows(completion_job("gpt-5", **settings), MAX_ROWS, check)
    with served(generator=generator) as server, connected(server, "off") as session:
        result = job.operation.send(session.client, prompts)
        assert server.stats["chat"].requests == 1
    return result


def texts_of(result: BatchResult) -> list[str | None]:
    return [None if value is None else CachedCompletion.from_bytes(value).text for value in result.values]


@given(st.lists(texts, min_size=2, max_size=12))
def test_every_prompt_is_sent_unchanged_under_its_own_id(prompts: list[str]) -> None:
    system, user = batch_messages("Be brief.", prompts, is_text=True)
    rows = json.loads(user["content"])
    assert [row["message"] for row in rows] == prompts
    assert [row["id"] for row in rows] == [row_id(number) for number in range(len(prompts))]
    assert system["content"].startswith("Be brief.\n")


@given(st.lists(values, min_size=2, max_size=12), st.data())
def test_a_complete_answer_is_parsed_in_any_order(answers: list[Any], data: st.DataObject) -> None:
    pairs = data.draw(st.permutations([(row_id(number), value) for number, value in enumerate(answers)]))
    compact = json.dumps(dict(pairs), separators=(",", ":"))
    for text in (written(pairs), compact, json.dumps(dict(pairs), indent=2), f"```json\n{written(pairs)}\n```"):
        assert parsed(text, len(answers)) == answers


@pytest.mark.parametrize("space", ["", " ", "\n\t"])
def test_a_number_right_after_its_colon_keeps_its_first_digit(space: str) -> None:
    members = [f'{space}"r{row}"{space}:{space}{value}{space}' for row, value in ((1, 12), (2, -34))]
    assert split_response("{" + ",".join(members) + "}", 2) == ["12", "-34"]


@st.composite
def corrupted(draw: st.DrawFn) -> tuple[int, Pairs, str]:
    """An answer whose rows hold their own number, with ids lost, doubled, invented and moved, and perhaps cut."""
    rows = draw(st.integers(2, 8))
    ids = draw(st.lists(st.one_of(st.integers(-1, rows + 1).map(row_id), texts), max_size=2 * rows))
    pairs = [(name, [name, draw(texts)]) for name in ids]
    text = written(pairs)
    return rows, pairs, text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@given(corrupted())
def test_a_corrupted_answer_assigns_no_value_to_another_row(case: tuple[int, Pairs, str]) -> None:
    rows, _, text = case
    for number, value in enumerate(parsed(text, rows)):
        assert value is None or value[0] == row_id(number)


@given(corrupted())
def test_a_duplicate_or_missing_id_has_no_answer(case: tuple[int, Pairs, str]) -> None:
    rows, pairs, _ = case
    names = [name for name, _ in pairs]
    once = [names.count(row_id(number)) == 1 for number in range(rows)]
    assert [value is not None for value in parsed(written(pairs), rows)] == once


@given(st.lists(values, min_size=2, max_size=6), st.data())
def test_a_truncated_answer_yields_the_rows_before_the_end(answers: list[Any], data: st.DataObject) -> None:
    """A value counts once what follows shows that it ended."""
    members = [f'"{row_id(number)}": {json.dumps(value)}' for number, value in enumerate(answers)]
    text = "{" + ",".join(members) + "}"
    cut = data.draw(st.integers(0, len(text)))
    ends = list(accumulate(len(member) + 1 for member in members))
    assert parsed(text[:cut], len(answers)) == [
        value if end < cut else None for value, end in zip(answers, ends, strict=True)
    ]


@given(st.one_of(st.text(), st.text('{}[]":,\\ r12u0e', max_size=40)))
def test_parsing_ends_for_any_text(text: str) -> None:
    assert len(split_response(text, 3)) == 3


def test_an_endlessly_nested_answer_is_dropped() -> None:
    assert split_response('{"r1": "one", "r2": ' + "[" * 200_000, 2) == ['"one"', None]


@pytest.mark.parametrize(
    "text", ['{"r1": 12', '{"r1": 12 "r2": 3}', '{"r1" 12}', '{1: "x"}', '{["r1"]: "x"}', '["r1"]', '{"a": {"r1": 1}}']
)
def test_text_without_an_object_of_ids_has_no_answers(text: str) -> None:
    assert split_response(text, 2) == [None, None]


@given(st.integers(0, 10**7), st.lists(st.integers(1, 10**5), min_size=1, max_size=100))
def test_proportional_parts_add_up_within_one_token(total: int, weights: list[int]) -> None:
    parts = split_proportionally(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - total * weight / sum(weights)) <= 1


class Leg(pydantic.BaseModel):
    length: int


class Animal(pydantic.BaseModel):
    name: str
    legs: list[Leg]
    mother: Animal | None = None


NESTED = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
SCHEMAS: list[tuple[dict[str, Any], Any, Any]] = [
    (NESTED, {"name": "x"}, {"name": 1}),
    (
        {**Animal.model_json_schema()["$defs"]["Animal"], "$defs": Animal.model_json_schema()["$defs"]},
        {"name": "x", "legs": [{"length": 1}], "mother": {"name": "y", "legs": []}},
        {"name": "x", "legs": [], "mother": {"name": "y", "legs": [{"length": "long"}]}},
    ),
    (
        {"type": "object", "properties": {"child": {"$ref": "#"}, "n": {"type": "integer"}}, "required": ["n"]},
        {"n": 1, "child": {"n": 2}},
        {"n": 1, "child": {"n": "2"}},
    ),
    (
        {"type": "object", "properties": {"a": {"enum": ["x", "y"]}, "b": {"$ref": "#/properties/a"}}},
        {"a": "x", "b": "y"},
        {"a": "x", "b": "z"},
    ),
    (
        {"type": "object", "definitions": {"p": NESTED}, "properties": {"q": {"anyOf": [{"$ref": "#/definitions/p"}]}}},
        {"q": {"name": "x"}},
        {"q": {}},
    ),
    (
        {"type": "object", "$defs": {"answer": NESTED}, "properties": {"q": {"$ref": "#/$defs/answer"}}},
        {"q": {"name": "x"}},
        {"q": {"name": 2}},
    ),
    (
        {"type": "object", "properties": {"$ref": {"type": "integer"}, "$id": {"const": {"$ref": "x"}}}},
        {"$ref": 1, "$id": {"$ref": "x"}},
        {"$ref": "1", "$id": {"$ref": "x"}},
    ),
]


@pytest.mark.parametrize(("schema", "valid", "invalid"), SCHEMAS)
def test_a_batch_schema_accepts_the_same_answers_for_each_row(schema: dict[str, Any], valid: Any, invalid: Any) -> None:
    single = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    whole = PackedFormat(single).for_rows(2)["json_schema"]["schema"]
    for one, other in ((valid, valid), (valid, invalid), (invalid, valid)):
        expected = all(jsonschema.Draft202012Validator(schema).is_valid(answer) for answer in (one, other))
        assert expected is (one is other)
        assert jsonschema.Draft202012Validator(whole).is_valid({"r1": one, "r2": other}) is expected
    assert not jsonschema.Draft202012Validator(whole).is_valid({"r1": valid})


@pytest.mark.parametrize("single", [None, {"type": "text"}])
def test_without_a_schema_each_answer_is_a_string_and_every_id_is_required(single: Any) -> None:
    asked = PackedFormat(single).for_rows(3)
    assert asked["json_schema"]["strict"] is True
    assert asked["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"r1": {"type": "string"}, "r2": {"type": "string"}, "r3": {"type": "string"}},
        "required": ["r1", "r2", "r3"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"$ref": "https://example.org/other.json"}, r"refers to 'https://example.org/other.json'"),
        ({"$ref": "#name"}, "refers to '#name'"),
        ({"$anchor": "name"}, r"'\$anchor'"),
        ({"allOf": [{"$id": "x"}]}, r"'\$id'"),
    ],
)
def test_a_schema_that_cannot_be_relocated_is_rejected(part: dict[str, Any], message: str) -> None:
    schema = {"type": "object", "properties": {"a": part}}
    job = completion_job(
        "gpt-5", params={"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}
    )
    with pytest.raises(InputError, match=message):
        batch_rows(job, 2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stop": "END"}, "stop cannot be combined with rows_per_request: it would end the answers"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools cannot be combined"),
        ({"logprobs": True}, "logprobs cannot be combined"),
        ({"response_format": {"type": "json_object"}}, "cannot be combined with the response_format 'json_object'"),
    ],
)
def test_parameters_of_a_whole_answer_are_rejected(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        batch_rows(completion_job("gpt-5", params=params), 2)


@pytest.mark.parametrize("rows", [0, -1, 101, True, 2.5, "5", [2]])
def test_an_invalid_number_of_rows_is_rejected(rows: Any) -> None:
    with pytest.raises(InputError, match="must be an integer from 1 to 100"):
        check_rows(rows)


def test_each_row_gets_its_own_answer_and_a_share_of_the_tokens() -> None:
    generator = RowsGenerator()
    result = send_batch(generator)
    assert generator.batches == [PROMPTS]
    assert texts_of(result) == PROMPTS
    rows = [CachedCompletion.from_bytes(value) for value in result.values if value is not None]
    assert sum(row.tokens_in for row in rows) == result.tokens_in > 0
    assert sum(row.tokens_out for row in rows) == result.tokens_out > 0
    assert {(row.rows, row.finish_reason, row.request_id) for row in rows} == {(4, "stop", rows[0].request_id)}
    assert {finding["source"] for finding in rows[0].findings} == {"prompt", "completion"}


def test_rows_without_an_answer_leave_their_share_to_the_others() -> None:
    result = send_batch(RowsGenerator(corrupt=lambda pairs: pairs[1:]))
    assert texts_of(result) == [None, *PROMPTS[1:]]
    rows = [CachedCompletion.from_bytes(value) for value in result.values if value is not None]
    assert sum(row.tokens_out for row in rows) == result.tokens_out


def test_a_token_limit_is_that_of_one_row() -> None:
    generator = RowsGenerator()
    send_batch(generator, params={"max_tokens": 20})
    assert generator.limits == [(20 + ROW_TOKENS) * len(PROMPTS)]


def test_an_answer_truncated_at_the_limit_yields_the_complete_rows() -> None:
    """Seven words are the ids and answers of two rows, and a part of the third."""
    assert texts_of(send_batch(RowsGenerator(most_words=9))) == [*PROMPTS[:2], None, None]


@pytest.mark.parametrize(
    "corrupt",
    [
        lambda pairs: "I would rather not.",
        lambda pairs: "",
        lambda pairs: json.dumps([answer for _, answer in pairs]),
        lambda pairs: written([(name, 7) for name, _ in pairs]),
        lambda pairs: '{"r1": "\\ud800", "r2": null, "r3": {"a": "b"}, "r4": ["x"]}',
        lambda pairs: written([(name, f"violence:high {answer}") for name, answer in pairs]),
    ],
    ids=["prose", "nothing", "a list", "numbers", "half a character and other types", "withheld by the filter"],
)
def test_an_unusable_answer_is_missing_for_every_row(corrupt: Callable[[Pairs], Pairs | str]) -> None:
    result = send_batch(RowsGenerator(corrupt))
    assert result.values == [None] * 4
    assert result.tokens_in > 0


def test_a_row_whose_answer_fails_the_check_has_none() -> None:
    def check(text: str) -> None:
        if "dog" in json.loads(text)["name"]:
            raise KeyError("a check may raise anything")

    single = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": NESTED}}
    result = send_batch(RowsGenerator(), params={"response_format": single}, check=check)
    assert [None if text is None else json.loads(text) for text in texts_of(result)] == [
        None if "dog" in prompt else {"name": prompt} for prompt in PROMPTS
    ]


def test_one_prompt_is_sent_as_without_batching() -> None:
    generator = RowsGenerator()
    result = send_batch(generator, PROMPTS[:1], params={"max_tokens": 20})
    assert (generator.single_prompts, generator.batches, generator.limits) == (PROMPTS[:1], [], [20])
    assert [CachedCompletion.from_bytes(value or b"").rows for value in result.values] == [1]


@pytest.mark.parametrize(("faults", "error"), [("block_prompt", ContentPolicyError), ("status=400", BadRequestError)])
def test_a_rejected_request_raises_the_error_of_the_service(faults: str, error: type[Exception]) -> None:
    """The caller that sends it splits it."""
    job = batch_rows(completion_job("gpt-5"), 4)
    with served(faults, generator=RowsGenerator()) as server, connected(server, "off") as session:
        client = session.client
        with pytest.raises(error):
            job.operation.send(client, PROMPTS)


def test_output_tokens_are_estimated_for_each_row() -> None:
    job = batch_rows(completion_job("gpt-5", params={"max_tokens": 20}), 4)
    assert job.operation.output_tokens() == 20
    assert job.operation.max_output_tokens() == 20 + ROW_TOKENS
    assert batch_rows(completion_job("gpt-5"), 4).operation.max_output_tokens() == 256 + ROW_TOKENS


def test_a_batched_answer_has_a_key_of_its_own_for_any_batch_size() -> None:
    single = completion_job("gpt-5", system="Be brief.")
    assert batch_rows(single, 4).params == batch_rows(single, 9).params != single.params


def test_the_system_text_is_counted_once_a_request() -> None:
    job = completion_job("gpt-5", system="word " * 1000)
    assert batch_rows(job, 50).overhead_tokens < job.overhead_tokens / 10
