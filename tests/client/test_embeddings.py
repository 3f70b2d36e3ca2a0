"""Vectors: as base64 or numbers, in any order, and never trusted blindly."""

from __future__ import annotations

import base64
import copy
import pickle
from typing import Any

import numpy as np
import pytest
from answers import replying
from hypothesis import given
from hypothesis import strategies as st
from serving import KEY, Exchange, serving

from skytells_nb.client.client import Skytells
from skytells_nb.errors import AuthenticationError, BadRequestError, InputError, InvalidResponseError
from skytells_nb.types.embeddings import EmbeddingResponse, embedding_item

ROWS = np.array([[0.25, -1.5], [3.0, 4.0], [5.0, 6.0]], dtype=np.float32)


def encoded(row: Any) -> str:
    return base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()


def body(*entries: tuple[int, Any]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in entries]
    return {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 12, "total_tokens": 12}}


def embed(answer: dict[str, Any], inputs: Any = ("a", "b", "c"), **params: Any) -> EmbeddingResponse:
    with replying(answer, x_request_id="req_v") as (client, _):
        return client.embeddings.create(model="m", input=inputs, **params)


@pytest.mark.parametrize(
    "answer",
    [
        body(*((i, encoded(row)) for i, row in enumerate(ROWS))),
        body(*((i, row.tolist()) for i, row in enumerate(ROWS))),
        body((2, encoded(ROWS[2])), (0, ROWS[0].tolist()), (1, encoded(ROWS[1]))),
    ],
    ids=["base64", "numbers", "mixed and out of order"],
)
def test_vectors_become_one_float32_matrix_in_the_order_of_the_input(answer: dict[str, Any]) -> None:
    got = embed(answer)
    assert got.matrix.dtype == np.float32
    assert got.matrix.flags.c_contiguous
    assert got.matrix.flags.writeable
    np.testing.assert_array_equal(got.matrix, ROWS)
    assert (got.request_id, got.usage.prompt_tokens) == ("req_v", 12)


def test_base64_is_asked_for_and_nothing_unset_is_sent() -> None:
    with replying(body((0, encoded([1])))) as (client, server):
        client.embeddings.create(model="m", input="a")
        client.embeddings.create(model="m", input="a", dimensions=1, user="u", encoding_format="float")
        first, second = (e.json for e in server.exchanges)
    assert first == {"model": "m", "input": "a", "encoding_format": "base64"}
    assert second == {"model": "m", "input": "a", "dimensions": 1, "user": "u", "encoding_format": "float"}


@pytest.mark.parametrize(
    ("inputs", "sent", "count"),
    [
        ("a", "a", 1),
        (["a", "b"], ["a", "b"], 2),
        (("a", "b"), ["a", "b"], 2),
        (np.array(["a", "b"], dtype=object), ["a", "b"], 2),
        ((text for text in "ab"), ["a", "b"], 2),
        ([1, 2, 3], [1, 2, 3], 1),
        (np.array([1, 2, 3]), [1, 2, 3], 1),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], 2),
        ([[1, 2], (3,)], [[1, 2], [3]], 2),
    ],
)
def test_texts_and_token_ids_in_any_sequence(inputs: Any, sent: Any, count: int) -> None:
    with replying(body(*((i, encoded([1])) for i in range(count)))) as (client, server):
        assert client.embeddings.create(model="m", input=inputs).matrix.shape == (count, 1)
        assert server.exchanges[0].json["input"] == sent


@pytest.mark.parametrize(
    ("inputs", "name"),
    [
        (None, "input is missing"),
        (5, "input"),
        ("", "input"),
        ([], "input"),
        (b"text", "input"),
        ([b"text"], r"input\[0\]"),
        ({"a": 1}, "input"),
        (["a", None], r"input\[1\]"),
        (["a"] * 2000 + [5], r"input\[2000\]"),
        ([1.5], r"input\[0\]"),
        ([["a"]], "input"),
    ],
)
def test_what_is_no_input_is_refused_before_it_is_sent(inputs: Any, name: str) -> None:
    with replying({}) as (client, server):
        with pytest.raises(InputError, match=name) as caught:
            client.embeddings.create(model="m", input=inputs)
        assert len(str(caught.value)) < 300
        assert server.exchanges == []


