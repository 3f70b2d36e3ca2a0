"""How much a service takes in one request is found out with few rejections, and then known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paid_service import PaidService, Refusal, paid, refusal

from skytells_nb.engine.operations.jobs import LibraryDefault, completion_job, embedding_job
from skytells_nb.engine.service.profile import INPUTS, SIZE, ServiceProfile, forget_profiles
from skytells_nb.engine.service.request_size import RequestSize
from skytells_nb.errors import APIError, BadRequestError

EMBED = embedding_job("skytells-embed-3-small")
TEXTS = [f"text {n}" for n in range(3000)]
WORDINGS = [
    refusal(400, "input array too large: at most 64", param="input"),
    refusal(400, "No."),
    refusal(422, "batch size 2048 > maximum allowed batch size 64"),
    refusal(400, "Too many inputs. The maximum is 64 per request."),
    refusal(413, "Request Entity Too Large"),
    (413, "<html><h1>413 Request Entity Too Large</h1></html>"),
    refusal(400, "This endpoint takes fewer items."),
]


def limited(limit: int, said: Refusal) -> PaidService:
    return PaidService(lambda body: said if len(body["input"]) > limit else None)


@pytest.mark.parametrize("said", WORDINGS)
@pytest.mark.parametrize("limit", [64, 25, 1])
def test_a_limit_of_inputs_is_learned_once(tmp_path: Path, said: Refusal, limit: int) -> None:
    service, texts = limited(limit, said), TEXTS[: 3000 if limit > 1 else 60]
    with paid(service, tmp_path / "c.sqlite", max_in_flight=8) as session:
        report = session.engine.run(EMBED, texts, on_error="null").report
        assert report.answered == len(texts)
        assert len(service.refused) < 24
        # The first two were in flight together.
        sizes = [max(len(body["input"]) for body in service.refused[:2])]
        sizes += [len(body["input"]) for body in service.refused[2:]]
        assert sizes == sorted(set(sizes), reverse=True)
        refused = len(service.refused)
        forget_profiles()
        session.engine.run(EMBED, [f"more {n}" for n in range(len(texts))])
        assert len(service.refused) <= refused + (said[0] == 413)
        estimate = session.engine.estimate(EMBED, [f"other {n}" for n in range(200)])
        assert estimate.requests >= 200 / limit


def test_a_limit_of_the_body_is_learned_as_bytes() -> None:
    """A later call has shorter texts, and more of them in a request."""
    service = PaidService(
        lambda body: refusal(413, "Payload Too Large") if sum(map(len, body["input"])) > 40_000 else None
    )
    with paid(service, cache="off") as session:
        session.engine.run(EMBED, [f"{n} {'x' * 500}" for n in range(600)])
        refused = len(service.refused)
        assert 0 < refused < 12
        session.engine.run(EMBED, [f"{n} {'x' * 500}" for n in range(600)])
        session.engine.run(EMBED, TEXTS[:1500])
        assert len(service.refused) == refused
        assert len(service.answered[-1]["input"]) > 500


def test_a_text_at_fault_does_not_make_requests_small() -> None:
    service = PaidService(lambda body: refusal(400, "invalid input") if "text 700" in body["input"] else None)
    with paid(service, cache="off", max_in_flight=4) as session:
        report = session.engine.run(EMBED, TEXTS, on_error="null").report
        assert list(report.errors) == [700]
        assert service.requests < 40
        assert session.engine.profile(EMBED.model).get_fact(INPUTS) is None


@settings(max_examples=25)
@given(
    limit=st.integers(1, 70), faulty=st.sets(st.integers(0, 99), max_size=3), status=st.sampled_from([400, 413, 422])
)
def test_every_text_but_those_at_fault_gets_its_vector(limit: int, faulty: set[int], status: int) -> None:
    wrong = {f"text {n}" for n in faulty}
    said = refusal(status, "It cannot be processed.")
    service = PaidService(lambda body: said if len(body["input"]) > limit or wrong & {*body["input"]} else None)
    with paid(service, cache="off", max_in_flight=4) as session:
        forget_profiles()
        report = session.engine.run(EMBED, TEXTS[:100], on_error="null").report
    assert set(report.errors) == faulty
    assert sum(len(body["input"]) for body in service.answered) == 100 - len(faulty)


def problem(words: str, status: int = 400) -> APIError:
    return BadRequestError(words, status=status) if status != 413 else APIError(words, status=status)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("at most 64", 64),
        ("batch size 100 > maximum allowed batch size 32", 32),
        ("Expected an array with maximum length 96, but got an array with length 100", 96),
        ("You may send up to 10 inputs", 10),
        ("No more than 25 texts", 25),
        ("array length must be <= 16", 16),
        ("Limited to 5 requests per second", 50),
        ("the dimension must be at most 64 dimensions", 50),
        ("maximum 200 inputs", 50),
        ("No.", 50),
    ],
)
def test_the_limit_that_a_refusal_states_is_tried_next(words: str, expected: int) -> None:
    size = RequestSize(ServiceProfile())
    assert size.record_rejected(100, 1000.0, problem(words))
    assert size.max_inputs == expected


@pytest.mark.parametrize(
    ("words", "status"),
    [("Payload Too Large", 413), ("The request body has 9 MB", 400), ("too many tokens in one request: 300000", 400)],
)
def test_words_about_size_bound_the_size(words: str, status: int) -> None:
    profile = ServiceProfile()
    size = RequestSize(profile)
    assert size.record_rejected(100, 1000.0, problem(words, status))
    assert (size.max_inputs, size.max_tokens) == (None, 500.0)
    assert profile.get_fact(SIZE) is None


def test_a_refusal_of_no_more_than_was_taken_is_one_of_a_text() -> None:
    size = RequestSize(ServiceProfile())
    size.record_accepted(50, 500.0, None)
    assert not size.record_rejected(50, 400.0, problem("No."))
    assert size.record_rejected(51, 400.0, problem("No."))
    assert size.max_inputs == 25


def test_an_encoding_that_is_refused_is_not_taken_for_a_size(tmp_path: Path) -> None:
    said: Any = refusal(400, "Only float values are available.")
    service = PaidService(lambda body: said if body["encoding_format"] == "base64" else None)
    with paid(service, tmp_path / "c.sqlite", max_in_flight=1) as session:
        assert session.engine.run(EMBED, TEXTS[:600]).report.answered == 600
        assert (len(service.answered), len(service.refused)) == (1, 1)
        assert session.engine.profile(EMBED.model).get_fact(INPUTS) is None
    with paid(service, tmp_path / "c.sqlite") as session:
        session.engine.run(EMBED, TEXTS[600:700])


@pytest.mark.parametrize("said", [refusal(400, "too many inputs"), refusal(413, "Request Entity Too Large")])
def test_a_chance_rejection_of_a_small_request_teaches_nothing(said: Refusal) -> None:
    """A second one of the same kind does."""
    refusals = [said]
    service = PaidService(lambda body: refusals.pop() if refusals and len(body["input"]) > 1 else None)
    with paid(service, cache="off", max_in_flight=1) as session:
        forget_profiles()
        profile = session.engine.profile(EMBED.model)
        assert session.engine.run(EMBED, TEXTS[:2]).report.answered == 2
        assert (profile.get_fact(INPUTS), profile.get_fact(SIZE)) == (None, None)
        assert session.engine.run(EMBED, TEXTS[2:4]).report.requests == 1
        refusals.append(said)
        assert session.engine.run(EMBED, TEXTS[4:6]).report.answered == 2
        assert profile.get_fact(INPUTS) or profile.get_fact(SIZE)


TEMPERATURE = completion_job("gpt-5", params={"temperature": LibraryDefault(0.0)})
LIMITED = 64


@pytest.mark.parametrize(
    ("job", "refuse", "fact"),
    [
        (
            TEMPERATURE,
            lambda body: refusal(400, "temperature is not supported") if "temperature" in body else None,
            None,
        ),
        (EMBED, lambda body: refusal(400, "Only float values.") if body["encoding_format"] == "base64" else None, None),
        (EMBED, lambda body: refusal(400, "at most 64 inputs") if len(body["input"]) > LIMITED else None, INPUTS),
    ],
    ids=["parameter", "encoding", "inputs"],
)
def test_answers_are_stored_before_what_they_show_is_written(
    tmp_path: Path, job: Any, refuse: Any, fact: str | None
) -> None:
    """The file of profiles may be locked or on a slow disk."""
    stored_at: list[int] = []
    with paid(PaidService(refuse), tmp_path / "c.sqlite", max_in_flight=1) as session:
        forget_profiles()
        profile = session.engine.profile(job.model)
        profile._save = lambda record: stored_at.append(session.cache.stats().entries)
        session.engine.run(job, TEXTS[:100])
        assert fact is None or profile.get_fact(fact) == LIMITED
    assert stored_at
    assert stored_at[0] > 0
    # All of the first requests that were answered, for a limit shows when each part is.
    assert fact is None or stored_at[0] >= LIMITED
