"""Requests and tokens of a window as one number: for how many requests what is left will do."""

from __future__ import annotations

import math

from skytells_nb.client.transport.rate_limits import RateLimits

MEMORY = 0.95
"""Part of the tokens and requests seen that stays with each new answer."""
STEADY = 0.1
"""Change of a limit, counted in requests, below which it is the same limit."""


class TokenMeter:
    """What a request takes of each token meter, as everybody's requests show: by what both remainders fell."""

    def __init__(self) -> None:
        self._tokens = [0.0, 0.0]
        self._requests = [0.0, 0.0]
        self._before: RateLimits | None = None
        self._limit = math.inf
        self.bound_by = "requests"

    def as_requests(self, told: RateLimits, estimate: float) -> tuple[float, float, float] | None:
        """Limit, remainder and window in requests; ``estimate`` is a request's tokens. ``None`` where none is told."""
        if not told.window:
            return None
        limit, left, bound_by = math.inf, math.inf, "requests"
        if told.limit_requests and told.remaining_requests is not None:
            limit, left = float(told.limit_requests), float(told.remaining_requests)
        before, self._before = self._before, told
        for kind, most, remaining, was in (
            (0, told.limit_tokens_in, told.remaining_tokens_in, before.remaining_tokens_in if before else None),
            (1, told.limit_tokens_out, told.remaining_tokens_out, before.remaining_tokens_out if before else None),
        ):
            if not most or remaining is None:
                continue
            if was is not None and before is not None:
                self._learn(kind, was - remaining, before, told)
            each = self._tokens[kind] / self._requests[kind] if self._requests[kind] else estimate
            if each <= 0:
                continue
            if most / each < limit:
                limit, bound_by = most / each, "tokens"
            left = min(left, remaining / each)
        if limit == math.inf:
            return None
        if bound_by == "tokens" == self.bound_by and abs(limit - self._limit) < STEADY * self._limit:
            limit = self._limit
        self._limit, self.bound_by = limit, bound_by
        return limit, min(left, limit), told.window

    def _learn(self, kind: int, tokens: int, before: RateLimits, told: RateLimits) -> None:
        requests = 1
        if before.remaining_requests is not None and told.remaining_requests is not None:
            requests = before.remaining_requests - told.remaining_requests
        if requests > 0 and tokens > 0:
            self._tokens[kind] = MEMORY * self._tokens[kind] + tokens
            self._requests[kind] = MEMORY * self._requests[kind] + requests