@pytest.mark.parametrize("dimensions", [0, -1, 1.5, "many"])
def test_dimensions_are_a_whole_number_above_zero(dimensions: Any) -> None:
    with replying({}) as (client, server):
        with pytest.raises(InputError, match="dimensions"):
            client.embeddings.create(model="m", input="a", dimensions=dimensions)
        assert server.exchanges == []


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (body((0, encoded([1])), (0, encoded([1])), (1, encoded([1]))), "index 0 out of range or twice"),
        (body((0, encoded([1])), (1, encoded([1])), (3, encoded([1]))), "index 3 out of range or twice"),
        (body((0, encoded([1])), (1, encoded([1])), (-1, encoded([1]))), "index -1"),
        (body((0, encoded([1])), (1, encoded([1, 2])), (2, encoded([1]))), "different lengths"),
        (body((0, ""), (1, ""), (2, "")), "different lengths"),
        (body((0, encoded([1])), (1, encoded([1])), (2, "!!!!")), "index 2 is not base64"),
        (body((0, encoded([1])), (1, encoded([1])), (2, "AAAAA")), "index 2 is not base64"),
        (body((0, encoded([1])), (1, encoded([1])), (2, "größe")), "index 2 is not base64"),
        (body((0, encoded([1])), (1, "AAAAAAA="), (2, encoded([1]))), "index 1 has 5 bytes"),
        (body((0, encoded([1])), (1, encoded([np.nan])), (2, encoded([1]))), "index 1 contains values"),
        (body((0, encoded([1])), (1, encoded([np.inf])), (2, encoded([1]))), "index 1 contains values"),
        (body((0, [1.0]), (1, [1.0]), (2, [1e300])), "index 2 contains values"),
        (body((0, [1.0]), (1, [float("nan")]), (2, [1.0])), "index 1 contains values"),
    ],
)
def test_vectors_that_cannot_be_right_are_not_given(answer: dict[str, Any], why: str) -> None:
    got = embed(answer)
    with pytest.raises(InvalidResponseError, match=rf"{why}.*req_v"):
        _ = got.matrix


def test_entries_without_an_index_are_not_guessed() -> None:
    answer = body((0, encoded([1])), (0, encoded([2])))
    for entry in answer["data"]:
        del entry["index"]
    with pytest.raises(InvalidResponseError, match="twice"):
        _ = embed(answer, ["a", "b"]).matrix


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_wrong_number_of_vectors_is_an_answer_error(count: int) -> None:
    with pytest.raises(InvalidResponseError, match=f"3 inputs were sent and {count} vectors came back.*req_v"):
        embed(body(*((i, encoded([1])) for i in range(count))))


@pytest.mark.parametrize("bad", [None, 5, ["a"], [None], {"x": 1}])
def test_an_entry_that_is_no_vector_is_an_answer_error(bad: Any) -> None:
    with pytest.raises(InvalidResponseError, match="not a EmbeddingResponse") as caught:
        embed(body((0, bad)), "a")
    assert len(str(caught.value)) < 300


def refusing(param: str | None, status: int = 400) -> Any:
    def script(exchange: Exchange) -> None:
        if exchange.json["encoding_format"] == "base64":
            error = {"message": "No.", "error_id": "INVALID_PARAMETER", "status": status, "param": param}
            exchange.reply({"error": error}, status)
        else:
            exchange.reply(body((0, [1.0, 2.0])))

    return script


@pytest.mark.parametrize("status", [400, 422])
def test_a_service_that_refuses_base64_is_asked_for_numbers_and_not_asked_twice(status: int) -> None:
    with serving(refusing("encoding_format", status)) as server:
        client = Skytells(KEY, base_url=server.url)
        for _ in range(2):
            np.testing.assert_array_equal(client.embeddings.create(model="m", input="a").matrix, [[1, 2]])
        assert [e.json["encoding_format"] for e in server.exchanges] == ["base64", "float", "float"]


@pytest.mark.parametrize("param", ["input", None])
def test_another_refusal_is_not_asked_again(param: str | None) -> None:
    with serving(refusing(param)) as server:
        with pytest.raises(BadRequestError):
            Skytells(KEY, base_url=server.url).embeddings.create(model="m", input="a")
        assert len(server.exchanges) == 1


