"""Dollars are reserved before and settled after."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from skytells_nb.engine.budget import Budget, Reservation
from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.types.models import Price

PRICE = Price(input=1.0, output=2.0)


def test_a_request_over_the_budget_is_not_sent() -> None:
    budget = Budget(0.001, PRICE, "m")
    with pytest.raises(BudgetExceededError, match=r"\$0.001"):
        budget.reserve(2000, 0)
    assert budget.spent == 0


def test_requests_in_flight_count_at_their_estimate() -> None:
    budget = Budget(0.001, PRICE, "m")
    budget.reserve(600, 0)
    with pytest.raises(BudgetExceededError):
        budget.reserve(600, 0, stopped=lambda: True)


def test_a_request_waits_while_only_reservations_are_in_its_way() -> None:
    """Most answers take less than was set aside for them."""
    budget = Budget(0.001, PRICE, "m")
    first = budget.reserve(600, 0)
    got: list[Reservation] = []
    waiter = threading.Thread(target=lambda: got.append(budget.reserve(600, 0)))
    waiter.start()
    assert not got
    budget.settle(first, (100, 0))
    waiter.join(10)
    assert len(got) == 1


def test_an_answer_that_does_not_say_what_it_used_counts_as_reserved() -> None:
    budget = Budget(0.001, PRICE, "m")
    budget.settle(budget.reserve(600, 0), None)
    assert budget.spent == pytest.approx(0.0006)


def test_estimates_that_proved_too_low_are_raised() -> None:
    budget = Budget(0.01, PRICE, "m")
    budget.settle(budget.reserve(100, 0), (200, 0))
    assert budget.reserve(100, 0).amount == pytest.approx(0.0002)


def test_what_was_used_counts_when_the_answer_is_there() -> None:
    budget = Budget(0.001, PRICE, "m")
    reserved = budget.reserve(900, 0)
    budget.settle(reserved, (100, 50))
    assert budget.spent == pytest.approx(0.0002)
    budget.reserve(700, 0)


def test_a_budget_without_a_price_is_rejected_before_anything_is_sent() -> None:
    with pytest.raises(InputError, match="no price is known for 'skytells-embed-3-small'"):
        Budget(1.0, None, "skytells-embed-3-small")


@pytest.mark.parametrize("limit", [-1.0, float("nan"), "5", True])
def test_an_invalid_budget_is_rejected(limit: Any) -> None:
    with pytest.raises(InputError, match="dollars"):
        Budget(limit, PRICE, "m")
