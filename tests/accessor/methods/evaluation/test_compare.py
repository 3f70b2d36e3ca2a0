"""``compare``: prompts and models on the same rows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from judges import WordJudge
from scripted import Scripted, blocked, scripted
from sklearn.metrics import cohen_kappa_score

from skytells_nb import plots
from skytells_nb.errors import BudgetExceededError, InputError, SkytellsWarning
from skytells_nb.session import current

LABELS = ["cat", "dog", "hen"]


def animals(rows: int = 60) -> pd.DataFrame:
    """Texts that name one animal each; every seventh names two, so that the order of the labels matters."""
    first = [LABELS[row % 3] for row in range(rows)]
    texts = [f"{each} {row}" + (" and a cat" if row % 7 == 0 else "") for row, each in enumerate(first)]
    return pd.DataFrame({"text": texts, "truth": first}, index=[f"r{row}" for row in range(rows)])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Scripted]:
    """Answers with the first of the labels that the text holds, in the order of the schema."""

    def answer(text: str) -> Any:
        schema = service.bodies[-1].get("response_format")
        if schema is None:
            return " Yes. " if "cat" in text else "no"
        kind = schema["json_schema"]["schema"]["properties"]
        if "answer" in kind:
            return json.dumps({"answer": "yes" if "cat" in text else "no"})
        labels = kind["label"]["enum"]
        return json.dumps({"label": next((label for label in labels if label in text), labels[-1])})

    with scripted(answer, tmp_path / "c.sqlite") as service:
        service.connect(tmp_path / "c.sqlite")
        yield service


VARIANTS: dict[str, dict[str, Any]] = {
    "forward": {"labels": LABELS},
    "backward": {"labels": LABELS[::-1], "model": "gpt-5.4", "max_tokens": 20},
}


def test_agreement_and_accuracy_are_those_of_scipy_and_scikit_learn(judge: WordJudge) -> None:
    frame = animals()

    found = frame.skytells.compare("text", VARIANTS, n=60, gold=frame["truth"], progress=False)

    rows = found.rows.sort_index()
    assert rows["text"].equals(frame["text"].sort_index())
    assert (found.n, found.n_gold) == (60, 60)
    assert found.kappa.loc["forward", "backward"] == pytest.approx(
        cohen_kappa_score(rows["forward"].astype(str), rows["backward"].astype(str))
    )
    right = {name: (rows[name].astype(str) == rows["gold"]) for name in VARIANTS}
    for name, hits in right.items():
        limits = scipy.stats.binomtest(int(hits.sum()), 60).proportion_ci(0.95, method="wilson")
        shown = found.frame.loc[name, ["accuracy", "accuracy_low", "accuracy_high"]].tolist()
        assert shown == pytest.approx([hits.mean(), limits.low, limits.high])
    pair = found.pairs.iloc[0]
    first, second = (
        int((right["forward"] & ~right["backward"]).sum()),
        int((right["backward"] & ~right["forward"]).sum()),
    )
    assert (pair["only_first_right"], pair["only_second_right"]) == (first, second)
    assert first + second > 0
    assert pair["p_value"] == pytest.approx(scipy.stats.binomtest(first, first + second, 0.5).pvalue)
    assert pair["p_adjusted"] == pair["p_value"]


def test_rows_that_differ_come_first(judge: WordJudge) -> None:
    found = animals().skytells.compare("text", VARIANTS, n=60, progress=False)

    different = (found.rows["forward"].astype(str) != found.rows["backward"].astype(str)).to_numpy()
    assert different.sum() == len(found.differing) > 3
    assert different[: len(found.differing)].all()
    assert found.rows["answers"].tolist() == [2] * len(found.differing) + [1] * (60 - len(found.differing))
    assert np.isnan(found.frame["accuracy"]).all()
    assert found.pairs.columns.tolist() == ["n", "agreement", "kappa", "kappa_low", "kappa_high"]
    assert f"they differ on {len(found.differing)}" in str(found)
    assert found.differing.index[0] in found._repr_html_()


@pytest.mark.parametrize("method", ["classify", "filter", "complete", "system", "column"])
def test_the_call_on_all_rows_pays_for_the_other_rows_only(service: Scripted, method: str) -> None:
    frame = animals(50)
    frame.index = range(50)
    of = {
        "classify": ({"labels": LABELS, "instructions": "Which animal is it?", "examples": [("a cat", "cat")]}, {}),
        "filter": ({"question": "Is it a cat?"}, {}),
        "complete": ({"template": "Is it {truth}: {text}?", "max_tokens": 5}, {}),
        "system": ({"system": "Is it a cat?"}, {"template": "{text}"}),
        "column": ({"system": "Is it a cat?"}, {}),
    }[method]
    variant, more = of

    found = frame.skytells.compare("text", {"a": variant, "b": {**variant, "temperature": 0.5}}, n=20, progress=False)

    asked = len(service.asked)
    assert asked == 40
    if method == "column":
        whole = frame["text"].skytells.complete("Is it a cat?", progress=False)
    elif method in ("system", "complete"):
        whole = frame.skytells.complete(**variant, **more, progress=False)["completion"]
    elif method == "filter":
        whole = frame.skytells.filter("text", "Is it a cat?", keep="column", progress=False)["matches"]
    else:
        whole = frame.skytells.classify("text", **variant, progress=False)["label"]
    assert len(service.asked) - asked == 30
    assert whole.loc[found.rows.index].tolist() == found.rows["a"].tolist()


def test_the_sample_is_seeded_and_has_different_texts_and_judged_ones_first(judge: WordJudge) -> None:
    frame = animals(40)
    frame = pd.concat(
        [frame, frame.set_index(frame.index + "x"), pd.DataFrame({"text": [None, " "]}, index=["n", "m"])]
    )
    gold = frame["truth"].iloc[[3, 41, 7, 9]]

    def rows(**options: Any) -> list[str]:
        return sorted(frame.skytells.compare("text", VARIANTS, progress=False, **options).rows.index)

    assert rows(n=10) == rows(n=10)
    assert rows(n=10) != rows(n=10, sample_seed=1)
    assert len(rows()) == 40
    assert set(gold.index) < set(rows(n=10, gold=gold))
    assert len(rows(n=10, gold=gold)) == 10
    assert set(rows(n=3, gold=gold)) < set(gold.index)


def test_texts_are_equal_as_a_person_would_read_them(service: Scripted) -> None:
    frame = animals(12)
    gold = frame["text"].str.contains("cat").map({True: "yes", False: "no"})
    prompts = ["Is it a cat? Say yes or no.", "{text}: is it one that purrs?"]

    found = frame.skytells.compare("text", prompts, gold=gold, progress=False)

    assert found.frame["accuracy"].tolist() == [1, 1]
    assert found.frame.index.tolist() == prompts
    assert not len(found.differing)
    assert [body["messages"][0]["role"] for body in service.bodies[:1]] == ["system"]


def test_what_it_cost_and_took(service: Scripted) -> None:
    """Each answer has 10 tokens in and 5 out, of models with a listed price; later all comes from the cache."""
    frame, variants = animals(20), ["gpt-5", "gpt-5.4"]

    found = frame.skytells.compare("text", variants, labels=LABELS, progress=False)
    again = frame.skytells.compare("text", variants, labels=LABELS, progress=False)

    price = current().price("gpt-5")
    assert price is not None
    assert found.frame.loc["gpt-5", "cost_per_1000"] == pytest.approx(1000 * price.cost(10, 5))
    assert (again.frame["cost_per_1000"] == found.frame["cost_per_1000"]).all()
    assert (found.frame["latency_p95"] >= found.frame["latency_p50"]).all()
    assert (found.frame["latency_p50"] > 0).all()
    assert again.frame["latency_p50"].isna().all()
    assert "fresh=True measures it again" in str(again)
    assert len(service.asked) == 40
    report = found.report
    assert (report.operation, report.model) == ("compare", "gpt-5, gpt-5.4")
    assert (report.rows, report.sent, report.answered, report.requests) == (40, 40, 40, 40)
    assert report.cost == pytest.approx(20 / 1000 * found.frame["cost_per_1000"].sum())
    assert current().reports[0].sent == 40
    assert frame.skytells.report.sent == 0
    assert len(current().reports) == 2


def test_safety_findings_and_failed_rows(service: Scripted) -> None:
    frame = animals(10)
    usual = service.answer
    service.answer = lambda text: blocked() if text.startswith("cat") else usual(text)

    with pytest.warns(SkytellsWarning, match="4 of 10 rows failed"):
        found = frame.skytells.compare("text", VARIANTS, progress=False)

    assert found.frame["safety_rate"].tolist() == [1.0, 1.0]  # nothing else was checked
    assert found.frame["failed"].tolist() == [4, 4]
    assert found.pairs["n"].tolist() == [6]
    assert frame.skytells.failed()["text"].str.startswith("cat").sum() == 8
    assert sorted(found.report.errors) == [0, 3, 6, 9, 10, 13, 16, 19]


def test_a_dry_run_sends_nothing_and_a_budget_is_for_all_variants(service: Scripted) -> None:
    frame = animals(30)
    variants = {name: {**each, "max_tokens": 5, "model": "gpt-5"} for name, each in VARIANTS.items()}

    estimate = frame.skytells.compare("text", variants, dry_run=True)

    assert (estimate.requests, estimate.operation) == (60, "compare")
    assert not service.asked
    half = frame.skytells.compare("text", variants, n=15, progress=False)
    service.forget()
    with pytest.raises(BudgetExceededError) as stopped:
        frame.skytells.compare(
            "text", variants, progress=False, fresh=True, budget=half.report.cost * 1.5, max_in_flight=1
        )
    assert 15 < len(service.asked) < 60
    assert stopped.value.frame.columns.tolist()[:2] == ["text", "forward"]
    assert stopped.value.report.sent == len(service.asked)
    assert frame.skytells.report.sent == len(service.asked)


def test_a_sample_asks_about_some_of_its_rows(service: Scripted) -> None:
    frame = animals(200)

    sample = frame.skytells.compare("text", VARIANTS, n=30, sample=5, progress=False)

    assert (sample.rows, len(service.asked), sample.estimate.requests) == (5, 10, 60)
    frame.skytells.compare("text", VARIANTS, n=30, progress=False)
    assert len(service.asked) == 60


@pytest.mark.parametrize(
    ("variants", "options", "message"),
    [
        ("gpt-5", {}, "variants must be a dict of names and variants, or a list"),
        (["gpt-5"], {}, "variants must be at least two, got 1"),
        (["a b c", "a b c"], {}, "different names, got 'a b c' twice"),
        (["gpt-5", "gpt-5.4"], {}, "'gpt-5' must say what is asked about each text"),
        (["a b", 3], {}, "'variant 2' must be the name of a model, a prompt, or a dict of keywords, got int"),
        ({"a": {"labels": LABELS}, "b": {"question": "Is it?"}}, {}, "must all be yes-or-no questions or none"),
        (
            {"a": {"labels": LABELS}, "b": {"labels": LABELS, "multi": True}},
            {},
            "'b' must be without multi: its answers",
        ),
        ({"a": {"labels": LABELS}, "b": {"labels": LABELS, "budget": 1}}, {}, "budget must be a keyword of compare"),
        (
            {"a": {"labels": LABELS}, "b": {"labels": LABELS, "modle": "x"}},
            {},
            "'b' has the unknown keyword 'modle' of",
        ),
        ({"a": {"labels": LABELS}, "b": {"labels": ["one"]}}, {}, "'b' cannot be asked: labels must have at least two"),
        ({"a": {"template": "{text}"}, "b": {"template": "{nothing}"}}, {}, "'b' cannot be asked: .*nothing"),
        (VARIANTS, {"gold": pd.Series({"r1": "bird"})}, "gold has labels that the variants do not have: 'bird'"),
        (VARIANTS, {"gold": pd.Series({"elsewhere": "cat"})}, "gold has no row of the frame"),
        (VARIANTS, {"n": 0}, "n must be a positive integer, got 0"),
        (VARIANTS, {"sample_seed": -1}, "sample_seed must be an integer, 0 or more"),
        (VARIANTS, {"labels": LABELS, "question": "Is it?"}, "labels and question are for different methods"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_sent(
    service: Scripted, variants: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        animals(9).skytells.compare("text", variants, progress=False, **options)
    assert not service.asked


def test_rows_picked_by_uncertainty_are_refused(judge: WordJudge) -> None:
    frame = animals(20).assign(truth_confidence=0.5)
    gold = frame.skytells.gold_sample("truth", 6, pick="uncertain")["truth"]

    with pytest.raises(InputError, match="picked by uncertainty"):
        frame.skytells.compare("text", VARIANTS, gold=gold, progress=False)


def test_weights_of_the_judged_rows_count(judge: WordJudge) -> None:
    frame = animals(21)
    weights = np.where(frame["text"].str.contains("and a cat"), 10.0, 1.0)
    gold = pd.DataFrame({"gold": frame["truth"], "weight": weights})

    found = frame.skytells.compare("text", VARIANTS, gold=gold, progress=False)

    rows = found.rows.loc[frame.index]
    expected = np.average(rows["forward"].astype(str) == rows["gold"], weights=weights)
    assert found.frame.loc["forward", "accuracy"] == pytest.approx(expected) != 1


@pytest.mark.parametrize("how", ["attrs", "bare values", "other frame"])
def test_rows_of_a_gold_sample_count_as_they_were_drawn(judge: WordJudge, how: str) -> None:
    """A stratified sample, whose rows of a rare label and of a small group stand for fewer rows than others."""
    truth = pd.Series(["dog"] * 180 + ["cat"] * 20)
    # The variant errs in the small group alone.
    wrong = np.arange(200) % 10 == 0
    texts = [f"{each} {row}" + (" and a hen" if wrong[row] else "") for row, each in enumerate(truth)]
    labeled = pd.DataFrame({"text": texts, "label": truth, "group": np.where(wrong, "small", "large")})
    sample = labeled.skytells.gold_sample("label", 40, by="group")
    gold, frame = truth.loc[sample.index].rename("gold"), labeled
    if how == "attrs":
        gold = sample["label"]
        frame = labeled.copy()
    elif how == "other frame":
        gold, frame = sample["label"], labeled[["text"]]
    right = ~wrong[sample.index]
    weights = sample["weight"] if how != "other frame" else None

    found = frame.skytells.compare(
        "text", [{"labels": ["hen", "dog", "cat"]}, {"labels": LABELS}], 60, gold, progress=False
    )

    assert sample["weight"].nunique() > 1
    assert found.frame["accuracy"].iloc[0] == pytest.approx(np.average(right, weights=weights))
    assert found.frame["accuracy"].iloc[0] != pytest.approx(right.mean()) or weights is None
    assert found.weighted == (weights is not None)
    assert ("weighted as they were drawn" if found.weighted else "each judged row counts the same") in str(found)


def test_a_column_compares_as_its_frame(judge: WordJudge) -> None:
    frame = animals(30)

    column = frame["text"].skytells.compare(VARIANTS, 20, frame["truth"], progress=False)
    asked = len(judge.texts)
    whole = frame.skytells.compare("text", VARIANTS, 20, frame["truth"], progress=False)

    assert len(judge.texts) == asked
    assert column.rows.equals(whole.rows)
    assert column.frame["accuracy"].equals(whole.frame["accuracy"])


def test_embeddings_are_a_variant(judge: WordJudge) -> None:
    variants = {"model": VARIANTS["forward"], "near": {"labels": LABELS, "via": "embedding"}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", SkytellsWarning)
        found = animals(9).skytells.compare("text", variants, progress=False)

    assert found.rows["near"].notna().all()
    assert found.frame.loc["near", "model"] == current().settings.embedding_model
    assert found.frame.loc["near", "failed"] == 0


def test_the_plot_has_accuracy_with_limits_else_agreement(service: Scripted) -> None:
    frame = animals(30)
    names = {"<b>a</b>": {"labels": LABELS}, "b": {"labels": LABELS[::-1], "model": "gpt-5.4"}}

    found = frame.skytells.compare("text", names, gold=frame["truth"], progress=False)
    figure = found.plot(theme="dark", title="Which?")

    assert [trace.y[0] for trace in figure.data] == found.frame["accuracy"].tolist()
    # Both have the same price, so it is seconds.
    assert figure.layout.xaxis.title.text == "median seconds of a request"
    places = [trace.x[0] for trace in figure.data]
    assert places == pytest.approx(found.frame["latency_p50"].tolist(), rel=0.03)
    assert len(set(places)) == 2
    tops = [trace.y[0] + trace.error_y.array[0] for trace in figure.data]
    assert tops == pytest.approx(found.frame["accuracy_high"].tolist())
    assert "a thousand rows" in plots.summary(figure)
    assert "<b>" not in str(figure.data[0].text)
    costly = replace(found, frame=found.frame.assign(cost_per_1000=[1.0, 2.5])).plot()
    assert [trace.x[0] for trace in costly.data] == [1.0, 2.5]
    agreement = frame.skytells.compare("text", names, progress=False).plot()
    assert agreement.layout.yaxis.title.text == "kappa with the others"
