"""Dollars: reserved before a request leaves, settled when its answer says what it used."""

from __future__ import annotations

import threading

from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.wire.models import Price


class Budget:
    """Spending of one run against a limit in US dollars; ``limit`` ``None`` counts without limiting.

    Raises InputError for a limit that cannot be held because the model's price is not known.
    """

    def __init__(self, limit: float | None, price: Price | None, model: str) -> None:
        if limit is not None and not limit >= 0:
            raise InputError(f"budget is dollars, 0 or more; found {limit!r}.")
        if limit is not None and price is None:
            raise InputError(f"budget={limit} cannot be kept: no price is known for {model!r}. Leave budget out.")
        self._limit = limit
        self._price = price
        self._lock = threading.Lock()
        self._reserved = 0.0
        self.spent = 0.0

    def cost(self, tokens_in: float, tokens_out: float = 0) -> float:
        """US dollars for these tokens, 0 where no price is known."""
        return self._price.cost(tokens_in, tokens_out) if self._price else 0.0

    def reserve(self, tokens_in: float, tokens_out: float) -> float:
        """Set dollars aside for a request; raises BudgetExceededError where there are not enough left."""
        amount = self.cost(tokens_in, tokens_out)
        with self._lock:
            if self._limit is not None and self.spent + self._reserved + amount > self._limit:
                raise BudgetExceededError(
                    f"The budget of ${self._limit:.4g} is used up: ${self.spent:.4g} spent and the next request would "
                    f"cost about ${amount:.2g}. What was answered is in the cache: raise budget= and run again."
                )
            self._reserved += amount
        return amount

    def settle(self, reserved: float, tokens_in: float = 0, tokens_out: float = 0) -> None:
        """Give a reservation back and count what was really used."""
        with self._lock:
            self._reserved -= reserved
            self.spent += self.cost(tokens_in, tokens_out)
