"""Planning is pure: what goes in once, what is left out, how it is packed."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.engine.planning import estimate_tokens, pack_requests, plan, token_estimates
from skytells_nb.formatting import is_blank

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
    assert planned.counts().sum() == (planned.codes >= 0).sum()


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
