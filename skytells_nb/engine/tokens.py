"""How far the byte estimate of tokens is off for a model, learnt from what the service counted."""

from __future__ import annotations

import threading

LEAST, MOST = 0.25, 4.0
"""A factor outside is taken for a fault of the count, not for a property of the text."""
ENOUGH_TOKENS = 50.0
"""Estimated tokens that must have been counted before the factor is used."""


class TokenScale:
    """Tokens that the service counts for each token estimated from bytes, over all that one model was sent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._estimated = 0.0
        self._counted = 0.0

    def learn(self, estimated: float, counted: float) -> None:
        """A request was estimated at so many input tokens and counted at so many."""
        if estimated > 0 and counted > 0:
            with self._lock:
                self._estimated += estimated
                self._counted += counted

    @property
    def factor(self) -> float | None:
        """Counted over estimated tokens, ``None`` before there is enough to say."""
        with self._lock:
            if self._estimated < ENOUGH_TOKENS:
                return None
            return min(MOST, max(LEAST, self._counted / self._estimated))


_scales: dict[tuple[str, str], TokenScale] = {}
_lock = threading.Lock()


def scale_for(origin: str, model: str) -> TokenScale:
    """The scale of a model in this process."""
    with _lock:
        return _scales.setdefault((origin, model), TokenScale())
