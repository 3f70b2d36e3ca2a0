"""``classify(..., confidence=)``: votes, log probabilities and a proxy; labels that are left out; calibration."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from judges import WordJudge
from scripted import Scripted, blocked, scripted

from skytells_nb.accessor.methods.classify.token_probabilities import label_probability
from skytells_nb.columns import from_matrix
from skytells_nb.errors import InputError, LowConfidenceError, RowError, SkytellsWarning
from skytells_nb.session import current

LABELS = ["late", "taste"]
QUIET: dict[str, Any] = {"progress": False}


def said(label: str) -> str:
    return json.dumps({"label": label})


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Scripted]:
    """Answers with the label that the text names; of ``unsure N`` N of the first five seeds say late."""

    def answer(text: str) -> Any:
        if text.startswith("unsure"):
            with service.lock:
                count = sum(asked == text for asked in service.asked)
            return said("late" if count <= int(text.split()[1]) else "taste")
        return said("late" if "late" in text else "taste")

    with scripted(answer, tmp_path / "c.sqlite") as service:
        yield service


def test_votes_have_the_label_of_most_and_their_share(service: Scripted) -> None:
    frame = pd.DataFrame({"text": ["unsure 4", "so late", None, "unsure 1", "so late"]}, index=list("abcde"))

    found = frame.skytells.classify("text", LABELS, confidence="votes", details=True, **QUIET)

    assert found["label"].tolist() == ["late", "late", None, "taste", "late"] or found["label"].isna().tolist()[2]
    assert found["label"].astype(object).drop("c").tolist() == ["late", "late", "taste", "late"]
    assert found["label_confidence"].drop("c").tolist() == [0.8, 1.0, 0.8, 1.0]
    assert np.isnan(found["label_confidence"]["c"])
    assert [body["seed"] for body in service.bodies if body["messages"][-1]["content"] == "so late"] == [0, 1, 2, 3, 4]
    assert {body["temperature"] for body in service.bodies} == {1.0}
    assert all(isinstance(body["seed"], int) for body in service.bodies)
    report = found.skytells.report
    assert (report.rows, report.answered, report.nulls, report.failed) == (5, 4, 1, 0)
    assert (report.requests, len(service.asked)) == (15, 15)
    assert found["label_tokens_in"].dropna().tolist() == [50, 50, 50, 50]


def test_each_vote_is_cached_and_more_votes_pay_for_the_new_ones_only(service: Scripted) -> None:
    frame = pd.DataFrame({"text": ["so late", "good taste"]})
    frame.skytells.classify("text", LABELS, confidence="votes", votes=3, **QUIET)
    assert len(service.asked) == 6

    found = frame.skytells.classify("text", LABELS, confidence="votes", votes=5, **QUIET)

    assert len(service.asked) == 10
    assert found.skytells.classify("text", LABELS, confidence="votes", **QUIET)["label"].equals(found["label"])
    assert len(service.asked) == 10
    frame.skytells.classify("text", LABELS, **QUIET)
    assert len(service.asked) == 12  # at a temperature of 0


def test_rows_below_abstain_are_missing_with_the_reason_and_not_paid_again(service: Scripted) -> None:
    frame = pd.DataFrame({"text": ["unsure 3", "so late", "unsure 2"]}, index=list("abc"))

    with warnings.catch_warnings():
        warnings.simplefilter("error", SkytellsWarning)  # leaving out is what was asked for
        found = frame.skytells.classify("text", LABELS, confidence="votes", abstain=0.7, details=True, **QUIET)

    assert found["label"].isna().tolist() == [True, False, True]
    assert found["label_confidence"].tolist() == [0.6, 1.0, 0.6]
    failed = found.skytells.failed()
    assert failed.index.tolist() == ["a", "c"]
    assert failed["error"].str.contains("LowConfidenceError: The confidence is below abstain=0.7").all()
    assert found["label_error"].isna().tolist() == [False, True, False]
    report = found.skytells.report
    assert (report.answered, report.failed) == (1, 2)
    assert report.reasons() == ["2 rows: LowConfidenceError: The confidence is below abstain=0.7"]
    asked = len(service.asked)
    for more in ({}, {"retry": "failed"}, {"on_error": "raise"}):
        again = frame.skytells.classify("text", LABELS, confidence="votes", abstain=0.7, **more, **QUIET)
        assert again["label"].equals(found["label"])
    lower = frame.skytells.classify("text", LABELS, confidence="votes", abstain=0.6, **QUIET)
    assert lower["label"].astype(object).tolist() == ["late", "late", "taste"]
    assert len(service.asked) == asked
    # And the rows to judge first.
    least = found.assign(label=lower["label"]).skytells.gold_sample("label", 2, pick="uncertain")
    assert sorted(least.index) == ["a", "c"]


def test_a_row_fails_where_all_its_votes_do(service: Scripted) -> None:
    frame = pd.DataFrame({"text": ["so late", "blocked", "sometimes"]})
    usual = service.answer

    def answer(text: str) -> Any:
        with service.lock:
            first = service.asked.count("sometimes") == 1
        return blocked() if text == "blocked" or (text == "sometimes" and first) else usual(text)

    service.answer = answer
    with pytest.warns(SkytellsWarning, match="1 of 3 rows failed"):
        found = frame.skytells.classify("text", LABELS, confidence="votes", votes=3, **QUIET)

    assert found["label"].isna().tolist() == [False, True, False]
    assert found["label_confidence"].tolist()[::2] == [1.0, 1.0]
    assert list(found.skytells.report.errors) == [1]
    with pytest.raises(RowError):
        frame.skytells.classify("text", LABELS, confidence="votes", votes=3, on_error="raise", **QUIET)


def with_logprobs(text: str) -> dict[str, Any]:
    """An answer whose first token of the label has a probability that the text names, in percent."""
    p = float(text.split()[-1]) / 100
    label, other = ("late", "taste") if "late" in text else ("taste", "late")

    def token(t: str, probability: float, *others: tuple[str, float]) -> dict[str, Any]:
        top = [{"token": o, "logprob": math.log(q), "bytes": list(o.encode())} for o, q in [(t, probability), *others]]
        return {"token": t, "logprob": math.log(probability), "bytes": list(t.encode()), "top_logprobs": top}

    # Half of the rest is for words that are no label.
    content = [
        token('{"label": "', 1),
        token(label[:2], p, (other[:2], 1 - p), ("zz", 0.5)),
        token(label[2:] + '"}', 1),
    ]
    return {"message": {"role": "assistant", "content": said(label)}, "logprobs": {"content": content}}


def test_logprobs_are_the_probability_among_the_labels(service: Scripted) -> None:
    service.answer = with_logprobs
    frame = pd.DataFrame({"text": ["late 90", "taste 60", "late 60", None]})

    found = frame.skytells.classify("text", LABELS, confidence="logprobs", abstain=0.7, **QUIET)

    assert found["label_confidence"].tolist()[:3] == pytest.approx([0.9, 0.6, 0.6])
    assert found["label"].isna().tolist() == [False, True, True, True]
    assert len(service.asked) == 3
    assert (service.bodies[0]["logprobs"], service.bodies[0]["top_logprobs"]) == (True, 5)
    again = frame.skytells.classify("text", LABELS, confidence="logprobs", **QUIET)
    assert again["label_confidence"].equals(found["label_confidence"])
    assert again["label"].notna().tolist() == [True, True, True, False]
    assert len(service.asked) == 3


@pytest.mark.parametrize("how", ["rejected", "ignored"])
def test_a_model_without_logprobs_is_refused_after_one_request_and_later_before(service: Scripted, how: str) -> None:
    rejection = {"error": {"message": "logprobs is not supported with this model.", "param": "logprobs"}}
    service.answer = (lambda text: (400, rejection)) if how == "rejected" else (lambda text: said("late"))
    frame = pd.DataFrame({"text": [f"late {n}" for n in range(51, 99)]})

    for asked in (1, 1):
        with pytest.raises(InputError, match=r"'gpt-5' gives no log probabilities.*Use confidence='votes'"):
            frame.skytells.classify("text", LABELS, confidence="logprobs", **QUIET)
        assert len(service.asked) == asked
    with pytest.raises(InputError, match="gives no log probabilities"):
        frame.skytells.classify("text", LABELS, confidence="logprobs", dry_run=True)
    service.answer = with_logprobs
    found = frame.skytells.classify("text", LABELS, confidence="logprobs", model="another", **QUIET)
    assert found["label_confidence"].notna().all()


def test_a_blocked_text_does_not_decide_whether_there_are_logprobs(service: Scripted) -> None:
    service.answer = lambda text: blocked() if text == "blocked" else with_logprobs(text)
    frame = pd.DataFrame({"text": ["blocked", "late 80"]})

    with pytest.warns(SkytellsWarning, match="1 of 2 rows failed"):
        found = frame.skytells.classify("text", LABELS, confidence="logprobs", **QUIET)

    assert found["label_confidence"].tolist()[1] == pytest.approx(0.8)


E = "é".encode().decode("latin-1")
"""Its two bytes."""


@pytest.mark.parametrize(
    ("label", "tokens", "labels", "expected"),
    [
        # The labels share their first token; the second decides.
        ("red", [('{"label":"', 1, {}), ("re", 1, {}), ("d", 0.3, {"st": 0.3}), ('"}', 1, {})], ["red", "rest"], 0.5),
        # One label begins with the other: the closing quote decides.
        ("re", [('{"label":"', 1, {}), ("re", 1, {}), ('"}', 0.2, {"st": 0.6})], ["re", "rest"], 0.25),
        # Written as a person would, and without JSON.
        ("red", [(" Re", 0.5, {" St": 0.25, " xx": 0.2}), ("d.", 0.9, {})], ["red", "stone"], 2 / 3),
        # Half a character in a token.
        (
            "né",
            [('{"label":"n', 1, {}), (E[0], 0.5, {"a": 0.5}), (E[1] + '"}', 1, {})],
            ["né", "na"],
            0.5,
        ),
        # Another label that no alternative names.
        ("red", [('{"label":"re', 1, {}), ('d"}', 0.4, {})], ["red", "stone"], 1.0),
        # Not that label at all.
        ("stone", [('{"label":"', 1, {}), ('red"}', 1, {})], ["red", "stone"], None),
    ],
)
def test_the_probability_of_a_label(label: str, tokens: Any, labels: list[str], expected: float | None) -> None:
    given = [
        [t, math.log(p), [[t, math.log(p)], *([o, math.log(q)] for o, q in others.items())]] for t, p, others in tokens
    ]

    found = label_probability(label, given, labels)

    assert found == (None if expected is None else pytest.approx(expected))


def near_texts(rows: int = 200) -> pd.DataFrame:
    """Texts whose vectors are near their label's, but for every tenth, whose vector is that of the other label."""
    random = np.random.default_rng(0)
    label = np.arange(rows) % 2
    shown = np.where(np.arange(rows) % 10 == 3, 1 - label, label)
    vectors = np.eye(2, 8)[shown] + 0.2 * random.normal(size=(rows, 8))
    frame = pd.DataFrame({"text": [f"{LABELS[each]} {row}" for row, each in enumerate(label)]})
    return frame.assign(embedding=from_matrix(vectors.astype(np.float32)), odd=np.arange(rows) % 10 == 3)


