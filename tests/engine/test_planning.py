"""Planning is pure: what goes in once, what is left out, how it is packed."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.columns import TextColumn, is_blank, texts_on_demand
from skytells_nb.engine.planning import (
    TEXTS_AT_ONCE,
    Plan,
    estimate_tokens,
    pack_requests,
    plan,
    plan_requests,
    token_estimates,
)
from skytells_nb.types.embeddings import MAX_REQUEST_TOKENS

texts = st.lists(st.one_of(st.none(), st.text(max_size=8)))


@given(texts)
def test_every_row_has_an_input_or_is_missing_or_invalid(rows: list[str | None]) -> None:
    planned = plan(rows)
    for row, text in enumerate(rows):
        if text is None:
            assert planned.codes[row] == -1
        elif is_blank(text):
            assert planned.codes[row] == -1
            assert row in planned.invalid
        else:
            assert planned.inputs[planned.codes[row]] == text
    assert planned.nulls == rows.count(None)


@given(texts)
def test_each_distinct_input_occurs_once_in_order_of_its_first_row(rows: list[str | None]) -> None:
    planned = plan(rows)
    assert planned.inputs == list(dict.fromkeys(t for t in rows if t is not None and not is_blank(t)))
    assert planned.weights.sum() == (planned.codes >= 0).sum()


def test_text_that_is_certainly_too_long_is_invalid_before_anything_is_sent() -> None:
    planned = plan(["short", "x" * 400_000], max_tokens=8192)
    assert list(planned.invalid) == [1]
    assert "100,000 tokens" in str(planned.invalid[1])
    assert planned.inputs == ["short"]


def test_text_that_may_fit_is_not_rejected() -> None:
    """The estimate errs by a third and more, so a text is rejected only far beyond the limit."""
    assert not plan(["x" * (8192 * 4 + 4000)], max_tokens=8192).invalid


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 1000))
def test_batching_keeps_order_and_both_limits(sizes: list[int], max_items: int, max_tokens: int) -> None:
    numbers, tokens = np.arange(len(sizes)), np.array(sizes)
    requests = pack_requests(numbers, tokens, max_items=max_items, max_tokens=max_tokens)
    assert np.concatenate(requests).tolist() == numbers.tolist()
    for request in requests:
        assert 1 <= len(request) <= max_items
        assert tokens[request].sum() <= max_tokens or len(request) == 1
    for one, other in itertools.pairwise(requests):
        assert len(one) == max_items or tokens[one].sum() + tokens[other[0]] > max_tokens


def test_rows_of_an_input_are_all_its_rows() -> None:
    planned = plan(["a", "b", "a", None, "a"])
    assert planned.rows_of([0]).tolist() == [0, 2, 4]


@given(st.text())
def test_token_estimate_is_a_quarter_of_the_bytes(text: str) -> None:
    assert estimate_tokens(text) == max(1, round(len(text.encode("utf-8", "surrogatepass")) / 4))
    assert token_estimates([text]).tolist() == [estimate_tokens(text)]


class OneHash(str):
    """A text whose hash is that of all others."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1


def test_texts_of_one_hash_stay_apart() -> None:
    rows = [None if text is None else OneHash(text) for text in ("a", "b", "a", None, "c", "b", " ")]
    planned = plan(rows)
    assert planned.inputs == ["a", "b", "c"]
    assert planned.codes.tolist() == [0, 1, 0, -1, 2, 1, -1]
    assert planned.weights.tolist() == [2, 2, 1]
    assert list(planned.invalid) == [6]


def on_demand(rows: list[str | None], *, parts: int = 1) -> TextColumn:
    """The texts as a column in Arrow, of so many parts."""
    column = pd.Series(rows, dtype="string[pyarrow]")
    size = max(1, -(-len(rows) // parts))
    texts = texts_on_demand(pd.concat([column[at : at + size] for at in range(0, max(1, len(rows)), size)]))
    assert isinstance(texts, TextColumn)
    return texts


def check_equal(one: Plan, other: Plan) -> None:
    assert list(one.inputs) == list(other.inputs)
    assert one.codes.tolist() == other.codes.tolist()
    assert one.weights.tolist() == other.weights.tolist()
    assert one.nulls == other.nulls
    assert {row: str(problem) for row, problem in one.invalid.items()} == {
        row: str(problem) for row, problem in other.invalid.items()
    }


# An unpaired surrogate is no text in Arrow; what is blank is missing in a column.
arrow_texts = st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=3))


@given(st.lists(arrow_texts, max_size=30), st.integers(1, 4))
def test_texts_made_on_demand_have_the_same_plan(rows: list[str | None], parts: int) -> None:
    planned = plan(on_demand(rows, parts=parts))
    check_equal(planned, plan([None if text is None or is_blank(text) else text for text in rows]))
    for number, text in enumerate(planned.inputs):
        assert planned.inputs[number] == text
    numbers = np.arange(len(planned.inputs))[::-2]
    assert planned.texts(numbers) == list(planned.inputs)[::-2]
    assert planned.inputs[1:3] == list(planned.inputs)[1:3]


def many_texts(count: int, *, repeated: bool) -> list[Any]:
    """Texts of several blocks, some of them repeated in another one, missing, or too long to be sent."""
    rows: list[Any] = [f"text number {row}" for row in range(count)]
    if repeated:
        rows[-1_000:] = rows[:1_000]
        rows[70_000] = None
        rows[5] = rows[100_000] = "x" * 60_000
    return rows


def test_plans_of_many_texts_are_those_of_a_dictionary() -> None:
    rows = many_texts(2 * TEXTS_AT_ONCE + 10, repeated=True)
    inputs = [text for text in dict.fromkeys(rows) if text is not None and len(text) < 60_000]
    numbers = {text: number for number, text in enumerate(inputs)}
    for texts in (rows, on_demand(rows, parts=3)):
        planned = plan(texts, max_tokens=8_192)
        assert list(planned.inputs) == inputs
        assert planned.codes.tolist() == [numbers.get(text, -1) for text in rows]
        assert planned.weights.tolist() == np.bincount(planned.codes[planned.codes >= 0]).tolist()
        assert (planned.nulls, list(planned.invalid)) == (1, [5, 100_000])


def test_requests_of_many_texts_are_those_of_one_look_and_take_little_memory() -> None:
    """As objects the texts take 75 bytes each, and the table of different ones 100."""
    rows = many_texts(2 * TEXTS_AT_ONCE, repeated=False)
    column = on_demand(rows)
    del rows
    tracemalloc.start()
    try:
        planned = plan(column)
        requests = plan_requests(
            planned, np.arange(len(column)), overhead_tokens=3, token_factor=1.5, max_items=100, max_bytes=2_000
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # A block of texts, and some numbers of each row.
    assert peak < 250 * TEXTS_AT_ONCE + 40 * len(column)
    estimates = token_estimates(list(planned.inputs)) + 3
    sizes = np.ceil(estimates * 600.0).astype(np.int64)
    expected = pack_requests(np.arange(len(column)), sizes, max_items=100, max_tokens=MAX_REQUEST_TOKENS)
    assert [request.numbers.tolist() for request in requests] == [numbers.tolist() for numbers in expected]
    assert [request.rows for request in requests] == list(map(len, expected))
    assert [request.estimated for request in requests] == [estimates[numbers].sum() for numbers in expected]
    assert sum(request.tokens for request in requests) == np.ceil(1.5 * estimates).sum()
