"""How much goes into one request, where a service takes less than was sent."""

from __future__ import annotations

import re
from dataclasses import dataclass

from skytells_nb.engine.service.profile import INPUTS, SIZE, ServiceProfile
from skytells_nb.errors import APIError, SkytellsError

TOO_LARGE = 413
_BOUND = r"(?:at most|up to|no more than|<=|≤|(?:max(?:imum)?|limit(?:ed)?|exceed\w*)\b[^0-9.;]{0,40}?)"
_OTHER_UNIT = r"(?:[kmg]?i?b\b|bytes|tokens|char|dim|per\b|requests|second)"
_STATED = re.compile(rf"{_BOUND}\s*(\d{{1,6}})\b(?!\s*{_OTHER_UNIT})", re.IGNORECASE)
_ABOUT_SIZE = re.compile(r"bytes|\b[kmg]i?b\b|payload|entity|body|tokens|characters|context|too long", re.IGNORECASE)
_ABOUT_COUNT = re.compile(r"batch|array|items|inputs per|number of|too many (?!tok)|\d (?:inputs|texts)", re.IGNORECASE)


@dataclass(slots=True)
class SplitGroup:
    """The parts of a request that was rejected for its size: if all are accepted, the size was at fault."""

    remaining: int
    by_size: bool
    rejections: int = 1
    """Rejections of this search so far."""
    inputs: int = 0
    tokens: float = 0.0


class RequestSize:
    """Bounds of the requests of one run: inputs, and their tokens by the estimate from bytes.

    A rejected request may be too large, or one of its inputs may be at fault. So it is sent in smaller parts, one at a
    time (``searching``), until one is accepted, and meanwhile nothing as large is sent. A rejection of a part no larger
    than what was accepted shows that an input is at fault, and lifts the bounds. Not thread-safe.
    """

    def __init__(self, profile: ServiceProfile) -> None:
        self._profile = profile
        self._accepted_inputs = 0
        self._accepted_tokens = 0.0
        self._by_size = False
        self.rejections = 0
        """Rejections for size that no answer has contradicted."""
        self._rejection: tuple[type, int] | None = None
        self.searching = False
        self.max_inputs: int | None = None
        self.max_tokens: float | None = None

    @property
    def by_size(self) -> bool:
        """Whether the last bound was one of size, not of the number of inputs."""
        return self._by_size

    def record_rejected(self, inputs: int, tokens: float, problem: SkytellsError) -> bool:
        """A request was rejected; return whether it is taken to be too large, so that the bounds are lower now."""
        kind = (type(problem), problem.status if isinstance(problem, APIError) else 0)
        if inputs == 1:
            # It is at fault by itself, and explains the rejections of the requests that it was part of.
            if kind == self._rejection:
                self._lift()
            return False
        many, large = inputs > self._accepted_inputs, tokens > self._accepted_tokens
        if not many and not large:
            self._lift()
            return False
        self._rejection = kind
        words = problem.message if isinstance(problem, APIError) else ""
        about_count = _ABOUT_COUNT.search(words) is not None
        about_size = not about_count and (kind[1] == TOO_LARGE or _ABOUT_SIZE.search(words) is not None)
        self._by_size = large and (about_size or not many)
        if self._by_size:
            self.max_tokens = min(self.max_tokens or tokens, tokens / 2)
        else:
            stated = [int(number) for number in _STATED.findall(words)]
            stated = [number for number in stated if max(1, self._accepted_inputs) <= number < inputs]
            self.max_inputs = min(self.max_inputs or inputs, max(stated, default=inputs // 2))
        self.searching = True
        self.rejections += 1
        return True

    def record_accepted(self, inputs: int, tokens: float, group: SplitGroup | None) -> None:
        """A request was answered; ``group`` is the one that it is part of."""
        self.searching = False
        self._accepted_inputs = max(self._accepted_inputs, inputs)
        self._accepted_tokens = max(self._accepted_tokens, tokens)
        if self.max_inputs is not None:
            self.max_inputs = max(self.max_inputs, inputs)
        if self.max_tokens is not None and inputs > 1:
            self.max_tokens = max(self.max_tokens, tokens)
        if group is None:
            return
        group.remaining -= 1
        group.inputs = max(group.inputs, inputs)
        group.tokens = max(group.tokens, tokens)
        if group.remaining == 0:
            name, value = (SIZE, round(4 * group.tokens)) if group.by_size else (INPUTS, group.inputs)
            self._profile.learn_limit(name, value, rejections=group.rejections, inputs=group.inputs)

    def _lift(self) -> None:
        self.searching = False
        self.max_inputs = self.max_tokens = None
        self._rejection = None
        self.rejections = 0