def test_a_proxy_is_unsure_of_labels_that_similar_texts_do_not_have(judge: WordJudge) -> None:
    frame = near_texts()

    found = frame.skytells.classify("text", LABELS, confidence="proxy", abstain=0.5, **QUIET)

    confidence = found["label_confidence"]
    assert confidence[found["odd"]].max() < confidence[~found["odd"]].min()
    assert found["label"].isna().tolist() == (confidence < 0.5).tolist()
    assert found.loc[found["odd"], "label"].isna().all()
    assert len(judge.texts) == 200
    again = frame.skytells.classify("text", LABELS, confidence="proxy", abstain=0.5, **QUIET)
    assert again["label_confidence"].equals(confidence)
    assert len(judge.texts) == 200


def test_a_proxy_embeds_texts_where_there_is_no_column(judge: WordJudge) -> None:
    frame = near_texts(30)[["text"]]

    estimate = frame.skytells.classify("text", LABELS, confidence="proxy", dry_run=True)
    found = frame.skytells.classify("text", LABELS, confidence="proxy", **QUIET)

    assert found["label_confidence"].between(0, 1).all()
    assert found.skytells.report.requests == estimate.requests == 31


def test_gold_calibrates(service: Scripted) -> None:
    """Votes that are all the same are right in four of five rows only: that is what they are then worth."""
    frame = pd.DataFrame({"text": [f"late {n}" for n in range(60)]})
    gold = pd.Series(["late", "late", "late", "late", "taste"] * 10, index=range(50))

    found = frame.skytells.classify("text", LABELS, confidence="votes", votes=2, gold=gold, **QUIET)

    assert found["label_confidence"].nunique() == 1
    assert found["label_confidence"][0] == pytest.approx(0.79, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"confidence": "luck"}, "confidence must be 'votes', 'logprobs' or 'proxy', got 'luck'"),
        ({"abstain": 0.7}, "abstain is for a confidence, which confidence='votes' adds"),
        ({"votes": 3}, "votes is for a confidence"),
        ({"confidence": "proxy", "votes": 3}, "votes is for confidence='votes', got confidence='proxy'"),
        ({"confidence": "votes", "votes": 1}, "votes must be from 2 to 100, got 1"),
        ({"confidence": "votes", "votes": 2.5}, "votes must be a positive integer, got 2.5"),
        ({"confidence": "votes", "abstain": 1.2}, "abstain must be a number above 0 and at most 1, such as 0.7"),
        ({"confidence": "votes", "temperature": 0}, "temperature must be above 0 for confidence='votes', got 0"),
        ({"confidence": "votes", "multi": True}, "confidence is for one label for each text"),
        ({"confidence": "votes", "agree": 0.95}, "agree and confidence must not be given together"),
        ({"confidence": "votes", "via": "embedding"}, "confidence is for a chat model"),
        ({"confidence": "votes", "gold": pd.Series({0: "late"})}, "at least 20 judged rows to calibrate .*, got 1"),
        ({"confidence": "votes", "gold": pd.Series({0: "lat"})}, "labels that the labels do not have: 'lat'"),
        ({"confidence": "proxy"}, "needs at least 25 different ones, got 2"),
        ({"confidence": "logprobs", "rows_per_request": 2}, "logprobs"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    service: Scripted, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pd.DataFrame({"text": ["late", "taste"]}).skytells.classify("text", LABELS, **options, **QUIET)
    assert not service.asked


def test_a_column_has_a_confidence_too(service: Scripted) -> None:
    found = pd.Series(["so late", None]).skytells.classify(LABELS, confidence="votes", votes=2, **QUIET)

    assert found.columns.tolist() == ["label", "label_confidence"]
    assert service.asked == ["so late", "so late"]


def test_seeds_follow_the_one_that_is_given(service: Scripted) -> None:
    frame = pd.DataFrame({"text": ["so late"]})
    frame.skytells.classify("text", LABELS, confidence="votes", votes=2, seed=7, temperature=0.4, **QUIET)

    assert [(body["seed"], body["temperature"]) for body in service.bodies] == [(7, 0.4), (8, 0.4)]


def test_the_budget_is_for_all_votes(service: Scripted) -> None:
    frame = pd.DataFrame({"text": [f"late {n}" for n in range(10)]})
    estimate = frame.skytells.classify("text", LABELS, confidence="votes", dry_run=True)

    assert estimate.requests == 50
    assert estimate.rows == 10
    assert LowConfidenceError("x").args == ("x",)
    assert current().reports == []
