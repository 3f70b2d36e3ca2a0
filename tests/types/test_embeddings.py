"""Embeddings as types: every encoding of a vector gives the same matrix, and what is damaged gives none."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from skytells_nb.errors import InvalidResponseError
from skytells_nb.types.embeddings import EmbeddingRequest, EmbeddingResponse, answer_count_error, embedding_item

MATRICES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=5),
    elements=st.floats(-1024, 1024, width=32),
)


def read(data: list[Any]) -> EmbeddingResponse:
    return EmbeddingResponse.model_validate_json(json.dumps({"data": data}))


@given(MATRICES, st.data())
def test_vectors_in_any_order_and_encoding_are_the_matrix_that_was_written(matrix: Any, data: st.DataObject) -> None:
    forms = data.draw(st.lists(st.sampled_from(["base64", "float"]), min_size=len(matrix), max_size=len(matrix)))
    order = data.draw(st.permutations(range(len(matrix))))
    answer = read([embedding_item(row, matrix[row], forms[row]) for row in order])
    np.testing.assert_array_equal(answer.matrix, matrix)
    assert (answer.matrix.dtype, answer.matrix.flags.writeable) == (np.float32, True)
    assert [entry.index for entry in answer.data] == list(order)


@given(MATRICES)
def test_answers_that_are_read_from_python_values_give_the_same_matrix(matrix: Any) -> None:
    data = [embedding_item(row, vector, "base64") for row, vector in enumerate(matrix)]
    np.testing.assert_array_equal(EmbeddingResponse.model_validate({"data": data}).matrix, matrix)


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=5))
def test_every_vector_has_an_index_of_its_own_or_the_answer_is_refused(order: list[int]) -> None:
    answer = read([{"index": index, "embedding": [float(index), 1.0]} for index in order])
    if sorted(order) == list(range(len(order))):
        assert answer.matrix[:, 0].tolist() == list(range(len(order)))
    else:
        with pytest.raises(InvalidResponseError, match="out of range or twice"):
            answer.checked  # noqa: B018


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_bytes_that_are_no_whole_numbers_are_refused_with_their_place(size: int) -> None:
    vectors = [bytes(8), bytes(size)]
    answer = read([{"index": n, "embedding": base64.b64encode(v).decode()} for n, v in enumerate(vectors)])
    assert answer.checked[1].tolist() == [True, False]
    with pytest.raises(InvalidResponseError, match=f"the vector at index 1 has {size} bytes, not a multiple of 4"):
        answer.matrix  # noqa: B018


@pytest.mark.parametrize(
    ("lengths", "listed"), [((1, 2), r"\[1, 2\]"), ((0, 0), r"\[0\]"), ((1, 2, 1, 2), r"\[1, 2\]")]
)
def test_vectors_have_one_length_that_is_not_zero(lengths: Sequence[int], listed: str) -> None:
    answer = read([{"index": n, "embedding": [0.5] * length} for n, length in enumerate(lengths)])
    with pytest.raises(InvalidResponseError, match=f"different lengths: {listed}"):
        answer.checked  # noqa: B018


@pytest.mark.parametrize(("lengths", "odd"), [((3, 0), 1), ((2, 2, 3), 2), ((5, 4, 5, 5), 1)])
def test_a_vector_of_another_length_than_most_costs_only_itself(lengths: Sequence[int], odd: int) -> None:
    answer = read([{"index": n, "embedding": [0.5] * length} for n, length in enumerate(lengths)])
    matrix, usable = answer.checked
    assert np.flatnonzero(~usable).tolist() == [odd]
    assert np.isnan(matrix[odd]).all()
    assert (matrix[usable] == 0.5).all()
    with pytest.raises(InvalidResponseError, match="different lengths"):
        answer.matrix  # noqa: B018


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 1e39])
def test_a_row_that_is_not_finite_is_named_and_the_others_can_be_had(odd: float) -> None:
    answer = EmbeddingResponse.model_validate(
        {"data": [{"index": n, "embedding": [1.0, v]} for n, v in ((0, 2), (1, odd))]}
    )
    matrix, finite = answer.checked
    assert finite.tolist() == [True, False]
    assert matrix[0].tolist() == [1.0, 2.0]
    with pytest.raises(InvalidResponseError, match="the vector at index 1 contains values that are not finite"):
        answer.matrix  # noqa: B018


def test_text_that_is_not_base64_is_refused_with_its_place() -> None:
    answer = read([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "?!"}])
    assert answer.checked[1].tolist() == [True, False]
    with pytest.raises(InvalidResponseError, match="the vector at index 1 is not base64"):
        answer.matrix  # noqa: B018


def test_an_answer_without_vectors_is_an_empty_matrix() -> None:
    answer = EmbeddingResponse.model_validate({})
    assert (answer.matrix.shape, answer.matrix.dtype, answer.checked[1].shape) == ((0, 0), np.float32, (0,))
    usage = "EmbeddingUsage(prompt_tokens=0, total_tokens=0)"
    assert repr(answer) == f"EmbeddingResponse(model='', data='0 vectors', usage={usage})"


def test_errors_carry_the_id_of_the_request() -> None:
    answer = read([{"index": 5, "embedding": [1.0]}])
    answer._request_id = "req_1"
    with pytest.raises(InvalidResponseError) as caught:
        answer.checked  # noqa: B018
    problem = answer_count_error(3, 2, "req_2")
    assert (caught.value.request_id, problem.request_id) == ("req_1", "req_2")
    assert "3 inputs were sent and 2 vectors came back" in str(problem)


@pytest.mark.parametrize("form", ["base64", "float"])
def test_an_entry_shows_the_vector_as_it_traveled(form: str) -> None:
    item = embedding_item(2, np.array([1.5, -2.0], dtype=np.float32), form)
    (entry,) = read([item]).data
    assert entry.embedding == item["embedding"]
    assert entry.model_dump() == item


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"input": [1.5]}, "input"),
    ],
)
def test_a_request_has_an_input_and_at_least_one_dimension(wrong: dict[str, Any], name: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=name):
        EmbeddingRequest(**{"model": "m", "input": "a", **wrong})
    assert EmbeddingRequest(model="m", input="a", dimensions=1).encoding_format == "base64"


@pytest.mark.parametrize("entry", [{"embedding": None}, {}])
def test_a_vector_that_was_not_made_does_not_cost_the_others(entry: dict[str, Any]) -> None:
    answer = read([{"index": 0, "embedding": [1.0, 2.0]}, {"index": 1, **entry}])
    matrix, finite = answer.checked
    assert finite.tolist() == [True, False]
    assert matrix[0].tolist() == [1.0, 2.0]
    with pytest.raises(InvalidResponseError, match="index 1"):
        answer.matrix  # noqa: B018
    assert answer.data[1].embedding is None
    with pytest.raises(pydantic.ValidationError, match="no entry has a vector"):
        read([{"index": 0, **entry}])
