"""Spending limit: reserve what a request may cost at most before it is sent, settle when its usage is reported."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from skytells_nb.cache.spending import SpendingCounter
from skytells_nb.engine.service.profile import TRUSTED_ANSWERS, TokenCalibration
from skytells_nb.errors import BudgetExceededError, CacheError, InputError
from skytells_nb.formatting import format_digits
from skytells_nb.types.models import Price

UNTESTED_OUTPUT_TOKENS = 4096.0
"""Output tokens that each of several requests in flight may have, while a model has answered little: a model that
reasons may use more than the limit that was set, and that shows too late."""
TESTED_OUTPUT_TOKENS = 1024.0
"""The same once it has answered more."""

UNREPORTED_TOKENS_PER_BYTE = 4.0
"""Tokens that a byte may have where no usage is reported: tokenizers have at most one, and a service may count, or add,
more. It shows nowhere, so there is no other bound."""

MANY_TEXTS_MARGIN = 1.25

COUNTER_LOST_S = 30.0
"""Time after which a run ends whose spending counter cannot be reached: it must not send without it."""

_counter: ContextVar[SpendingCounter | None] = ContextVar("skytells_nb_counter", default=None)


@contextlib.contextmanager
def counted_by(counter: SpendingCounter | None) -> Iterator[None]:
    """Let the runs that begin in the block spend from one limit together with those of other processes."""
    token = _counter.set(counter)
    try:
        yield
    finally:
        _counter.reset(token)


def current_counter() -> SpendingCounter | None:
    """Return the counter of the block that this thread is in."""
    return _counter.get()


@dataclass(frozen=True, slots=True)
class TokenBounds:
    """Tokens of one request: expected, and at most, by its bytes and the limit of tokens."""

    inputs: int
    expected_in: float
    most_in: float
    most_out: float


@dataclass(slots=True, eq=False)
class Reservation:
    """Dollars that are reserved for a request in flight; ``exclusive`` if no other may be in flight."""

    bounds: TokenBounds
    dollars: float
    exclusive: bool = False


class Budget:
    """Spending of one run against a limit in US dollars.

    ``spent`` counts what the service reported, and the most that a request may have cost whose usage is not known.
    Requests go side by side while even the most that they may cost fits; else one goes alone, if what it is likely to
    cost fits. So the limit is exceeded by no more than one request, and by none whose tokens are at most its bytes.
    Once answers come without a usage, the most is by bounds that no usage has to confirm, so that less can be sent.
    ``tokens`` is what is known of the model, and ``limited`` is whether the requests limit their output: if not, what
    earlier calls used shows little about this one. With a ``counter`` the requests of other processes count too. Raises
    InputError for a limit that cannot be enforced because the model's price is not known, for this ``reason``.
    """

    def __init__(
        self,
        limit: float,
        price: Price | None,
        model: str,
        reason: str | None = None,
        *,
        tokens: TokenCalibration | None = None,
        limited: bool = True,
        counter: SpendingCounter | None = None,
    ) -> None:
        if isinstance(limit, (bool, str)) or not limit >= 0:
            raise InputError(f"budget must be US dollars, 0 or more, got {limit!r}.")
        if price is None:
            raise InputError(
                f"budget={limit} cannot be enforced: {reason or f'no price is known for {model!r}'}. Leave budget out."
            )
        self._limit = limit
        self._price = price
        self._tokens = tokens or TokenCalibration()
        self._limited = limited
        self._settled = threading.Condition()
        self._in_flight: set[Reservation] = set()
        self._reserved = 0.0
        self._exclusive = False
        self._priced_at: tuple[float, float, tuple[bool, bool]] | None = None
        self._answers = 0
        self._unreported = 0
        """Answers without a usage."""
        self._most_ratio = 0.0
        self._beyond = 0.0
        self.spent = 0.0
        self._counter = counter
        self._owner = os.urandom(16)
        self._others_spent = self._others_reserved = 0.0
        self._unreachable_since = math.inf

    def reserve(self, bounds: TokenBounds, stopped: Callable[[], bool] = lambda: False) -> Reservation | None:
        """Reserve dollars for a request; return ``None`` if it has to be sent in smaller parts.

        Waits while only the reservations of other requests are in the way: most use less. Raises BudgetExceededError
        for a request of one input that does not fit.
        """
        with self._settled:
            while True:
                self._reprice()
                dollars = self._exposure(bounds)
                fits = (
                    not self._exclusive
                    and self.spent + self._reserved + dollars <= self._limit
                    and (self._trusted or len(self._in_flight) <= self._answers)
                )
                if self._claim(dollars if fits else math.inf) and fits:
                    return self._add(Reservation(bounds, dollars))
                if stopped():
                    break
                if not self._in_flight and not self._others_reserved and self._reachable:
                    likely = self._likely(bounds)
                    if self.spent + likely > self._limit:
                        break
                    if self._claim(dollars, likely):
                        return self._add(Reservation(bounds, dollars, exclusive=True))
                    if not self._others_reserved and self._reachable:
                        break
                self._settled.wait(0.1)
            if bounds.inputs > 1 and not stopped():
                return None
            raise self._exceeded(bounds)

    def settle(
        self, reservation: Reservation, used: tuple[int, int] | None, *, response_bytes: int | None = None
    ) -> None:
        """Release a reservation and count the tokens (in, out) used; ``None``, if unknown, counts the most possible.

        ``response_bytes`` is the size of an answer whose usage is unknown, ``None`` if no answer came.
        """
        bounds = reservation.bounds
        with self._settled:
            self._in_flight.discard(reservation)
            self._reserved = self._reserved - reservation.dollars if self._in_flight else 0.0
            self._exclusive = self._exclusive and not reservation.exclusive
            if used is None:
                self._unreported += response_bytes is not None
                unmeasured = response_bytes is not None or self._answers == self._unreported
                self.spent += self._most_unmeasured(bounds, response_bytes or 0) if unmeasured else self._most(bounds)
            else:
                self.spent += self._price.cost(*used)
                # Estimates from bytes are too low for numbers and rare scripts, and limits do not hold for reasoning.
                self._most_ratio = max(self._most_ratio, used[0] / max(1.0, bounds.most_in))
                self._beyond = max(self._beyond, used[1] - bounds.most_out)
            self._answers += used != (0, 0)
            self._settled.notify_all()
            if not self._in_flight:
                # Others may wait for what was reserved. While more is in flight, the next request tells it.
                with contextlib.suppress(CacheError):
                    self._claim(math.inf)

    def close(self) -> None:
        """Tell the counter what was spent, once nothing more is sent."""
        if self._counter is not None:
            with self._settled:
                # What is in flight still may have been paid for.
                self._counter.end(self._owner, self.spent + self._reserved)

    @property
    def _reachable(self) -> bool:
        return self._unreachable_since == math.inf

    def _claim(self, dollars: float, likely: float | None = None) -> bool:
        """Reserve dollars at the counter, too; infinite ones only tell it what was spent and ask it for the others."""
        if self._counter is None:
            return True
        claim = self._counter.claim(self._owner, self.spent, self._reserved, dollars, likely)
        if claim is None:
            self._unreachable_since = min(self._unreachable_since, time.monotonic())
            if time.monotonic() - self._unreachable_since > COUNTER_LOST_S:
                raise CacheError(
                    f"What the workers have spent of the budget is counted by {self._counter.where}, which cannot be "
                    "reached. Nothing more is sent, because it might exceed the budget."
                )
            return False
        self._unreachable_since = math.inf
        self._others_spent, self._others_reserved = claim.others_spent, claim.others_reserved
        return claim.granted

    def _exceeded(self, bounds: TokenBounds) -> BudgetExceededError:
        likely, total = self._likely(bounds), self.spent + self._others_spent
        limit = self._limit if self._counter is None else self._counter.limit
        lower = ", or lower max_tokens," if bounds.most_out else ""
        spent = f"${format_digits(total)}"
        if not self._unreported:
            spent += " is spent"
        else:
            spent = (
                f"up to {spent} is spent, because the service reported no usage for {self._unreported:,} "
                f"answer{'s' if self._unreported > 1 else ''}, which count at the most that they may have cost,"
            )
        return BudgetExceededError(
            f"The budget of ${format_digits(limit)} does not cover the next request: {spent} and the next request may "
            f"cost ${format_digits(likely, 2)}. Raise budget={lower} and run again."
        )

    def _add(self, reservation: Reservation) -> Reservation:
        self._in_flight.add(reservation)
        self._reserved += reservation.dollars
        self._exclusive = self._exclusive or reservation.exclusive
        return reservation

    def _reprice(self) -> None:
        """Reserve more, or less, for the requests in flight where answers have shown what they may cost."""
        known = (self._trusted, self._measures)
        priced_at = (self._most_ratio, max(self._beyond, self._tokens.most_beyond), known)
        if priced_at != self._priced_at:
            self._priced_at = priced_at
            for reservation in self._in_flight:
                reservation.dollars = self._exposure(reservation.bounds)
            self._reserved = sum(reservation.dollars for reservation in self._in_flight)

    @property
    def _trusted(self) -> bool:
        """Whether enough answers have shown what these requests cost."""
        measured = self._answers - self._unreported
        return self._measures and (self._tokens.trusted if self._limited else measured >= TRUSTED_ANSWERS)

    @property
    def _measures(self) -> bool:
        """Whether nearly every answer so far came with its usage."""
        return self._answers - self._unreported >= TRUSTED_ANSWERS * self._unreported

    def _most_in(self, bounds: TokenBounds) -> float:
        return bounds.most_in * max(1.0, self._most_ratio)

    def _most_out(self, bounds: TokenBounds) -> float:
        # Twice, because the next answer may exceed its limit by more than those so far.
        return bounds.most_out + 2.0 * max(self._beyond, self._tokens.most_beyond) if bounds.most_out else 0.0

    def _most(self, bounds: TokenBounds) -> float:
        """Dollars that a request may cost at most, as far as is known."""
        return self._price.cost(self._most_in(bounds), self._most_out(bounds))

    def _exposure(self, bounds: TokenBounds) -> float:
        """Dollars that it may cost if it is one of several in flight, of which each may be the first to show more."""
        if not self._measures:
            return self._most_unmeasured(bounds)
        if not bounds.most_out:
            return self._most(bounds)
        floor = TESTED_OUTPUT_TOKENS if self._trusted else UNTESTED_OUTPUT_TOKENS
        return self._price.cost(self._most_in(bounds), max(self._most_out(bounds), floor))

    def _most_unmeasured(self, bounds: TokenBounds, response_bytes: int = 0) -> float:
        """Dollars that it may cost at most where no usage shows that: by its bytes, and those of its answer."""
        tokens_in = max(self._most_in(bounds), UNREPORTED_TOKENS_PER_BYTE * bounds.most_in)
        if not bounds.most_out:
            return self._price.cost(tokens_in, 0.0)
        tokens_out = max(self._most_out(bounds), float(response_bytes), UNTESTED_OUTPUT_TOKENS * bounds.inputs)
        return self._price.cost(tokens_in, tokens_out)

    def _likely(self, bounds: TokenBounds) -> float:
        """Dollars that a request costs if its texts are like those so far."""
        if self._answers:
            # Of many texts at once, more may be longer or rarer than those so far than of one.
            margin = MANY_TEXTS_MARGIN if bounds.inputs > 1 else 1.0
            tokens_in = bounds.most_in * min(max(1.0, self._most_ratio), margin * (self._most_ratio or 1.0))
        else:
            # Many texts at once must not be the first to show how the model counts them.
            tokens_in = bounds.expected_in if bounds.inputs == 1 else self._most_in(bounds)
        # What other runs took beyond their limits shows little about this one, which may have another effort.
        return self._price.cost(tokens_in, bounds.most_out + self._beyond if bounds.most_out else 0.0)
