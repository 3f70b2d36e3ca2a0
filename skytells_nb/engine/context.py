"""The collaborators of one run, made once by the engine and passed on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from skytells_nb.cache.store import CacheStore
from skytells_nb.client.client import Skytells
from skytells_nb.engine.budget import Budget
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.planning import Plan, PlannedRequest
from skytells_nb.engine.rate_limit.limiter import RateLimiter
from skytells_nb.engine.results import ResultBuffer
from skytells_nb.engine.retry import CircuitBreaker, RetryPolicy
from skytells_nb.engine.service.profile import ServiceProfile
from skytells_nb.engine.single_flight import SingleFlight
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.types.models import Price

Retry = Literal["failed"]
"""Which cached answers are requested again: those that left their row without a value."""


class ClientPool(Protocol):
    """Where workers get their clients, one each."""

    def acquire(self) -> Skytells: ...

    def release(self, client: Skytells) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class RunContext:
    """What one run works on, and what it works with."""

    job: Job
    plan: Plan
    weights: NDArray[np.int64]
    """Rows of each distinct input, (k,)."""
    buffer: ResultBuffer
    """Where results are collected."""
    keys: NDArray[np.void]
    """Cache key of each distinct input, (k,); empty if the cache is off."""
    cache: CacheStore
    single_flight: SingleFlight | None
    """Inputs in flight in this process; ``None`` if the cache is off."""
    plan_requests: Callable[[NDArray[np.int64]], list[PlannedRequest]]
    clients: ClientPool
    rate_limiter: RateLimiter
    profile: ServiceProfile
    """What the service is known to accept."""
    retry: RetryPolicy
    breaker: CircuitBreaker
    price: Price | None
    """``None`` if it is not known."""
    budget: Budget | None
    """``None`` if the call has no limit."""
    on_progress: ProgressCallback
    stop_on_error: bool
    """Whether the first failed input ends the run."""
    fresh: bool = False
    """Whether every input is requested, whatever is in the cache; new answers replace those."""
    is_reusable: Callable[[bytes], bool] | None = None
    """Whether a cached value is used; one that is not is replaced by the new answer. ``None`` uses all."""
