"""Which failures are retried."""

from __future__ import annotations

import pytest

from skytells_nb.engine.retry import MAX_RETRY_AFTER_S, RetryPolicy
from skytells_nb.errors import (
    ConnectError,
    ConnectionLostError,
    InvalidResponseError,
    RateLimitError,
    RequestTimeoutError,
    SkytellsError,
    TruncatedStreamError,
    api_error,
)

policy = RetryPolicy(retries=3, jitter=lambda: 1.0)


@pytest.mark.parametrize(
    "error",
    [ConnectionLostError("x"), *(api_error(s, None) for s in (408, 409, 500, 502, 503, 504))],
)
def test_transient_faults_are_retried_as_often_as_set(error: SkytellsError) -> None:
    assert [policy.allows(error, failures) for failures in (1, 2, 3, 4)] == [True, True, True, False]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 451])
def test_rejections_are_final(status: int) -> None:
    assert not policy.allows(api_error(status, None), 1)


def test_a_rate_limit_uses_up_no_attempt() -> None:
    assert policy.allows(api_error(429, None), 50)


@pytest.mark.parametrize("error", [InvalidResponseError("x"), TruncatedStreamError("x"), RequestTimeoutError("x")])
def test_what_may_have_been_paid_for_is_retried_once(error: SkytellsError) -> None:
    assert [policy.allows(error, failures) for failures in (1, 2)] == [True, False]


@pytest.mark.parametrize("error", [{"code": 429, "message": "x"}, {"type": "rate_limit_error", "message": "x"}])
def test_a_rate_limit_in_the_body_of_a_success_is_an_attempt_like_others(error: dict[str, object]) -> None:
    limited = api_error(200, {"error": error})
    assert isinstance(limited, RateLimitError)
    assert limited.status == 429
    assert [policy.allows(limited, failures) for failures in (1, 3, 4)] == [True, True, False]


def test_a_failure_that_was_paid_for_is_retried_once() -> None:
    paid = api_error(200, {"error": "x"})
    paid.tokens = 50, 30
    assert [policy.allows(paid, failures) for failures in (1, 2)] == [True, False]


def test_rejections_for_too_long_end_a_run() -> None:
    limited = api_error(429, None, retry_after=2)
    assert isinstance(limited, RateLimitError)
    assert policy.give_up(limited, policy.rate_limit_patience) is None
    assert "was rejected by the account's limit" in str(policy.give_up(limited, policy.rate_limit_patience + 1))


def test_a_wait_of_a_day_is_not_started() -> None:
    limited = api_error(429, None, retry_after=86_400)
    assert isinstance(limited, RateLimitError)
    assert "asks to wait 24 hours" in str(policy.give_up(limited, 0.0))


def test_an_unreachable_host_is_given_up_early() -> None:
    assert [policy.allows(ConnectError("x"), failures) for failures in (1, 2, 3)] == [True, True, False]


def test_nothing_is_retried_with_retries_0() -> None:
    assert not RetryPolicy(retries=0).allows(ConnectionLostError("x"), 1)


def test_the_wait_doubles_up_to_its_cap() -> None:
    assert [policy.wait(ConnectionLostError("x"), n) for n in (1, 2, 3, 10)] == [1.0, 2.0, 4.0, 8.0]


def test_retry_after_is_obeyed_up_to_a_cap() -> None:
    assert policy.wait(api_error(503, None, retry_after=7), 1) >= 7
    assert policy.wait(api_error(503, None, retry_after=86_400), 1) <= MAX_RETRY_AFTER_S + 2
