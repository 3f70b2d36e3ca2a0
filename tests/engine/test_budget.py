"""Dollars are reserved before and settled after."""

from __future__ import annotations

import pytest

from skytells_nb.engine.budget import Budget
from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.wire.models import Price

PRICE = Price(input=1.0, output=2.0)


def test_a_request_over_the_budget_is_not_sent() -> None:
    budget = Budget(0.001, PRICE, "m")
    with pytest.raises(BudgetExceededError, match=r"\$0.001"):
        budget.reserve(2000, 0)
    assert budget.spent == 0


def test_requests_under_way_count_at_their_estimate() -> None:
    budget = Budget(0.001, PRICE, "m")
    budget.reserve(600, 0)
    with pytest.raises(BudgetExceededError):
        budget.reserve(600, 0)


def test_what_was_used_counts_when_the_answer_is_there() -> None:
    budget = Budget(0.001, PRICE, "m")
    reserved = budget.reserve(900, 0)
    budget.settle(reserved, 100, 50)
    assert budget.spent == pytest.approx(0.0002)
    budget.reserve(700, 0)


def test_a_budget_without_a_price_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InputError, match="no price is known for 'skytells-embed-3-small'"):
        Budget(1.0, None, "skytells-embed-3-small")


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_a_budget_that_is_no_amount_is_refused(limit: float) -> None:
    with pytest.raises(InputError, match="dollars"):
        Budget(limit, PRICE, "m")
