"""Gold rows that cannot be used, with every function that takes them: each says what is wrong and what would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import skytells_nb as sky
from skytells_nb.errors import InputError, SkytellsWarning

ROWS = 120
LABELS = ["late", "taste", "price"]
FUNCTIONS = {"evaluate": "label", "share": "label", "mean": "score"}


@pytest.fixture
def frame() -> pd.DataFrame:
    labels = pd.Categorical(LABELS * (ROWS // 3), categories=LABELS)
    confidence = np.linspace(0, 1, ROWS)
    return pd.DataFrame(
        {"label": labels, "score": confidence, "group": ["a", "b"] * (ROWS // 2), "label_confidence": confidence},
        index=[f"r{row}" for row in range(ROWS)],
    )


BAD: dict[str, tuple[Callable[[pd.Series[Any]], Any], str]] = {
    "no overlap": (
        lambda gold: gold.set_axis(range(len(gold))),
        r"gold has no row of the frame: .* that of the frame 'r0'",
    ),
    "nothing judged": (lambda gold: gold.astype(object).mask(gold.notna()), "gold has no judgment"),
    "no row": (lambda gold: gold.iloc[:0], "gold has no judgment"),
    "rows twice": (lambda gold: pd.concat([gold, gold]), "one row for each index label, got 'r"),
    "weights missing": (
        lambda gold: pd.DataFrame({"Ann": gold, "weight": [None, *[1.0] * (len(gold) - 1)]}),
        r"weight of a judged row must be a number above 0, but 1 of 30 have none\. Keep the column 'weight'",
    ),
    "weights of 0": (
        lambda gold: pd.DataFrame({"Ann": gold, "weight": 0.0}),
        "weight of a judged row must be a number",
    ),
    "weights as text": (lambda gold: pd.DataFrame({"Ann": gold, "weight": "much"}), "weight of a judged row must be"),
    "another type": (lambda gold: gold.to_dict(), "gold must be a Series of judged labels by index"),
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", BAD)
def test_gold_that_cannot_be_used_is_refused(frame: pd.DataFrame, function: str, case: str) -> None:
    column = FUNCTIONS[function]
    gold = frame.skytells.gold_sample(column, 30)[column].rename("gold")
    change, message = BAD[case]
    with pytest.raises(InputError, match=message):
        getattr(frame.skytells, function)(column, gold=change(gold))


LONG = pd.DataFrame({"annotator": ["Ann", "Bo"] * 15, "said": ["late", "taste"] * 15})
OTHER_LABELS: dict[str, tuple[Any, Any, str]] = {
    "case and space": (["late", "taste"], [" LATE", "taste"], r"Perhaps 'late' was meant"),
    "case of the column": (["LATE", "taste"], ["late", "taste"], r"Perhaps 'LATE' was meant"),
    "text for whole numbers": ([1, 2], ["1", "2"], r"They differ in type: str in gold, int in the column"),
    "whole numbers for text": (["1", "2"], [1, 2], r"They differ in type: int in gold, str in the column"),
    "yes for True": ([True, False], ["yes", "no"], r"does not have: 'yes', 'no' .* Its labels are False, True\. A col"),
}


@pytest.mark.parametrize("function", ["evaluate", "share"])
@pytest.mark.parametrize("case", OTHER_LABELS)
def test_other_labels_say_what_was_meant(function: str, case: str) -> None:
    labels, judged, message = OTHER_LABELS[case]
    frame = pd.DataFrame({"label": labels * 10})
    with pytest.raises(InputError, match=message):
        getattr(frame.skytells, function)("label", gold=pd.Series(judged * 5))


@pytest.mark.parametrize(
    ("column", "gold"),
    [
        (pd.Series([1, 2] * 10), pd.Series([1.0, 2.0, np.nan, 1.0] * 5)),
        (pd.Series([1, 2] * 10, dtype="Int64"), pd.Series([1.0, 2.0, np.nan, 1.0] * 5)),
        (pd.Series([True, False] * 10), pd.Series([True, None, True, False] * 5, dtype=object)),
        (pd.Series([True, None] * 10, dtype="boolean"), pd.Series([True, False] * 10)),
        (
            pd.Series(["b", "a"] * 10, dtype="category"),
            pd.Series(pd.Categorical(["b", None] * 10, categories=["c", "b"])),
        ),
    ],
)
def test_one_label_is_the_same_in_every_dtype(column: pd.Series[Any], gold: pd.Series[Any]) -> None:
    frame = pd.DataFrame({"label": column})
    found = frame.skytells.evaluate("label", gold=gold)
    both = column.notna() & gold.notna()
    same = [bool(a == b) for a, b in zip(column[both].astype(object), gold[both].astype(object), strict=True)]
    assert found.n_gold == len(same)
    assert found.accuracy == pytest.approx(np.mean(same))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_judgments_in_long_form_say_how_to_make_columns_of_them(frame: pd.DataFrame, function: str) -> None:
    call = getattr(frame.skytells, function)
    twice = LONG.set_index(frame.index[:15].repeat(2))
    with pytest.raises(InputError, match=r"'r0' more than once\. Where several annotators.*gold\.pivot\(columns="):
        call(FUNCTIONS[function], gold=twice)
    levels = twice.set_index("annotator", append=True)["said"]
    with pytest.raises(InputError, match=r"gold has no row of the frame.*gold\.unstack\(\) makes a column for each"):
        call(FUNCTIONS[function], gold=levels)
    with pytest.warns(SkytellsWarning, match="On 14 of 15 judged rows as many annotators say one label as another"):
        found = frame.skytells.evaluate("label", gold=levels.unstack().assign(Cy=["late", *[None] * 14]))
    assert found.n_gold == 1


def test_the_column_itself_is_no_gold(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="gold must be what a person judged, got the column 'label' itself"):
        frame.skytells.evaluate("label", gold="label")


@pytest.mark.parametrize("function", ["evaluate", "share"])
def test_labels_that_the_column_cannot_have_are_named(frame: pd.DataFrame, function: str) -> None:
    gold = pd.Series(["Late", "taste"], index=["r0", "r1"])
    with pytest.raises(
        InputError, match=r"labels that 'label' does not have: 'Late' \(in 1 rows\).*Perhaps 'late' was meant"
    ):
        getattr(frame.skytells, function)("label", gold=gold)


def test_texts_are_no_numbers(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"gold must hold numbers, got .*share\(\) is for labels"):
        frame.skytells.mean("score", gold=pd.Series(["many"] * 20, index=frame.index[:20]))


@pytest.mark.parametrize(("function", "column", "least"), [("share", "label", 6), ("mean", "score", 10)])
def test_too_few_rows_say_how_many_would_do(frame: pd.DataFrame, function: str, column: str, least: int) -> None:
    gold = frame.skytells.gold_sample(column, 30)[column]
    call = getattr(frame.skytells, function)
    with pytest.raises(InputError, match=f"2 judged rows are too few for a bound: .* so that {least} would do"):
        call(column, gold=gold.iloc[:2])
    with pytest.raises(InputError, match=f"in each group: .* so that {least} in each group would do"):
        call(column, gold=gold.iloc[:4], by="group")
    with pytest.raises(InputError, match=r"n=5 is too small: .*; n=(6|10) would do"):
        frame.skytells.gold_sample(column, 5)
    # And so many do.
    assert call(column, gold=frame.skytells.gold_sample(column, least)[column])["low"].notna().all()


def test_labels_without_a_judged_row_have_no_limits_and_a_warning_says_how_many_would_do(frame: pd.DataFrame) -> None:
    gold = pd.Series(["late", "late"], index=["r0", "r3"])
    with pytest.warns(
        SkytellsWarning, match=r"No judged row is of 'taste', 'price'.* n=6, would do: gold_sample\('label', n\)"
    ):
        found = frame.skytells.evaluate("label", gold=gold)
    assert found.frame.loc["taste", ["precision_low", "recall_low"]].isna().all()
    assert found.accuracy_interval[0] < 1
    sampled = frame.skytells.gold_sample("label", 6)["label"]
    assert frame.skytells.evaluate("label", gold=sampled).frame["precision_low"].notna().all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_rows_that_were_picked_by_uncertainty_give_no_interval(frame: pd.DataFrame, function: str) -> None:
    """However they come back: as a column of the sample, as bare values, beside a random sample, for a copy."""
    column = FUNCTIONS[function]
    random = frame.skytells.gold_sample(column, 30)[column]
    hard = frame.skytells.gold_sample(column, 30, pick="uncertain", confidence="label_confidence")[column]
    bare = pd.Series(hard.tolist(), index=hard.index)
    both = pd.concat([pd.Series(random.tolist(), index=random.index), bare]).groupby(level=0, sort=False).first()
    for of, gold in ((frame, hard), (frame, bare), (frame, both), (frame.copy(), hard)):
        with pytest.raises(InputError, match=r"picked by uncertainty.*no interval from them holds"):
            getattr(of.skytells, function)(column, gold=gold)


def test_no_calibration_is_drawn_of_rows_picked_by_uncertainty(frame: pd.DataFrame) -> None:
    hard = frame.skytells.gold_sample("label", 30, pick="uncertain")
    with pytest.raises(InputError, match=r"picked by uncertainty.*no interval from them holds"):
        sky.plots.calibration(frame, hard["label"])
    with pytest.raises(InputError, match="No judged row of gold has a label and a confidence"):
        sky.plots.calibration(frame, hard["label"].set_axis(range(30)).rename("gold").pipe(_plain))


def _plain(series: pd.Series[Any]) -> pd.Series[Any]:
    series.attrs = {}
    return series
