"""Dollars are reserved at the most that a request may cost, and settled by what it used."""

from __future__ import annotations

import contextlib
import itertools
import threading
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paid_service import PaidService, paid, prompt_of

from skytells_nb.engine.budget import Budget, Reservation, TokenBounds
from skytells_nb.engine.operations.jobs import completion_job, embedding_job
from skytells_nb.engine.operations.row_packing import batch_rows
from skytells_nb.engine.service.profile import TRUSTED_ANSWERS, TokenCalibration, forget_profiles
from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.types.models import LISTED_PRICES, Price

PRICE = Price(input=1.0, output=2.0)
EMBED = embedding_job("skytells-embed-3-small")


def texts(tokens: float, inputs: int = 2) -> TokenBounds:
    """Texts of so many tokens by their bytes, of which four are a token as a rule."""
    return TokenBounds(inputs, tokens, 4 * tokens, 0.0)


def taken(budget: Budget, bounds: TokenBounds) -> Reservation:
    reservation = budget.reserve(bounds)
    assert reservation is not None
    return reservation


def test_a_request_over_the_budget_is_not_sent() -> None:
    budget = Budget(0.001, PRICE, "m")
    with pytest.raises(BudgetExceededError, match=r"\$0.001"):
        budget.reserve(texts(2000, inputs=1))
    assert budget.spent == 0


def test_a_request_of_several_texts_that_may_cost_too_much_is_sent_in_parts() -> None:
    budget = Budget(0.001, PRICE, "m")
    assert budget.reserve(texts(300)) is None
    assert budget.reserve(texts(200)) is not None


