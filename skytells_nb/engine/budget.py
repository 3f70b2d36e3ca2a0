"""Spending limit: reserve before a request is sent, settle when its response reports the usage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.types.models import Price


@dataclass(frozen=True, slots=True)
class Reservation:
    """US dollars reserved for one request, by its estimated tokens."""

    amount: float
    tokens_in: float


class Budget:
    """Spending of one run against a limit in US dollars; a ``limit`` of ``None`` counts without limiting.

    Raises InputError for a limit that cannot be enforced because the model's price is not known, for this ``reason``.
    """

    def __init__(self, limit: float | None, price: Price | None, model: str, reason: str | None = None) -> None:
        if limit is not None and (isinstance(limit, (bool, str)) or not limit >= 0):
            raise InputError(f"budget must be US dollars, 0 or more, got {limit!r}.")
        if limit is not None and price is None:
            raise InputError(
                f"budget={limit} cannot be enforced: {reason or f'no price is known for {model!r}'}. Leave budget out."
            )
        self._limit = limit
        self._price = price
        self._settled = threading.Condition()
        self._reserved = 0.0
        self._ratio = 1.0
        self.spent = 0.0

    @property
    def priced(self) -> bool:
        """Whether the model's price is known."""
        return self._price is not None

    def cost(self, tokens_in: float, tokens_out: float = 0) -> float:
        """Return the US dollars for these tokens, 0 if no price is known."""
        return self._price.cost(tokens_in, tokens_out) if self._price else 0.0

    def reserve(self, tokens_in: float, tokens_out: float, stopped: Callable[[], bool] = lambda: False) -> Reservation:
        """Reserve dollars for a request whose answer has at most ``tokens_out`` tokens.

        Waits if only the reservations of other requests are in the way: most use less. Raises BudgetExceededError if
        too little remains.
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

    def settle(self, reservation: Reservation, used: tuple[int, int] | None) -> None:
        """Release a reservation and count the tokens (in, out) used; ``None``, if unknown, counts all of it."""
        with self._settled:
            self._reserved -= reservation.amount
            if used is None:
                self.spent += reservation.amount
            else:
                self.spent += self.cost(*used)
                # Estimates from bytes are too low for numbers and rare scripts.
                self._ratio = max(self._ratio, used[0] / max(1.0, reservation.tokens_in))
            self._settled.notify_all()
