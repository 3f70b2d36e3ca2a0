"""Recipes: the columns of one frame for another, and requests only for what the first did not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import WordJudge

import skytells_nb as sky
from skytells_nb import files
from skytells_nb.accessor.lineage import lookup
from skytells_nb.accessor.recipe import compare_rows, row_keys
from skytells_nb.engine.report import RecipeReport
from skytells_nb.errors import InputError

EXAMPLES = [("an example about taste", "taste")]


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"id": range(5), "text": ["late One", "taste Two", "late Three", None, "taste Four"]})


@pytest.fixture
def new() -> pd.DataFrame:
    texts = ["late One", "taste Two", "late Changed", None, "taste Four", "taste New"]
    return pd.DataFrame({"id": range(6), "text": texts})


@pytest.fixture
def made(df: pd.DataFrame, judge: WordJudge) -> pd.DataFrame:
    """A chain: vectors, labels by examples, texts that have the label in their prompt, clusters of the vectors."""
    frame = df.skytells.embed("text", progress=False)
    frame = frame.skytells.classify("text", ["late", "taste"], examples=EXAMPLES, progress=False)
    frame = frame.skytells.complete("{label}: {text}", progress=False)
    return frame.skytells.cluster("embedding", 2, name="words", text="text", progress=False)


def test_only_rows_that_are_new_or_changed_are_asked_about(
    made: pd.DataFrame, new: pd.DataFrame, judge: WordJudge
) -> None:
    before = len(judge.texts)
    result = sky.recipe(made).apply(new, cache="off", progress=False)

    asked = judge.texts[before:]
    assert sorted(asked) == ["late Changed", "late: late Changed", "taste New", "taste: taste New"]
    assert result.columns.tolist() == ["id", "text", *made.columns[2:]]
    assert result["label"].tolist() == ["late", "taste", "late", np.nan, "taste", "taste"]
    assert result["completion"].tolist()[:3] == ["One", "Two", "Changed"]
    assert result.dtypes.drop("id").equals(made.dtypes.drop("id"))
    assert result["cluster"].cat.categories.equals(made["cluster"].cat.categories)
    assert (result["cluster"][[0, 1]].to_numpy() == made["cluster"][[0, 1]].to_numpy()).all()
    report = result.skytells.report
    assert report.recipe == RecipeReport(new=1, changed=1, reused=4)
    assert "1 rows are new, 1 changed, 4 reused" in str(report)
    assert report.to_dict()["recipe"] == {"new": 1, "changed": 1, "reused": 4}


def test_the_result_has_the_records_of_both_calls(made: pd.DataFrame, new: pd.DataFrame) -> None:
    result = sky.recipe(made).apply(new, progress=False)
    labels = result.skytells.lineage.loc["label"]
    assert labels["call"].nunique() == 2
    assert made.skytells.lineage.loc["label", "call"] in set(labels["call"])
    # And is the start of the next day.
    again = sky.recipe(result).apply(new, progress=False)
    assert again.skytells.report.recipe == RecipeReport(new=0, changed=0, reused=6)
    assert again.skytells.report.requests == 0
    pd.testing.assert_series_equal(again["label"], result["label"])


def test_a_dry_run_sends_nothing_and_says_the_same(made: pd.DataFrame, new: pd.DataFrame, judge: WordJudge) -> None:
    before = len(judge.texts)
    estimate = sky.recipe(made).estimate(new)
    assert len(judge.texts) == before
    assert estimate.recipe == RecipeReport(new=1, changed=1, reused=4)
    assert estimate.notes[0] == "1 rows are new, 1 changed, 4 reused"
    assert any("label" in note and "first frame" in note for note in estimate.notes)
    # Two texts to embed, to label and to complete.
    assert estimate.requests == 1 + 2 + 2


def test_it_works_from_a_file_in_another_process(
    made: pd.DataFrame, new: pd.DataFrame, judge: WordJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write(made, tmp_path / "made.parquet")
    monkeypatch.setattr(lookup, "known_calls", {})
    read = files.read(path)

    with pytest.raises(InputError, match=r"examples of classify \('label'\) is not recorded"):
        sky.recipe(read).apply(new)
    recipe = sky.recipe(read, {"label": {"examples": EXAMPLES}})
    before = len(judge.texts)
    result = recipe.apply(new.drop(columns="id"), cache="off", progress=False)
    assert sorted(judge.texts[before:])[:2] == ["late Changed", "late: late Changed"]
    assert "an example about taste" in judge.systems[-1] + judge.systems[-2] + judge.systems[-3] + judge.systems[-4]
    assert result["label"].tolist()[2:] == ["late", np.nan, "taste", "taste"]


def test_a_helper_column_that_was_dropped_is_made_and_dropped_again(
    made: pd.DataFrame, new: pd.DataFrame, judge: WordJudge
) -> None:
    result = sky.recipe(made[["text", "cluster"]]).apply(new, progress=False)
    assert result.columns.tolist() == ["id", "text", "cluster"]


def test_a_renamed_column_is_made_under_its_name(df: pd.DataFrame, new: pd.DataFrame, judge: WordJudge) -> None:
    first = df.skytells.classify("text", ["late", "taste"], progress=False).rename(columns={"label": "kind"})
    judge.asked.clear()
    second = sky.recipe(first).apply(new, progress=False)
    assert [name for name in second.columns if name not in new.columns] == ["kind"]
    assert second.loc[second["text"].isin(first["text"]), "kind"].notna().any()
    assert second.skytells.report.recipe.reused > 0
    assert second.skytells.lineage.loc["kind", "method"].tolist() == ["classify"] * 2


def test_rows_that_were_left_out_are_left_out(df: pd.DataFrame, judge: WordJudge) -> None:
    yes = df.assign(text=["yes One", "no Two", "yes Three", None, "no Four"]).skytells.filter(
        "text", "?", progress=False
    )
    assert yes["text"].tolist() == ["yes One", "yes Three"]
    before = len(judge.texts)
    new = pd.DataFrame({"text": ["no New", "yes New", "yes One"]})
    result = sky.recipe(yes).apply(new, cache="off", progress=False)
    assert result["text"].tolist() == ["yes New", "yes One"]
    assert sorted(judge.texts[before:]) == ["no New", "yes New"]


def test_the_model_of_then_is_asked(df: pd.DataFrame, judge: WordJudge) -> None:
    made = df.skytells.classify("text", ["late", "taste"], model="gpt-5", progress=False)
    result = sky.recipe(made).apply(pd.DataFrame({"text": ["late Other"]}), progress=False)
    assert result.skytells.lineage.loc["label", "model"] == "gpt-5"


def test_the_budget_is_that_of_all_calls(made: pd.DataFrame, new: pd.DataFrame) -> None:
    with pytest.raises(sky.errors.BudgetExceededError):
        sky.recipe(made[["id", "text", "label"]]).apply(new, budget=1e-9, cache="off", progress=False)
    estimate = sky.recipe(made[["id", "text", "label"]]).estimate(new, budget=1e-9)
    assert any("exceeds budget" in note for note in estimate.notes)


def test_a_recipe_says_its_calls(made: pd.DataFrame) -> None:
    recipe = sky.recipe(made)
    assert str(recipe).splitlines()[0] == "Recipe of 4 calls, over 'text':"
    assert "<li>classify" in recipe._repr_html_()
    assert recipe.columns == ["text"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made, new: sky.recipe(new), "no column that a method made"),
        (lambda made, new: sky.recipe([1]), "df must be a pandas DataFrame, got list"),
        (lambda made, new: sky.recipe(made).apply([1]), "new must be a pandas DataFrame, got list"),
        (lambda made, new: sky.recipe(made).apply(new[["id"]]), "it has no 'text'"),
        (lambda made, new: sky.recipe(made).apply(new, temperature=1), r"got temperature=\. What the calls ask"),
        (lambda made, new: sky.recipe(made, {"x": {}}), "arguments must be for columns that the recipe makes, got 'x'"),
    ],
)
def test_what_cannot_be_made_is_refused(made: pd.DataFrame, new: pd.DataFrame, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(made, new)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), max_size=12),
    st.lists(st.sampled_from("abcd"), max_size=12),
    st.integers(0, 3),
)
def test_every_row_is_new_changed_or_reused(old: list[str], later: list[str], shift: int) -> None:
    before = pd.DataFrame({"text": pd.Series(old, dtype="str")})
    after = pd.DataFrame({"text": np.array(later, dtype=object)}, index=range(shift, shift + len(later)))
    counts = compare_rows(before, after, ["text"])
    assert counts.new + counts.changed + counts.reused == len(later)
    assert counts.reused == sum(text in old for text in later)
    gone = {label for label, text in enumerate(old) if text not in later}
    assert counts.changed == sum(text not in old and label in gone for label, text in enumerate(later, start=shift))


def test_keys_of_rows_do_not_depend_on_the_dtype() -> None:
    frames = [
        pd.DataFrame({"text": pd.Series(["a", None], dtype=dtype), "n": pd.Series([1, 2], dtype=number)})
        for dtype, number in (("str", "int64"), ("object", "Int64"), ("category", "int32"))
    ]
    keys = [row_keys(frame, ["text", "n"]).tolist() for frame in frames]
    assert keys[0] == keys[1] == keys[2]
    assert len(set(keys[0])) == 2
