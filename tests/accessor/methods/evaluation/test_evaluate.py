"""``evaluate``: agreement of a column with judged rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.metrics import accuracy_score, cohen_kappa_score, precision_recall_fscore_support

import skytells_nb  # noqa: F401 - registers the accessor
from skytells_nb.errors import InputError, SkytellsWarning

LABELS = ["late", "broken", "fine"]


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(1)
    truth = random.choice(LABELS, 800, p=[0.3, 0.1, 0.6])
    label = np.where(random.random(800) < 0.8, truth, random.choice(LABELS, 800))
    return pd.DataFrame(
        {
            "label": pd.Categorical(label, LABELS),
            "truth": truth,
            "region": random.choice(["north", "south"], 800, p=[0.8, 0.2]),
        },
        index=range(1000, 1800),
    )


def test_a_plain_sample_counts_every_row_the_same(frame: pd.DataFrame) -> None:
    gold = frame["truth"].sample(150, random_state=0)

    found = frame.skytells.evaluate("label", gold=gold)

    predicted = frame["label"].loc[gold.index].astype(str)
    right = int((predicted == gold).sum())
    expected = scipy.stats.binomtest(right, 150).proportion_ci(0.95, method="wilson")
    assert (found.accuracy, *found.accuracy_interval) == pytest.approx((right / 150, expected.low, expected.high))
    assert found.kappa == pytest.approx(cohen_kappa_score(gold, predicted))
    assert found.kappa_interval[0] < found.kappa < found.kappa_interval[1]
    scores = precision_recall_fscore_support(gold, predicted, labels=LABELS)
    shown = found.frame[["precision", "recall", "f1", "n_gold"]].to_numpy().T
    assert shown == pytest.approx(np.array(scores))
    assert found.confusion.loc["late", "fine"] == ((gold == "late") & (predicted == "fine")).sum()
    assert found.confusion.to_numpy().sum() == found.n_gold == 150
    assert (found.weighted, found.alpha, found.groups) == (False, None, None)


@pytest.mark.parametrize("how", ["column", "frame", "values"])
def test_a_gold_sample_is_weighted_as_it_was_drawn(frame: pd.DataFrame, how: str) -> None:
    """Whether the judgments are a column of the sample, a table with its weights, or values by index alone."""
    sample = frame.skytells.gold_sample("label", 100, by="region")
    judged = sample.assign(gold=frame["truth"])
    gold = {
        "column": lambda: judged["gold"],
        "frame": lambda: pd.DataFrame({"gold": judged["gold"].array, "weight": judged["weight"]}),
        "values": lambda: pd.Series(dict(judged["gold"].items())),
    }[how]()

    found = frame.skytells.evaluate("label", gold=gold)

    weights, predicted = sample["weight"], sample["label"].astype(str)
    assert found.weighted
    assert found.accuracy == pytest.approx(accuracy_score(judged["gold"], predicted, sample_weight=weights))
    assert found.kappa == pytest.approx(cohen_kappa_score(judged["gold"], predicted, sample_weight=weights))
    scores = precision_recall_fscore_support(judged["gold"], predicted, labels=LABELS, sample_weight=weights)
    shown = found.frame[["precision", "recall", "f1"]].to_numpy().T
    assert shown == pytest.approx(np.array(scores[:3]))
    assert found.confusion.to_numpy().sum() == pytest.approx(800)


def test_rows_that_were_not_judged_do_not_count(frame: pd.DataFrame) -> None:
    gold = frame["truth"].where(frame.index < 1100)

    assert frame.skytells.evaluate("label", gold=gold).n_gold == 100


def test_rows_without_a_label_are_neither_right_nor_wrong(frame: pd.DataFrame) -> None:
    frame.loc[1000:1019, "label"] = None

    found = frame.skytells.evaluate("label", gold=frame["truth"].head(100))

    assert (found.n_gold, found.n_unlabeled) == (80, 20)
    assert "20 judged rows have no label" in str(found)


def test_booleans_texts_and_whole_numbers_are_labels() -> None:
    gold = pd.Series([True, False, False, True])
    for label in (pd.Series([True, False, True, True]), pd.Series([True, False, True, None], dtype="boolean")):
        found = pd.DataFrame({"matches": label}).skytells.evaluate("matches", gold=gold)
        assert found.frame.index.tolist() == [False, True]
        assert found.frame.loc[True, "recall"] == 1
    scores = pd.DataFrame({"score": [1, 2, 3, 3]})
    assert scores.skytells.evaluate("score", gold=pd.Series([1, 2, 2, 3])).accuracy == 0.75


def test_groups_are_compared(frame: pd.DataFrame) -> None:
    gold = frame["truth"].sample(300, random_state=1)

    found = frame.skytells.evaluate("label", gold=gold, by="region").groups

    assert found.index.tolist() == ["north", "south"]
    north = gold[frame["region"].loc[gold.index] == "north"]
    assert found.loc["north", "n_gold"] == len(north)
    assert found.loc["north", "accuracy"] == pytest.approx(
        (frame["label"].loc[north.index].astype(str) == north).mean()
    )
    assert (found["accuracy_low"] < found["accuracy"]).all()


def test_several_annotators_have_an_alpha_and_the_majority_counts() -> None:
    """The nominal alpha of two annotators of ten units (Krippendorff 2011, section A) is 0.095."""
    first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    frame = pd.DataFrame({"label": [0] * 9 + [1]})
    gold = pd.DataFrame({"ann": first, "bob": second})

    found = frame.skytells.evaluate("label", gold=gold)

    assert found.alpha == pytest.approx(0.095, abs=5e-4)
    assert found.alpha_interval is not None
    # Ties are left out: the six rows on which both agree.
    assert found.n_gold == 6
    three = frame.skytells.evaluate("label", gold=gold.assign(cem=[0] * 10))
    assert three.n_gold == 10


def test_a_result_can_be_read_and_has_no_script(frame: pd.DataFrame) -> None:
    frame["label"] = frame["label"].cat.rename_categories({"fine": "<script>x</script>"})
    gold = frame["truth"].replace("fine", "<script>x</script>")

    found = frame.skytells.evaluate("label", gold=gold)

    assert str(found).startswith("800 judged rows: accuracy 0.")
    assert "each judged row counts the same" in repr(found)
    assert "<script>" not in found._repr_html_()
    assert found.plot(title="How good").layout.title.text == "How good"


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        (
            pd.Series(["late"], index=["x"]),
            r"gold has no row of the frame: its index has 'x', that of the frame 1000, ",
        ),
        (pd.Series(["late", None], index=[1, 2], dtype=object), r"gold has no row of the frame"),
        (pd.Series([None, None], index=[1000, 1001], dtype=object), r"gold has no judgment: every value is missing"),
        (pd.Series(["late", "fine"], index=[1000, 1000]), r"gold must have one row for each index label, got 1000"),
        (pd.Series(["Late", "fine"], index=[1000, 1001]), r"'Late' \(in 1 rows\).*Perhaps 'late' was meant"),
        (pd.Series(["lost"], index=[1000]), r"gold has labels that 'label' does not have: 'lost'"),
        (["late", "fine"], r"gold must be a Series of judged labels by index, .*got list"),
        ("judged", r"There is no column 'judged'"),
        (pd.DataFrame({"region": ["north"]}, index=[1000]), r"gold has no column of judgments"),
        (
            pd.DataFrame({"g": ["late", "fine"], "weight": [2.0, None]}, index=[1000, 1001]),
            r"weight of a judged row must be a number above 0, but 1 of 2 have none",
        ),
        (pd.DataFrame({"a": ["late"], "b": ["fine"]}, index=[1000]), r"annotators of gold agree on no row"),
    ],
)
def test_bad_input_says_what_to_do(frame: pd.DataFrame, gold: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        frame.skytells.evaluate("label", gold=gold)


def test_rows_of_another_frame_are_left_out_and_counted(frame: pd.DataFrame) -> None:
    gold = pd.Series(["late", "fine", "fine"], index=[1000, 1001, 7])

    with pytest.warns(SkytellsWarning, match="1 of 3 judged rows are not in the frame"):
        assert frame.skytells.evaluate("label", gold=gold).n_gold == 2


def test_numbers_with_fractions_are_no_labels() -> None:
    with pytest.raises(InputError, match=r"must hold labels, got numbers with fractions. Use mean\(\)"):
        pd.DataFrame({"score": [0.5, 1]}).skytells.evaluate("score", gold=pd.Series([1, 1]))


def test_a_column_without_labels_is_an_error(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="has no label: all 800 rows are missing"):
        frame.assign(label=None).skytells.evaluate("label", gold=frame["truth"])


@pytest.mark.parametrize("kept", ["attrs", "values", "with others"])
def test_rows_that_were_picked_by_uncertainty_are_refused_with_the_reason(frame: pd.DataFrame, kept: str) -> None:
    frame["label_confidence"] = np.linspace(0, 1, 800)
    sample = frame.skytells.gold_sample("label", 50, pick="uncertain").assign(gold=frame["truth"])
    gold = sample["gold"]
    if kept != "attrs":
        gold = pd.Series(dict(gold.items()))
    if kept == "with others":
        gold = pd.concat([gold, frame["truth"].iloc[100:130]])

    for method in (frame.skytells.evaluate, frame.skytells.share):
        with pytest.raises(InputError, match=r"picked by uncertainty.*no interval from them holds"):
            method("label", gold=gold)


def test_a_random_sample_after_an_uncertain_one_is_not_refused(frame: pd.DataFrame) -> None:
    frame["label_confidence"] = np.linspace(0, 1, 800)
    frame.skytells.gold_sample("label", 50, pick="uncertain")
    sample = frame.skytells.gold_sample("label", 60)

    assert frame.skytells.evaluate("label", gold=frame["truth"].loc[sample.index]).weighted
    assert not frame.skytells.evaluate("label", gold=frame["truth"]).weighted
