"""Checks of the numbers that verbs by nearness take."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from skytells_nb.errors import InputError


def check_count(name: str, given: Any) -> int:
    """A whole number, 1 or more."""
    if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
        raise InputError(f"{name} is 1 or more; found {given!r}.")
    return int(given)


def check_threshold(given: Any) -> float:
    """A cosine from above 0 up to 1."""
    if not isinstance(given, Real) or isinstance(given, bool) or not 0 < float(given) <= 1:
        raise InputError(f"threshold is a cosine similarity above 0 and at most 1; found {given!r}.")
    return float(given)
