"""``rank`` and ``score``: exact for a total order, and what is said of answers that follow the order of the texts."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import Scripted, blocked, scripted

from skytells_nb.accessor.methods.ranking.tournament import best, most_comparisons
from skytells_nb.errors import BudgetExceededError, InputError, SkytellsWarning

QUIET: dict[str, Any] = {"progress": False}


def size(text: str) -> int:
    return int(text.split()[-1])


def larger(text: str) -> str:
    """The answer of a model that knows which number is larger, and the score of a single text."""
    if not text.startswith("{"):
        return json.dumps({"score": size(text)})
    shown = json.loads(text)
    return json.dumps({"better": "first" if size(shown["first"]) > size(shown["second"]) else "second"})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Scripted]:
    with scripted(larger, tmp_path / "c.sqlite") as service:
        yield service


def sizes(rows: int, seed: int = 0) -> pd.DataFrame:
    numbers = np.random.default_rng(seed).permutation(rows)
    return pd.DataFrame({"text": [f"size {number}" for number in numbers], "n": numbers}, index=numbers + 100)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(), min_size=0, max_size=120, unique=True), st.integers(1, 130))
def test_a_total_order_gives_exactly_the_best_within_the_limit(values: list[int], k: int) -> None:
    compared: list[tuple[int, int]] = []

    def compare(pairs: Any) -> list[int]:
        compared.extend(pairs)
        return [a if values[a] > values[b] else b for a, b in pairs]

    found = best(len(values), k, compare)

    assert [values[number] for number in found] == sorted(values, reverse=True)[:k]
    n = len(values)
    assert len(compared) <= most_comparisons(n, k) <= n + min(k, n) * (n.bit_length() if n else 0)
    assert len({frozenset(pair) for pair in compared}) == len(compared)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.randoms(use_true_random=False))
def test_any_answers_give_different_ones(n: int, k: int, random: Any) -> None:
    found = best(n, k, lambda pairs: [random.choice(pair) for pair in pairs])

    assert len(set(found)) == len(found) == min(n, k)


def test_the_best_rows_best_first_with_equal_and_missing_texts(service: Scripted) -> None:
    frame = pd.concat([sizes(30), pd.DataFrame({"text": ["size 29", None, " "]}, index=["again", "none", "blank"])])

    with warnings.catch_warnings():
        warnings.simplefilter("error", SkytellsWarning)
        found = frame.skytells.rank("text", "how large it is", 5, **QUIET)

    assert found["n"].tolist()[:1] + found["n"].tolist()[2:] == [29, 28, 27, 26]
    assert found.index.tolist() == [129, "again", 128, 127, 126]
    assert found["rank"].tolist() == [1, 1, 2, 3, 4]
    assert "rank" not in frame
    report = found.skytells.report
    ranking = report.ranking
    assert (ranking.texts, ranking.compared, ranking.reversed, ranking.first_share) == (30, 30, 0.0, 0.5)
    assert ranking.comparisons <= ranking.limit == 29 + 4 * 5
    assert len(service.asked) == len(set(service.asked)) == 2 * ranking.comparisons == report.requests
    assert (report.operation, report.rows, report.nulls, report.answered) == ("rank", 33, 2, 31)
    assert report.to_dict()["ranking"]["comparisons"] == ranking.comparisons
    assert f"{ranking.comparisons} comparisons" in str(report)
    asked = len(service.asked)
    again = frame.skytells.rank("text", "how large it is.", 5, **QUIET)
    assert again.equals(found)
    assert len(service.asked) == asked
    assert frame["text"].skytells.rank("how large it is", 2, **QUIET).tolist() == ["size 29", "size 29"]
    assert len(service.asked) == asked


def test_a_model_that_prefers_the_first_text_is_found_out(service: Scripted) -> None:
    service.answer = lambda text: json.dumps({"better": "first"})

    with pytest.warns(SkytellsWarning, match=r"100% of 19 pairs had another answer.*first text was chosen in 100%"):
        found = sizes(20).skytells.rank("text", "how large it is", 1, **QUIET)

    ranking = found.skytells.report.ranking
    assert (ranking.first_share, ranking.reversed, ranking.comparisons) == (1.0, 1.0, 19)
    assert found.index.tolist() == sizes(20).index.tolist()[:1]  # decided by neither: the earlier row


def test_a_bias_is_measured_where_it_decides_some_pairs(service: Scripted) -> None:
    """Texts that are near each other are answered by their place, and the others rightly."""

    def answer(text: str) -> str:
        shown = json.loads(text)
        return (
            json.dumps({"better": "second"}) if abs(size(shown["first"]) - size(shown["second"])) < 3 else larger(text)
        )

    service.answer = answer
    found = sizes(40).skytells.rank("text", "how large it is", 1, **QUIET)

    ranking = found.skytells.report.ranking
    assert 0 < ranking.reversed < 1 / 3
    assert ranking.first_share == pytest.approx(0.5 - ranking.reversed / 2)
    assert found["n"].iloc[0] >= 37


def test_a_prefilter_compares_the_texts_nearest_to_the_criterion(service: Scripted) -> None:
    def vector(text: str) -> list[float]:
        return [1.0, 0.0] if "size" not in text else [size(text) % 2 + 0.1, 1.0]

    service.vector = vector
    frame = sizes(40)
    embedded = frame.skytells.embed("text", **QUIET)

    found = frame.skytells.rank("text", "how odd it is", 3, prefilter=20, **QUIET)
    by_column = embedded.skytells.rank("text", "how odd it is", 3, prefilter=20, embedding="embedding", **QUIET)

    assert found["n"].tolist() == by_column["n"].tolist() == [39, 37, 35]
    assert found.skytells.report.ranking.compared == 20
    assert "of 20 of 40 texts" in str(found.skytells.report.ranking)
    assert all(size(json.loads(text)["first"]) % 2 for text in service.asked)


def test_scores_rank_with_one_request_each(service: Scripted) -> None:
    frame = sizes(10)
    found = frame[frame["n"] > 0].skytells.rank("text", "how large it is", 3, by="scores", **QUIET)

    assert found["n"].tolist() == [9, 8, 7]
    assert len(service.asked) == 9
    assert found.skytells.report.ranking is None


def test_a_failed_pair_is_said_and_one_order_is_enough(service: Scripted) -> None:
    def answer(text: str) -> Any:
        shown = json.loads(text)
        if "size 3" in (shown["first"], shown["second"]):
            return blocked()
        return blocked() if size(shown["first"]) == 5 else larger(text)

    service.answer = answer
    with pytest.warns(SkytellsWarning, match="pairs failed in both orders; the earlier text won"):
        found = sizes(8).skytells.rank("text", "how large it is", 2, **QUIET)

    assert 7 in found["n"].tolist() or 3 in found["n"].tolist()
    frame = sizes(8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame.skytells.rank("text", "how large it is", 2, **QUIET)
    assert "size 3" in frame.skytells.failed()["text"].tolist()


def test_a_budget_ends_it_with_its_report(service: Scripted) -> None:
    frame = sizes(64)
    cost = frame.skytells.rank("text", "how large", 1, max_tokens=5, **QUIET).skytells.report.cost
    service.forget()

    with pytest.raises(BudgetExceededError) as stopped:
        frame.skytells.rank("text", "how large", 1, max_tokens=5, fresh=True, budget=cost / 2, max_in_flight=1, **QUIET)

    assert 0 < len(service.asked) < 126
    assert stopped.value.report.requests == len(service.asked)
    assert stopped.value.frame.columns.tolist() == ["text", "n", "rank"]


def test_scores_are_whole_numbers_of_the_schema(service: Scripted) -> None:
    frame = sizes(4).assign(more="x")
    frame.loc["none"] = [None, 0, "x"]

    found = frame.skytells.score("text", "how large it is", 0, 10, meanings={0: "none", 10: "huge"}, **QUIET)

    assert found["score"].tolist()[:4] == found["n"].tolist()[:4]
    assert found["score"].dtype == "Int64"
    assert found["score"].isna().tolist() == [False] * 4 + [True]
    system = service.bodies[0]["messages"][0]["content"]
    assert "from 0 to 10" in system
    assert "- 10: huge" in system
    listed = service.bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["score"]
    assert listed["enum"] == list(range(11))
    many = frame.skytells.score("{text}", "how large it is", 0, 100, **QUIET)
    assert many["score"].notna().sum() == 4
    assert service.bodies[-1]["response_format"]["json_schema"]["schema"]["properties"]["score"]["maximum"] == 100
    assert sizes(4)["text"].skytells.score("how large it is", 0, 10, **QUIET).dtype == "Int64"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("rank", {"criterion": " "}, "criterion must be a non-empty string"),
        ("rank", {"k": 0}, "k must be a positive integer, got 0"),
        ("rank", {"by": "luck"}, "by must be 'pairs' or 'scores', got 'luck'"),
        ("rank", {"by": "scores", "comparisons": 5}, "comparisons is for by='pairs'"),
        ("rank", {"embedding": "n"}, "embedding is for prefilter="),
        ("rank", {"comparisons": 8, "k": 2}, r"at least 12 for the best 2 of 9 .* got 8\. Pass more or prefilter=6"),
        ("rank", {"prefilter": 0}, "prefilter must be a positive integer, got 0"),
        ("rank", {"rows_per_request": 1000}, "rows_per_request"),
        ("rank", {"into": "text"}, "would replace the column"),
        ("score", {"low": 5, "high": 5}, "high must be above low, got low=5 and high=5"),
        ("score", {"low": 1.5}, "low must be an integer, got 1.5"),
        ("score", {"meanings": {9: "x"}}, "integers from 1 to 5, got 9"),
        ("score", {"meanings": ["x"]}, "meanings must be a dict"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(
    service: Scripted, method: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        getattr(sizes(9).skytells, method)("text", **{"criterion": "how large", **options}, **QUIET)
    assert not service.asked
    assert not service.embedded


def test_nothing_to_compare(service: Scripted) -> None:
    empty = pd.DataFrame({"text": pd.Series([None, None], dtype=object)})
    assert empty.skytells.rank("text", "how large", **QUIET).shape == (0, 2)
    one = pd.DataFrame({"text": ["size 1", None]}).skytells.rank("text", "how large", **QUIET)
    assert one["rank"].tolist() == [1]
    assert not service.asked
