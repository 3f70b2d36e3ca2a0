"""Dollars: reserved before a request leaves, settled when its answer says what it used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.types.models import Price


@dataclass(frozen=True, slots=True)
class Reservation:
    """Dollars set aside for one request, by the tokens it was thought to take."""

    amount: float
    tokens_in: float


class Budget:
    """Spending of one run against a limit in US dollars; ``limit`` ``None`` counts without limiting.

    Raises InputError for a limit that cannot be held because the model's price is not known.
    """

    def __init__(self, limit: float | None, price: Price | None, model: str) -> None:
        if limit is not None and (isinstance(limit, (bool, str)) or not limit >= 0):
            raise InputError(f"budget is dollars, 0 or more; found {limit!r}.")
        if limit is not None and price is None:
            raise InputError(f"budget={limit} cannot be kept: no price is known for {model!r}. Leave budget out.")
        self._limit = limit
        self._price = price
        self._settled = threading.Condition()
        self._reserved = 0.0
        self._ratio = 1.0
        self.spent = 0.0

    def cost(self, tokens_in: float, tokens_out: float = 0) -> float:
        """US dollars for these tokens, 0 where no price is known."""
        return self._price.cost(tokens_in, tokens_out) if self._price else 0.0

    def reserve(self, tokens_in: float, tokens_out: float, stopped: Callable[[], bool] = lambda: False) -> Reservation:
        """Set dollars aside for a request, ``tokens_out`` being the most that its answer may have.

        Waits where only what other requests set aside stands in the way: most take less. Raises BudgetExceededError
        where too little is left.
        """
        with self._settled:
            while True:
                amount = self.cost(tokens_in * self._ratio, tokens_out)
                if self._limit is None or self.spent + self._reserved + amount <= self._limit:
                    self._reserved += amount
                    return Reservation(amount, tokens_in)
                if self.spent + amount > self._limit or stopped():
                    raise BudgetExceededError(
                        f"The budget of ${self._limit:.4g} does not cover the next request: ${self.spent:.4g} is spent "
                        f"and it may cost ${amount:.2g}. Raise budget=, or lower max_tokens, and run again."
                    )
                self._settled.wait(0.1)

    def settle(self, reserved: Reservation, used: tuple[int, int] | None) -> None:
        """Give a reservation back and count the tokens (in, out) really used; ``None``: all of it, nobody knows."""
        with self._settled:
            self._reserved -= reserved.amount
            if used is None:
                self.spent += reserved.amount
            else:
                self.spent += self.cost(*used)
                # Estimates from bytes are too low for numbers and rare scripts.
                self._ratio = max(self._ratio, used[0] / max(1.0, reserved.tokens_in))
            self._settled.notify_all()
