"""A call that is wrong for every row ends after its first rejections; one that is wrong for some rows does not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from paid_service import PaidService, Refusal, paid, prompt_of, refusal
from serving import Exchange

from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.engine.retry import MAX_REPEATED_REJECTIONS, RepeatedRejections
from skytells_nb.errors import APIError, BadRequestError, ConnectError, NotFoundError, RateLimitError, ServerError

JOB = completion_job("gpt-5")
EMBED = embedding_job("skytells-embed-3-small")
IN_FLIGHT = 8
PROMPTS = [f"text {n}" for n in range(300)]


@pytest.mark.parametrize(
    "said",
    [
        refusal(400, "invalid model ID"),
        refusal(422, "Extra inputs are not permitted"),
        refusal(400, "Request 7f3a-11 failed: unknown field 'frobnicate'"),
        refusal(404, "not found"),
        (404, "<html><h1>Not Found</h1></html>"),
        (405, {"detail": "Method Not Allowed"}),
    ],
)
@pytest.mark.parametrize("job", [JOB, EMBED])
@pytest.mark.parametrize("on_error", ["warn", "null"])
def test_a_call_that_is_refused_for_every_row_ends_early(said: Refusal, job: Any, on_error: Any) -> None:
    service = PaidService(lambda body: said)
    with paid(service, max_in_flight=IN_FLIGHT) as session, pytest.raises(APIError) as caught:
        session.engine.run(job, PROMPTS, on_error=on_error)
    assert caught.value.status == said[0]
    assert any("No more requests were sent" in note for note in caught.value.__notes__)
    assert service.requests <= (1 if job is JOB else 5) * (MAX_REPEATED_REJECTIONS + IN_FLIGHT)


def test_a_refused_parameter_ends_the_run_that_asks_row_by_row() -> None:
    service = PaidService(lambda body: refusal(422, "top_k: Extra inputs are not permitted", param="top_k"))
    with paid(service, max_in_flight=IN_FLIGHT) as session, pytest.raises(BadRequestError, match="top_k"):
        session.engine.run(JOB, PROMPTS, on_error="null")
    assert service.requests <= MAX_REPEATED_REJECTIONS + IN_FLIGHT


def test_the_numbers_and_names_in_a_rejection_do_not_make_it_another() -> None:
    rejections = RepeatedRejections()
    problems = [
        BadRequestError(f"Request r-{n}: unknown field 'x{n}'.", status=400) for n in range(MAX_REPEATED_REJECTIONS)
    ]
    *first, last = [rejections.record(problem) for problem in problems]
    assert first == [None] * (MAX_REPEATED_REJECTIONS - 1)
    assert "rejected with the same error" in str(last)


def test_refusals_for_other_reasons_are_counted_anew() -> None:
    rejections = RepeatedRejections()
    for _ in range(MAX_REPEATED_REJECTIONS):
        assert rejections.record(BadRequestError("one", status=400)) is None
        assert rejections.record(BadRequestError("another", status=400)) is None
    for problem in (ServerError("down", status=503), ConnectError("gone")):
        assert rejections.record(problem) is None


@pytest.mark.parametrize(
    "said",
    [
        refusal(400, "The prompt was blocked.", code="content_filter"),
        refusal(400, "too long", code="context_length_exceeded"),
        refusal(400, "This model's maximum context length is 8192 tokens, you requested 9000."),
        refusal(413, "Request Entity Too Large"),
    ],
)
def test_texts_that_are_refused_for_what_they_are_do_not_end_a_run(said: Refusal) -> None:
    service = PaidService(lambda body: said if int(prompt_of(body).split()[1]) < 40 else None)
    with paid(service, max_in_flight=1) as session:
        report = session.engine.run(JOB, PROMPTS[:60], on_error="null").report
    assert (report.failed, report.answered) == (40, 20)


def test_a_run_that_has_answers_goes_on() -> None:
    """Twenty rows of a later run are refused, and others were answered by an earlier one."""
    service = PaidService(lambda body: refusal(400, "no") if int(prompt_of(body).split()[1]) >= 20 else None)
    with paid(service) as session:
        assert session.engine.run(JOB, PROMPTS[:20]).report.answered == 20
        report = session.engine.run(JOB, PROMPTS[:60], on_error="null").report
    assert (report.failed, report.cached) == (40, 20)


def test_a_few_rows_that_are_all_refused_are_row_errors() -> None:
    service = PaidService(lambda body: refusal(400, "no"))
    with paid(service) as session:
        report = session.engine.run(JOB, PROMPTS[:5], on_error="null").report
    assert report.failed == 5


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (4, refusal(413, "Request Entity Too Large")),
        (1, (413, "<html>413 Payload Too Large</html>")),
        (3, refusal(422, "batch size 10 > maximum allowed batch size 3")),
    ],
)
def test_a_request_that_is_too_large_is_sent_in_parts(limit: int, said: Refusal) -> None:
    service = PaidService(lambda body: said if len(body["input"]) > limit else None)
    with paid(service) as session:
        report = session.engine.run(EMBED, PROMPTS[:10]).report
    assert report.answered == 10


def test_a_text_that_is_too_large_costs_itself_only() -> None:
    said = refusal(413, "Input validation error: inputs must have less than 512 tokens. Given: 600")
    service = PaidService(lambda body: said if any(len(text) > 200 for text in body["input"]) else None)
    with paid(service) as session:
        report = session.engine.run(EMBED, [*PROMPTS[:5], "x" * 300, *PROMPTS[5:9]], on_error="null").report
    assert list(report.errors) == [5]


@pytest.mark.parametrize(("status", "kind"), [(429, RateLimitError), (503, ServerError)])
@pytest.mark.parametrize(("seconds", "words"), [("3600", "1 hour"), ("86400", "24 hours"), ("5400", "1.5 hours")])
def test_a_wait_beyond_reason_ends_a_run_at_once(status: int, kind: type[APIError], seconds: str, words: str) -> None:
    def script(exchange: Exchange) -> None:
        exchange.reply({"error": {"message": "The daily quota is used up"}}, status=status, retry_after=seconds)

    started = time.monotonic()
    with paid(script) as session, pytest.raises(kind, match=f"The daily quota is used up.*{words}"):  # type: ignore[arg-type]
        session.engine.run(JOB, PROMPTS)
    assert time.monotonic() - started < 60


def test_a_path_that_is_missing_for_some_rows_only_is_their_error() -> None:
    service = PaidService(lambda body: refusal(404, "gone") if prompt_of(body) == "text 7" else None)
    with paid(service, max_in_flight=1) as session:
        report = session.engine.run(JOB, PROMPTS[:20], on_error="null").report
    assert isinstance(report.errors[7], NotFoundError)
    assert report.answered == 19
