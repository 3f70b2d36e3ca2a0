"""Express limits of requests and of tokens as one number of requests."""

from __future__ import annotations

import math

from skytells_nb.client.transport.rate_limits import RateLimits

DECAY = 0.95
"""Weight that earlier tokens and requests retain with each response."""
STEADY = 0.1
"""Relative change of a limit, in requests, below which it is the same limit."""


class TokenMeter:
    """Tokens per request of each kind, measured on all traffic: by how much both remainders fell."""

    def __init__(self) -> None:
        self._tokens = [0.0, 0.0]
        self._requests = [0.0, 0.0]
        self._before: RateLimits | None = None
        self._limit = math.inf
        self.bound_by = "requests"

    def as_requests(self, reported: RateLimits, estimate: float) -> tuple[float, float, float] | None:
        """Return limit, remainder and window in requests; ``None`` if none is reported.

        ``estimate`` is a request's tokens.
        """
        if not reported.window:
            return None
        limit, remaining, bound_by = math.inf, math.inf, "requests"
        if reported.limit_requests and reported.remaining_requests is not None:
            limit, remaining = float(reported.limit_requests), float(reported.remaining_requests)
        before, self._before = self._before, reported
        before_in, before_out = (before.remaining_tokens_in, before.remaining_tokens_out) if before else (None, None)
        for kind, limit_tokens, remaining_tokens, remaining_before in (
            (0, reported.limit_tokens_in, reported.remaining_tokens_in, before_in),
            (1, reported.limit_tokens_out, reported.remaining_tokens_out, before_out),
        ):
            if not limit_tokens or remaining_tokens is None:
                continue
            if remaining_before is not None and before is not None:
                self._observe(kind, remaining_before - remaining_tokens, before, reported)
            tokens_per_request = self._tokens[kind] / self._requests[kind] if self._requests[kind] else estimate
            if tokens_per_request <= 0:
                continue
            if limit_tokens / tokens_per_request < limit:
                limit, bound_by = limit_tokens / tokens_per_request, "tokens"
            remaining = min(remaining, remaining_tokens / tokens_per_request)
        if limit == math.inf:
            return None
        if bound_by == "tokens" == self.bound_by and abs(limit - self._limit) < STEADY * self._limit:
            limit = self._limit
        self._limit, self.bound_by = limit, bound_by
        return limit, min(remaining, limit), reported.window

    def _observe(self, kind: int, tokens: int, before: RateLimits, reported: RateLimits) -> None:
        requests = 1
        if before.remaining_requests is not None and reported.remaining_requests is not None:
            requests = before.remaining_requests - reported.remaining_requests
        if requests > 0 and tokens > 0:
            self._tokens[kind] = DECAY * self._tokens[kind] + tokens
            self._requests[kind] = DECAY * self._requests[kind] + requests