@given(
    st.integers(1, 5).flatmap(
        lambda d: st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=d, max_size=d))
    ),
    st.sampled_from(["base64", "float"]),
    st.randoms(use_true_random=False),
)
def test_what_the_server_writes_the_client_reads(rows: list[list[float]], form: str, chance: Any) -> None:
    data = [embedding_item(i, np.asarray(row, dtype=np.float32), form) for i, row in enumerate(rows)]
    chance.shuffle(data)
    matrix = EmbeddingResponse.model_validate({"data": data}).matrix
    assert matrix.shape == (len(rows), len(rows[0]) if rows else 0)
    np.testing.assert_array_equal(matrix, np.asarray(rows, dtype=np.float32).reshape(matrix.shape))


def test_an_answer_shows_no_vectors() -> None:
    """A notebook cell that ends with an answer shows it."""
    got = embed(body(*((i, encoded(row)) for i, row in enumerate(ROWS))))
    assert encoded(ROWS[0]) not in repr(got)
    assert "3 vectors" in repr(got)


def test_an_answer_is_the_same_after_its_matrix_was_read() -> None:
    got = embed(body(*((i, encoded(row)) for i, row in enumerate(ROWS))))
    before = got.model_dump()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(got)).matrix, got.matrix)
    np.testing.assert_array_equal(copy.deepcopy(got).matrix, got.matrix)
    assert got.matrix is got.matrix
    assert got.model_dump() == before


@pytest.mark.parametrize("vector", [encoded(ROWS[0]), ROWS[0].tolist(), "not base64!"])
def test_a_vector_can_be_read_as_it_travelled(vector: Any) -> None:
    sent = body((0, vector))
    sent["data"][0]["new"] = sent["newer"] = "kept"
    got = embed(sent, "a")
    assert got.data[0].embedding == vector
    assert got.model_dump() == sent


def test_an_error_with_status_200_is_that_error() -> None:
    refused = {"status": False, "error": {"http_status": 401, "message": "No.", "error_id": "UNAUTHORIZED"}}
    with pytest.raises(AuthenticationError, match="No"):
        embed(refused)


def test_a_null_counts_as_missing() -> None:
    sent = body((0, encoded(ROWS[0])))
    sent["data"][0]["index"] = sent["model"] = None
    got = embed(sent, "a")
    assert (got.model, got.data[0].index) == ("", 0)
    np.testing.assert_array_equal(got.matrix, ROWS[:1])


def test_what_is_no_json_is_an_answer_error() -> None:
    with (
        serving(lambda e: e.reply(b'{"data": [', x_request_id="req_v")) as server,
        pytest.raises(InvalidResponseError, match=r"not JSON.*req_v"),
    ):
        Skytells(KEY, base_url=server.url).embeddings.create(model="m", input="a")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "encoding_format base64 is not supported", "param": None}}, 400),
        ({"detail": [{"loc": ["body", "encoding_format"], "msg": "permitted: 'float'"}]}, 422),
        (b"unknown variant `base64`, expected `float`", 422),
        ({"error": "Base64 encoding is not implemented"}, 501),
        ({"message": "Encoding format must be float"}, 415),
    ],
)
def test_base64_that_is_refused_in_any_words_gives_way_to_numbers_once(body: Any, status: int) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.json["encoding_format"] == "base64":
            exchange.reply(body, status)
        else:
            exchange.reply({"data": [{"index": 0, "embedding": [1.0]}], "model": "m"})

    with serving(answer) as server:
        for _ in range(2):
            # Each client of the process knows it.
            with Skytells(KEY, base_url=server.url) as client:
                assert client.embeddings.create(model="m", input="a").matrix.tolist() == [[1.0]]
        assert [e.json["encoding_format"] for e in server.exchanges] == ["base64", "float", "float"]


def test_an_error_that_only_quotes_base64_is_not_remembered() -> None:
    def answer(exchange: Exchange) -> None:
        if "base64" in exchange.json["input"]:
            exchange.reply({"error": {"message": "bad input: base64"}}, 400)
        else:
            exchange.reply({"data": [{"index": 0, "embedding": [1.0]}], "model": "m"})

    with serving(answer) as server, Skytells(KEY, base_url=server.url) as client:
        with pytest.raises(BadRequestError):
            client.embeddings.create(model="m", input="base64")
        client.embeddings.create(model="m", input="a")
        assert [e.json["encoding_format"] for e in server.exchanges] == ["base64", "float", "base64"]
