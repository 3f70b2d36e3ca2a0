"""What travels together, and what has become of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from skytells_nb.engine.course import Course


@dataclass(slots=True)
class Request:
    """Distinct inputs that travel together, the rows they stand for, and how many input tokens they may have."""

    numbers: NDArray[np.int64]
    rows: int
    tokens: float
    estimated: float
    """The tokens that their bytes alone speak for."""
    failures: int = 0
    wait: float = 0.0
    """Seconds that it should wait by itself after it was refused."""


@dataclass
class Tally:
    """What a run has done so far; changed under its lock only."""

    errors: dict[int, Exception] = field(default_factory=dict)
    answered: int = 0
    requests: int = 0
    retries: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    rows_done: int = 0
    rows_failed: int = 0
    course: Course = field(default_factory=Course)
