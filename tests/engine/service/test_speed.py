"""Seconds by tokens: expected, then as measured."""

from __future__ import annotations

import math

import pytest

from skytells_nb.engine.service.profile import MIN_MEASURED_S, SpeedEstimate, Throughput

EXPECTED = {"chat": Throughput(10.0, 100.0, 50.0), "embeddings": Throughput(100.0, 1000.0, math.inf)}


def test_seconds_are_those_of_requests_and_tokens() -> None:
    speed = SpeedEstimate(EXPECTED)
    assert speed.seconds("chat", 10, 100, 50) == pytest.approx(3.0)
    assert speed.seconds("embeddings", 1, 1000, 0) == pytest.approx(1.01)
    assert speed.seconds("images", 1, 1, 1) is None


def test_what_was_measured_corrects_what_was_expected() -> None:
    speed = SpeedEstimate(EXPECTED)
    speed.record("chat", 10, 100, 50, 6.0)
    assert speed.seconds("chat", 20, 200, 100) == pytest.approx(12.0)
    assert speed.seconds("embeddings", 1, 1000, 0) == pytest.approx(1.01)
    speed.record("chat", 10, 100, 50, 0.0)
    assert speed.seconds("chat", 10, 100, 50) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("requests", "seconds"),
    [(0, 60.0), (1, 0.9 * MIN_MEASURED_S)],
    ids=["all from the cache", "too short to mean anything"],
)
def test_a_run_that_says_nothing_changes_nothing(requests: int, seconds: float) -> None:
    speed = SpeedEstimate(EXPECTED)
    speed.record("chat", requests, 10, 10, seconds)
    speed.record("images", 5, 10, 10, 60.0)
    assert speed.seconds("chat", 10, 100, 50) == pytest.approx(3.0)