def test_one_text_that_is_likely_to_fit_goes_alone() -> None:
    budget = Budget(0.001, PRICE, "m")
    reservation = taken(budget, texts(900, inputs=1))
    assert reservation.exclusive
    waiting = threading.Thread(target=lambda: budget.reserve(texts(10, inputs=1)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    budget.settle(reservation, (800, 0))
    waiting.join(20)
    assert not waiting.is_alive()


def test_a_request_waits_while_only_reservations_are_in_its_way() -> None:
    budget = Budget(0.001, PRICE, "m")
    first = taken(budget, texts(200))
    got: list[Reservation | None] = []
    waiter = threading.Thread(target=lambda: got.append(budget.reserve(texts(200))))
    waiter.start()
    assert not got
    budget.settle(first, (100, 0))
    waiter.join(60)
    assert len(got) == 1


def test_requests_go_side_by_side_as_answers_come() -> None:
    """The first one shows how the model counts, before there are many to be surprised by."""
    budget = Budget(1.0, PRICE, "m")
    first = taken(budget, texts(10))
    with pytest.raises(BudgetExceededError):
        budget.reserve(texts(10), stopped=lambda: True)
    budget.settle(first, (10, 0))
    assert not taken(budget, texts(10)).exclusive
    assert not taken(budget, texts(10)).exclusive


def test_a_model_that_is_known_needs_no_first_request() -> None:
    tokens = TokenCalibration()
    for _ in range(TRUSTED_ANSWERS):
        tokens.observe(10, 10)
    budget = Budget(1.0, PRICE, "m", tokens=tokens)
    assert [taken(budget, texts(10)).exclusive for _ in range(20)] == [False] * 20


def test_a_usage_that_is_not_told_counts_as_the_most_it_may_be() -> None:
    budget = Budget(0.01, PRICE, "m")
    budget.settle(taken(budget, texts(600)), None, response_bytes=0)
    assert budget.spent == pytest.approx(4 * 0.0024)


def test_a_call_without_an_answer_counts_as_answers_did() -> None:
    """As the most that no usage has to confirm before there was one, as the most that is likely after that."""
    row = TokenBounds(1, 10, 40, 20)
    unknown, known = Budget(1.0, PRICE, "m"), Budget(1.0, PRICE, "m")
    unknown.settle(taken(unknown, row), None)
    assert unknown.spent == pytest.approx(PRICE.cost(4 * 40, 4096))
    known.settle(taken(known, row), (10, 5))
    known.settle(taken(known, row), None)
    assert known.spent == pytest.approx(PRICE.cost(10, 5) + PRICE.cost(40, 20))


def test_answers_without_a_usage_are_why_a_budget_is_used_up() -> None:
    budget, row = Budget(0.02, PRICE, "m"), TokenBounds(1, 10, 40, 20)
    for _ in range(2):
        budget.settle(taken(budget, row), None, response_bytes=300)
    budget.settle(taken(budget, row), None, response_bytes=1500)
    with pytest.raises(BudgetExceededError, match="reported no usage for 3 answers, which count at the most"):
        budget.reserve(row)


def test_output_beyond_its_limit_is_expected_from_then_on() -> None:
    budget = Budget(0.01, PRICE, "m")
    row = TokenBounds(1, 10, 40, 20)
    budget.settle(taken(budget, row), (10, 2000))
    budget.settle(taken(budget, row), (10, 20))
    budget.settle(taken(budget, row), (10, 1200))
    with pytest.raises(BudgetExceededError, match=r"next request may cost \$0\.004"):
        budget.reserve(row)


def test_what_was_used_counts_when_the_answer_is_there() -> None:
    budget = Budget(0.004, PRICE, "m")
    budget.settle(taken(budget, texts(900)), (100, 50))
    assert budget.spent == pytest.approx(0.0002)
    taken(budget, texts(700))


def test_a_budget_without_a_price_is_rejected_before_anything_is_sent() -> None:
    with pytest.raises(InputError, match="no price is known for 'skytells-embed-3-small'"):
        Budget(1.0, None, "skytells-embed-3-small")


@pytest.mark.parametrize("limit", [-1.0, float("nan"), "5", True])
def test_an_invalid_budget_is_rejected(limit: Any) -> None:
    with pytest.raises(InputError, match="dollars"):
        Budget(limit, PRICE, "m")


def run(service: PaidService, job: Any, rows: list[str], budget: float, **settings: Any) -> Any:
    """Run until the rows or the budget are used up; return the report."""
    ended: list[Any] = []
    forget_profiles()
    with paid(service, cache="off", **settings) as session:
        with contextlib.suppress(BudgetExceededError):
            session.engine.run(job, rows, budget=budget, on_error="null", on_end=ended.append)
        return ended[0]


UUIDS = [str(uuid.uuid5(uuid.NAMESPACE_DNS, str(n))) for n in range(1500)]


@pytest.mark.parametrize(
    "rows",
    [
        UUIDS,
        [*(f"plain English text number {n}" for n in range(1500)), *UUIDS],
        [f"ⴰⵎⴰⵣⵉⵖ ⵜⵉⴼⵉⵏⴰⵖ {n}" for n in range(1500)],
        [f"{n}" * 20 for n in range(1500)],
    ],
)
@pytest.mark.parametrize("per_byte", [0.62, 1.0, 0.25])
def test_texts_of_many_tokens_do_not_pass_the_budget(rows: list[str], per_byte: float) -> None:
    service = PaidService(tokens_in=lambda text: max(1, int(len(text.encode()) * per_byte)))
    report = run(service, EMBED, rows, 0.02)
    # The last request is sent alone, by what such texts took so far: it depends on which answer comes first.
    assert service.billed <= 0.02 + service.most_expensive
    assert report.cost_upper_bound == pytest.approx(service.billed)
    # All of it is used but for what one text may cost.
    assert service.billed > 0.02 * 0.97 or report.answered == len(rows)


@pytest.mark.parametrize(
    "hidden", [lambda n: 400, lambda n: 10 * n, lambda n: 900 if n % 7 == 0 else 0, lambda n: 5000]
)
@pytest.mark.parametrize("limited", [True, False])
def test_reasoning_beyond_the_limit_passes_the_budget_by_one_request_at_most(hidden: Any, limited: bool) -> None:
    service = PaidService(tokens_out=lambda body: 5 + hidden(int(prompt_of(body).split()[1])))
    job = completion_job("gpt-5", params={"max_tokens": 20} if limited else {})
    run(service, job, [f"text {n}" for n in range(150)], 0.03, max_in_flight=32)
    assert service.billed <= 0.03 + service.most_expensive


@pytest.mark.parametrize(
    "told",
    [
        lambda given, made: {"prompt_tokens": given, "completion_tokens": 5, "total_tokens": given + made},
        lambda given, made: {
            "prompt_tokens": given,
            "completion_tokens": 5,
            "completion_tokens_details": {"reasoning_tokens": made - 5},
        },
    ],
    ids=["in the total", "in the details"],
)
def test_reasoning_that_is_told_beside_the_completion_is_paid_for_too(told: Any) -> None:
    service = PaidService(tokens_out=lambda body: 905, usage=told)
    report = run(service, completion_job("gpt-5", params={"max_tokens": 20}), [f"text {n}" for n in range(150)], 0.03)
    assert 0.02 < service.billed <= 0.03 + service.most_expensive
    assert report.cost == pytest.approx(service.billed)


CHARACTERS = st.sampled_from(["a", " ", "7f", "-", "ⴰ", "漢", "🦉", "word "])


@settings(max_examples=40)
@given(
    rows=st.lists(st.lists(CHARACTERS, min_size=1, max_size=60).map("".join), min_size=1, max_size=60, unique=True),
    per_byte=st.floats(0.05, 3.0),
    budget=st.floats(0, 0.004),
    usage=st.sampled_from(["told", "none", "zero", "negative", "absurd"]),
)
def test_a_budget_of_vectors_is_never_passed_by_more_than_one_request(
    rows: list[str], per_byte: float, budget: float, usage: str
) -> None:
    # More tokens than bytes, of which nothing is told, cannot be known.
    per_byte = per_byte if usage == "told" else min(per_byte, 1.0)
    service = PaidService(
        tokens_in=lambda text: max(1, int(len(text.encode()) * per_byte)),
        usage=USAGES[usage] if usage != "told" else None,
    )
    run(service, EMBED, [row + "." for row in rows], budget, inputs_per_request=7)
    assert service.billed <= budget + service.most_expensive


USAGES: dict[str, Any] = {
    "none": lambda tokens_in, tokens_out: None,
    "zero": lambda tokens_in, tokens_out: {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    "negative": lambda tokens_in, tokens_out: {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6},
    "absurd": lambda tokens_in, tokens_out: {"prompt_tokens": 10**12, "completion_tokens": 10**12, "total_tokens": 1},
    "half": lambda tokens_in, tokens_out: {"prompt_tokens": tokens_in},
}


@settings(max_examples=40)
@given(
    outputs=st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    limit=st.none() | st.integers(1, 200),
    budget=st.floats(0, 0.02),
    in_flight=st.sampled_from([1, 8, 64]),
)
def test_a_budget_of_completions_is_never_passed_by_more_than_one_request(
    outputs: list[int], limit: int | None, budget: float, in_flight: int
) -> None:
    service = PaidService(tokens_out=lambda body: outputs[int(prompt_of(body).split()[1])])
    job = completion_job("gpt-5", params={} if limit is None else {"max_tokens": limit})
    run(service, job, [f"text {n}" for n in range(len(outputs))], budget, max_in_flight=in_flight)
    assert service.billed <= budget + service.most_expensive


SOMETIMES = "sometimes"


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.tuples(st.lists(CHARACTERS, max_size=40).map("".join), st.integers(1, 4000)), min_size=1, max_size=40
    ),
    per_byte=st.floats(0.05, 4.0),
    limit=st.none() | st.integers(1, 200),
    budget=st.floats(0, 0.05),
    usage=st.sampled_from([*USAGES, SOMETIMES]),
    hidden=st.booleans(),
    in_flight=st.sampled_from([1, 8, 64]),
)
def test_a_budget_is_kept_where_no_usage_is_reported(
    rows: list[tuple[str, int]],
    per_byte: float,
    limit: int | None,
    budget: float,
    usage: str,
    hidden: bool,
    in_flight: int,
) -> None:
    """Whatever the script, with reasoning that is hidden, and answers of any length that are not."""
    turns = itertools.count()

    def reported(tokens_in: int, tokens_out: int) -> Any:
        if usage != SOMETIMES:
            return USAGES[usage](tokens_in, tokens_out)
        true = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        return true if next(turns) % 3 else None

    outputs = {f"{text} {n}": tokens * (1 if hidden else 3) for n, (text, tokens) in enumerate(rows)}
    service = PaidService(
        tokens_in=lambda text: max(1, int(len(text.encode()) * per_byte)),
        tokens_out=lambda body: outputs[prompt_of(body)],
        say=lambda body: "an answer" if hidden else "x " * outputs[prompt_of(body)],
        usage=reported,
    )
    job = completion_job("gpt-5", params={} if limit is None else {"max_tokens": limit})
    run(service, job, list(outputs), budget, max_in_flight=in_flight)
    assert service.billed <= budget + service.most_expensive


@settings(max_examples=30)
@given(
    rows=st.lists(st.lists(CHARACTERS, max_size=60).map("".join), min_size=1, max_size=60),
    per_byte=st.floats(0.05, 4.0),
    budget=st.floats(0, 0.01),
    usage=st.sampled_from(["none", "zero", "negative", "absurd"]),
)
def test_a_budget_of_vectors_is_kept_where_no_usage_is_reported(
    rows: list[str], per_byte: float, budget: float, usage: str
) -> None:
    service = PaidService(tokens_in=lambda text: max(1, int(len(text.encode()) * per_byte)), usage=USAGES[usage])
    run(service, EMBED, [f"{row} {n}" for n, row in enumerate(rows)], budget, inputs_per_request=7)
    assert service.billed <= budget + service.most_expensive


@pytest.mark.parametrize("usage", list(USAGES))
@pytest.mark.parametrize("job", [completion_job("gpt-5", params={"max_tokens": 20}), EMBED])
def test_a_usage_that_is_not_told_is_unknown_and_not_free(usage: str, job: Any) -> None:
    if usage == "half" and job is EMBED:
        pytest.skip("vectors have no output")
    service = PaidService(usage=USAGES[usage])
    with paid(service, cache="off") as session:
        report = session.engine.run(job, [f"text {n}" for n in range(10)], budget=1.0, on_end=session.record_run).report
        totals = session.totals
    assert report.cost is None
    assert report.missing_usage == report.requests == totals.missing_usage
    assert (report.tokens_in, report.tokens_out) == (0, 0)
    assert report.cost_upper_bound is not None
    assert report.cost_upper_bound >= service.billed
    assert "unknown" in str(report)
    assert "$0.00" not in str(report)


def test_some_answers_without_usage_are_named_beside_the_dollars() -> None:
    told = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    answers = iter(range(100))
    service = PaidService(usage=lambda tokens_in, tokens_out: told if next(answers) % 2 else None)
    with paid(service, cache="off", max_in_flight=1) as session:
        report = session.engine.run(completion_job("gpt-5"), [f"text {n}" for n in range(10)]).report
    assert report.cost == pytest.approx(5 * LISTED_PRICES["gpt-5"].cost(1000, 10))
    assert report.missing_usage == 5
    assert "plus 5 answers of unknown cost" in str(report)


@pytest.mark.parametrize("limited", [True, False])
def test_a_model_is_known_for_a_call_only_where_its_output_is_limited(limited: bool) -> None:
    """How long the answers to other prompts were says nothing about these."""
    tokens = TokenCalibration()
    for _ in range(TRUSTED_ANSWERS):
        tokens.observe(10, 10)
    budget, row = Budget(1.0, PRICE, "m", tokens=tokens, limited=limited), TokenBounds(1, 10, 40, 20)
    taken(budget, row)
    if limited:
        taken(budget, row)
    else:
        with pytest.raises(BudgetExceededError):
            budget.reserve(row, stopped=lambda: True)


class Garbled(PaidService):
    """What it answers to several rows at once has no choices, and no usage."""

    def _answer(self, body: dict[str, Any], *, embeds: bool) -> dict[str, Any]:
        answer = super()._answer(body, embeds=embeds)
        return {"id": "c", "choices": []} if prompt_of(body).startswith("[") else answer


def test_what_an_unreadable_answer_to_several_rows_cost_is_unknown() -> None:
    job = batch_rows(completion_job("gpt-5", params={"max_tokens": 20}), 5)
    with paid(Garbled(), cache="off") as session:
        report = session.engine.run(job, [f"text {n}" for n in range(5)], budget=1.0).report
    assert report.answered == 5
    assert (report.requests, report.missing_usage) == (7, 2)
    assert "plus 2 answers of unknown cost" in str(report)
