"""Parameters that a service rejects, in many words: those of this library give way, those of the caller do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from paid_service import PaidService, Refusal, paid, refusal

from skytells_nb.engine.operations.jobs import LibraryDefault, completion_job
from skytells_nb.engine.operations.request_fallbacks import downgrade_body
from skytells_nb.engine.service.profile import forget_profiles
from skytells_nb.errors import BadRequestError, RowError

PROMPTS = [f"text {n}" for n in range(20)]
TEMPERATURE_WORDS: list[Refusal] = [
    refusal(
        400,
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        param="temperature",
        code="unsupported_value",
    ),
    refusal(400, "invalid temperature: only 1 is allowed for this model"),
    refusal(422, "`temperature` is deprecated for this model."),
    (422, {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted", "input": 0.0}]}),
    refusal(500, "litellm.UnsupportedParamsError: gpt-5 models don't support temperature=0."),
    refusal(400, "Only the default (1) value is supported."),
    (400, "Unrecognized request argument supplied: temperature"),
]
LIMIT_WORDS: list[Refusal] = [
    refusal(
        400,
        "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.",
        param="max_tokens",
    ),
    refusal(422, "max_tokens: unknown field"),
    (422, {"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]}),
    refusal(400, "`max_tokens` is deprecated, please send `max_completion_tokens`"),
]


def without_temperature(said: Refusal) -> PaidService:
    return PaidService(lambda body: said if "temperature" in body else None, say=lambda body: '{"label": "x"}')


def job(**params: Any) -> Any:
    return completion_job("gpt-5", params=params)


@pytest.mark.parametrize("said", TEMPERATURE_WORDS)
def test_a_temperature_that_nobody_asked_for_gives_way(tmp_path: Path, said: Refusal) -> None:
    service = without_temperature(said)
    with paid(service, tmp_path / "c.sqlite") as session:
        report = session.engine.run(job(temperature=LibraryDefault(0.0)), PROMPTS).report
        assert (report.answered, report.requests) == (20, 21)
        forget_profiles()
        session.engine.run(job(temperature=LibraryDefault(0.0)), ["another text"])
    assert len(service.refused) == 1


@pytest.mark.parametrize("said", TEMPERATURE_WORDS)
def test_a_temperature_that_was_asked_for_stays(said: Refusal) -> None:
    service = without_temperature(said)
    with paid(service, cache="off", max_retries=0) as session, pytest.raises(Exception, match=r"\(HTTP (400|422|500)"):
        session.engine.run(job(temperature=0.0), PROMPTS, on_error="raise")
    assert not service.answered


def test_every_method_with_a_default_does_without_it() -> None:
    service = without_temperature(TEMPERATURE_WORDS[0])
    frame = pd.DataFrame({"t": PROMPTS})
    with paid(service, cache="off"):
        labels = frame.skytells.classify("t", ["x", "y"], progress=False)["label"]
        assert labels.tolist() == ["x"] * 20
        assert frame.skytells.translate("t", "French", progress=False).iloc[:, -1].notna().all()
        with pytest.raises(RowError, match="temperature"):
            frame.head(2).skytells.classify("t", ["x", "y"], temperature=0.0, on_error="raise", progress=False)
    assert len(service.refused) <= 4


def test_a_text_that_is_refused_does_not_change_the_temperature() -> None:
    service = PaidService(lambda body: refusal(400, "No.") if body["messages"][-1]["content"] == "text 3" else None)
    with paid(service, cache="off", max_in_flight=1) as session:
        report = session.engine.run(job(temperature=LibraryDefault(0.0)), PROMPTS, on_error="null").report
        assert list(report.errors) == [3]
        assert session.engine.profile("gpt-5").get_fact("temperature") == 0
    assert all(body["temperature"] == 0 for body in service.answered)


@pytest.mark.parametrize("said", LIMIT_WORDS)
def test_the_limit_of_tokens_is_sent_under_the_name_that_is_taken(tmp_path: Path, said: Refusal) -> None:
    service = PaidService(lambda body: said if "max_tokens" in body else None)
    with paid(service, tmp_path / "c.sqlite") as session:
        assert session.engine.run(job(max_tokens=7), PROMPTS).report.answered == 20
        forget_profiles()
        assert session.engine.run(job(max_tokens=8), PROMPTS).report.answered == 20
    assert len(service.refused) == 1
    assert {body["max_completion_tokens"] for body in service.answered} == {7, 8}


def test_the_newer_name_gives_way_to_the_older_one() -> None:
    said = refusal(400, "unknown field `max_completion_tokens`")
    service = PaidService(lambda body: said if "max_completion_tokens" in body else None)
    with paid(service, cache="off") as session:
        assert session.engine.run(job(max_completion_tokens=7), PROMPTS).report.answered == 20
    assert {body["max_tokens"] for body in service.answered} == {7}


def test_a_limit_that_is_too_high_is_the_callers_error() -> None:
    said = refusal(400, "max_tokens is too large: 99999. This model takes at most 4096.", param="max_tokens")
    service = PaidService(lambda body: said)
    with paid(service, cache="off", max_in_flight=2) as session, pytest.raises(BadRequestError, match="too large"):
        session.engine.run(job(max_tokens=99_999), PROMPTS, on_error="null")
    assert all("max_tokens" in body for body in service.refused)


def test_a_service_that_takes_neither_name_says_so() -> None:
    service = PaidService(lambda body: refusal(400, "Unsupported parameter: max_tokens, max_completion_tokens"))
    with paid(service, cache="off", max_in_flight=2) as session, pytest.raises(BadRequestError, match="Unsupported"):
        session.engine.run(job(max_tokens=9), PROMPTS, on_error="null")
    assert service.requests <= 2 * 14


def test_the_cache_finds_an_answer_whatever_form_it_was_sent_in(tmp_path: Path) -> None:
    service = without_temperature(TEMPERATURE_WORDS[0])
    with paid(service, tmp_path / "c.sqlite") as session:
        session.engine.run(job(temperature=LibraryDefault(0.0)), PROMPTS)
        assert session.engine.run(job(temperature=0.0), PROMPTS).report.cached == 20


def test_a_preview_shows_what_is_sent() -> None:
    service = PaidService(lambda body: LIMIT_WORDS[0] if "max_tokens" in body else None)
    frame = pd.DataFrame({"t": PROMPTS})
    with paid(service, cache="off"):
        frame.skytells.complete("{t}", max_tokens=5, progress=False)
        (request,) = frame.skytells.preview("{t}", 1, max_tokens=5).requests
    assert request == service.answered[-1] | {"messages": request["messages"]}


def test_a_parameter_of_one_row_is_its_own() -> None:
    body = {"temperature": 0.7, "max_tokens": 5}
    assert downgrade_body(body, {"temperature": 1}) == body
    assert downgrade_body({"temperature": LibraryDefault(0.0)}, {"temperature": 1}) == {}
    assert downgrade_body(body, {"max_tokens": 1}) == {"temperature": 0.7, "max_completion_tokens": 5}
