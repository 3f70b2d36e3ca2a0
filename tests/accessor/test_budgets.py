"""One ``budget`` for all runs of a method: it stops before the request that would spend more, and reports the cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pydantic
import pytest
from judges import Judged, WordJudge, judged
from local_fakes import EchoPiece
from paid_service import PaidService, paid
from served import connected

from skytells_nb.errors import BudgetExceededError, InputError
from skytells_nb.session import Session
from skytells_nb.types.models import LISTED_PRICES, Price

EMBEDDING, CHAT = Price(0.02, 0.0), Price(0.5, 1.25)
SHARES = (0.05, 0.3, 0.6, 0.9, 0.99)


class Short(pydantic.BaseModel):
    word: str

    @pydantic.field_validator("word")
    @classmethod
    def not_about_stocks(cls, value: str) -> str:
        """So that one answer is asked for again."""
        if value.startswith("stocks"):
            raise ValueError("too long")
        return value


class CountingJudge(WordJudge):
    """Counts the words of all that it is asked, and not of what it says alone."""

    def stream(self, messages: list[dict[str, Any]], **rest: Any) -> Iterator[EchoPiece]:
        for piece in super().stream(messages, **rest):
            yield replace(piece, prompt_tokens=self.count_tokens(messages)) if piece.finish_reason else piece


METHODS: dict[str, Callable[..., pd.DataFrame]] = {
    "search": lambda df, **o: df.skytells.search("sleeping animals", "t", 2, **o),
    "dedupe": lambda df, **o: df.skytells.dedupe("t", **o),
    "cluster": lambda df, **o: df.skytells.cluster("t", 2, **o),
    "join": lambda df, **o: df.skytells.join(df, "t", confirm=True, **o),
    "summarize": lambda df, **o: df.skytells.summarize("long", window=150, params={"max_tokens": 12}, **o),
    "nearest label": lambda df, **o: df.skytells.classify("t", ["first label", "another label"], via="embedding", **o),
    "extract": lambda df, **o: df.skytells.extract("t", Short, params={"max_tokens": 30}, **o),
}


@pytest.fixture(scope="module")
def place() -> Iterator[Judged]:
    """A server whose catalog has a price for embeddings too."""
    before = dict(LISTED_PRICES)
    LISTED_PRICES.update({"skytells-embed-3-small": EMBEDDING})
    with judged(CountingJudge()) as place:
        yield place
    LISTED_PRICES.clear()
    LISTED_PRICES.update(before)


@pytest.fixture
def session(place: Judged, tmp_path: Path) -> Session:
    """One request at a time, so that runs repeat themselves; nothing is kept, so each call pays for all."""
    return connected(place.server, tmp_path / "c.sqlite", max_in_flight=1)


@pytest.fixture
def df() -> pd.DataFrame:
    said = ["kittens slumbering", "puppies scampering", "stocks plummeting", "bonds recovering"]
    return pd.DataFrame({"t": said, "long": [f"{text} Word" + " word" * 90 for text in said]}, index=list("vwxy"))


def plain(made: pd.DataFrame) -> pd.DataFrame:
    return made.drop(columns=[name for name in made if str(name).endswith("score")])


@pytest.mark.parametrize("method", METHODS)
def test_whatever_is_allowed_no_verb_spends_more(
    place: Judged, session: Session, df: pd.DataFrame, method: str
) -> None:
    """A budget of a part of what all runs cost stops the method; requests and dollars told are those of the server."""
    call, common = METHODS[method], {"progress": False, "cache": "off"}
    whole = call(df, budget=1.0, **common)
    cost = whole.skytells.report.cost
    assert cost
    assert whole.skytells.report.state == "done"
    again = call(df, budget=1.0, **common)
    pd.testing.assert_frame_equal(plain(again), plain(whole))
    later = 0
    for share in SHARES:
        budget, sent, paid = share * cost, place.requests, session.totals.cost or 0.0
        with pytest.raises(BudgetExceededError, match="budget of"):
            call(df, budget=budget, **common)
        report = df.skytells.report
        assert (report.cost or 0.0) <= budget
        assert (session.totals.cost or 0.0) - paid == pytest.approx(report.cost)
        assert report.requests == place.requests - sent
        assert report.state == "failed"
        assert report.rows == whole.skytells.report.rows
        assert report.operation == whole.skytells.report.operation
        later += report.requests > 0
    # A part of the work is done in each case: earlier runs, or the texts of a request that fit.
    assert later > 0


def test_what_a_stopped_verb_has_paid_is_not_paid_again(place: Judged, session: Session, df: pd.DataFrame) -> None:
    """With a cache, calls with little budgets come to the end together, at the cost of one call."""
    whole = df.skytells.cluster("t", 2, cache="off", budget=1.0, progress=False).skytells.report.cost
    before, calls = session.totals.cost or 0.0, 0
    while calls < 20:
        calls += 1
        try:
            df.skytells.cluster("t", 2, budget=whole / 2 + 400 * 1.25e-6, progress=False)
            break
        except BudgetExceededError:
            continue
    assert (session.totals.cost or 0.0) - before == pytest.approx(whole)


def test_a_model_without_a_price_is_found_out_before_any_run(place: Judged, session: Session, df: Any) -> None:
    """Also where only the last of the runs is the one with no price."""
    sent, given = place.requests, {"chat_model": "gpt-5-nano", "budget": 1.0, "progress": False}
    with pytest.raises(InputError, match="no price is known for 'gpt-5-nano'"):
        df.skytells.cluster("t", 2, **given)
    with pytest.raises(InputError, match="no price is known for 'gpt-5-nano'"):
        df.skytells.join(df, "t", confirm=True, **given)
    assert place.requests == sent


def test_what_a_budget_was_used_for_includes_usage_that_was_not_reported(df: pd.DataFrame) -> None:
    """The report has no dollars then, and the note is not of none."""
    settings: dict[str, Any] = {"window": 150, "params": {"max_tokens": 12}, "progress": False}
    with paid(PaidService(usage=lambda *billed: None), cache="off", max_in_flight=1):
        whole = df.skytells.summarize("long", budget=1.0, **settings).skytells.report.cost_upper_bound
        assert whole
        with pytest.raises(BudgetExceededError) as stopped:
            df.skytells.summarize("long", budget=whole / 2, **settings)
    report = stopped.value.report
    assert report is not None
    assert (report.cost or 0.0) == 0.0
    assert report.cost_upper_bound
    assert f"${report.cost_upper_bound:.4g} of budget={whole / 2:.4g} was used by the whole call." in (
        stopped.value.__notes__
    )
