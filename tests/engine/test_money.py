"""What a call is said to cost before, and what is said of it after."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from paid_service import PaidService, paid
from served import connected, served, wait_until_idle

from skytells_nb.engine.operations.conversation import PromptOptions
from skytells_nb.engine.operations.jobs import RateOptions, completion_job, embedding_job
from skytells_nb.engine.service.profile import MAX_FACTOR, MIN_FACTOR, TokenCalibration
from skytells_nb.errors import InputError
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.types.models import LISTED_PRICES

JOB = completion_job("gpt-5")
EMBED = embedding_job("skytells-embed-3-small")


def test_a_scale_says_nothing_before_it_has_seen_enough() -> None:
    scale = TokenCalibration()
    scale.observe(10.0, 20)
    assert scale.factor is None
    scale.observe(90.0, 180)
    assert scale.factor == pytest.approx(2.0)


def test_a_scale_stays_within_reason() -> None:
    low, high = TokenCalibration(), TokenCalibration()
    low.observe(1000.0, 1)
    high.observe(1000.0, 100_000)
    assert (low.factor, high.factor) == (MIN_FACTOR, MAX_FACTOR)


def test_a_count_that_did_not_come_teaches_nothing() -> None:
    scale = TokenCalibration()
    scale.observe(1000.0, 0)
    assert scale.factor is None


def test_estimates_follow_what_the_service_counted(tmp_path: Path) -> None:
    """The stand-in counts words, so 300 one-letter words are 300 tokens, and 150 by their bytes."""
    texts = [f"{n} " + "a " * 300 for n in range(6)]
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        before = session.engine.estimate(EMBED, texts)
        run = session.engine.run(EMBED, texts[:3]).report
        after = session.engine.estimate(EMBED, texts)
    assert not before.calibrated
    assert after.calibrated
    assert before.tokens_in < 0.6 * 2 * run.tokens_in
    assert after.tokens_in == pytest.approx(run.tokens_in, rel=0.02)


def test_an_estimate_takes_the_length_of_answers_from_those_it_has(tmp_path: Path) -> None:
    prompts, job = [f"say one two three {n}" for n in range(20)], completion_job("gpt-5")
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        guessed = session.engine.estimate(job, prompts)
        mean = session.engine.run(job, prompts[:10]).report.tokens_out / 10
        learned = session.engine.estimate(completion_job("gpt-5"), prompts)
    assert guessed.tokens_out == 20 * 256
    assert learned.tokens_out == round(10 * mean)


def test_an_estimate_says_how_long_it_takes_at_the_known_limit(tmp_path: Path) -> None:
    prompts = [f"say {n}" for n in range(500)]
    limits = LimitOptions(requests=100, window=60.0)
    with served(limits=limits) as server, connected(server, tmp_path / "c.sqlite") as session:
        assert session.engine.estimate(JOB, prompts).minutes is None
        session.engine.run(JOB, prompts[:2])
        estimate = session.engine.estimate(JOB, prompts)
    assert estimate.minutes == pytest.approx(498 / 100, rel=0.25)
    assert estimate.limit is not None
    assert "100" in estimate.limit
    assert estimate.limit in str(estimate)


def test_a_cap_of_requests_a_minute_is_stored(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        pace = RateOptions(requests_per_minute=600)
        report = session.engine.run(JOB, [f"say {n}" for n in range(16)], rate_options=pace).report
        assert report.answered == 16
        assert report.seconds > 1.0
        session.engine.run(JOB, ["say more"], rate_options=RateOptions())


@pytest.mark.parametrize(
    "given", [{"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"max_in_flight": 0}, {"requests_per_minute": "9"}]
)
def test_a_pace_that_is_none_is_rejected(given: Any) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        RateOptions(**given)


def test_the_catalog_prices_an_estimate(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        session.engine.run(JOB, ["say 1"])
        assert session._models is None
        session.engine.estimate(JOB, ["say 2"])
        assert session._models


def test_the_listed_price_stands_in_for_a_catalog_that_cannot_be_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served() as server:
        session = connected(server, tmp_path / "c.sqlite")
    with session:
        assert session.fetch_price("gpt-5") == LISTED_PRICES["gpt-5"]
        assert session._models is None
    (line,) = [record.getMessage() for record in caplog.records]
    assert line == "The catalog of models could not be read (ConnectError); list prices are used."


def test_used_keys_are_those_read_or_stored(tmp_path: Path) -> None:
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        session.engine.run(JOB, ["say 1", "say 2"])
        with connected(server, tmp_path / "c.sqlite") as later:
            later.engine.run(JOB, ["say 2", None, "say 3"])
            later.engine.load_cached(JOB, "say 1")
            later.engine.load_cached(JOB, "never asked")
            assert later.engine.used_keys() == later.engine._keys(JOB, ["say 2", "say 3", "say 1"])


def test_a_cache_that_is_off_uses_nothing() -> None:
    with served() as server, connected(server, "off") as session:
        session.engine.run(JOB, ["say 1"])
        assert session.engine.used_keys() == []


def test_the_log_has_a_line_for_each_retry_and_none_of_the_texts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prompts = [f"secret{n} word" for n in range(20)]
    with served("status=503, times=1, rate=0.5") as server, connected(server, tmp_path / "c.sqlite") as session:
        with caplog.at_level(logging.INFO, "skytells_nb"):
            report = session.engine.run(JOB, prompts).report
        failed = wait_until_idle(server, "chat").statuses.get(503, 0)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("skytells_nb.engine")]
    assert failed == report.retries > 0
    assert sum("retrying" in line for line in lines) == report.retries
    assert all("ServerError 503" in line for line in lines if "retrying" in line)
    assert "complete with gpt-5 done: 20 rows" in lines[-1]
    assert "secret" not in "".join(lines)


@pytest.mark.parametrize(
    "failed",
    [
        {"choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "error"}]},
        {"choices": [{"index": 0, "message": {"content": ""}, "error": {"message": "It broke."}}]},
        {"error": {"message": "It broke."}},
    ],
)
def test_what_a_failed_answer_says_that_it_used_is_counted_and_it_is_asked_again_once(failed: dict[str, Any]) -> None:
    body = {**failed, "usage": {"prompt_tokens": 50, "completion_tokens": 30, "total_tokens": 80}}
    service = PaidService(lambda request: (200, body))
    with paid(service) as session:
        report = session.engine.run(JOB, ["say"], on_error="null").report
    assert service.requests == 2
    assert (report.tokens_in, report.tokens_out, report.missing_usage) == (100, 60, 0)
    assert report.cost == pytest.approx(LISTED_PRICES["gpt-5"].cost(100, 60))


def test_what_a_failed_response_says_that_it_used_is_counted() -> None:
    usage = {"input_tokens": 50, "output_tokens": 30, "total_tokens": 80}
    body = {"status": "failed", "error": {"message": "It broke."}, "output": [], "usage": usage}
    service = PaidService(lambda request: (200, body))
    with paid(service) as session:
        job = completion_job("gpt-5", options=PromptOptions(api="responses"))
        report = session.engine.run(job, ["say"], on_error="null").report
    assert (service.requests, report.tokens_in, report.tokens_out) == (2, 100, 60)
