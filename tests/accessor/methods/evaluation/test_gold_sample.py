"""``gold_sample``: which rows are judged, and what each stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import skytells_nb  # noqa: F401 - registers the accessor
from skytells_nb.errors import InputError


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    labels = random.choice(["late", "broken", "fine"], 600, p=[0.3, 0.02, 0.68]).astype(object)
    labels[5] = None
    groups = random.choice(["north", "south"], 600, p=[0.95, 0.05])
    index = [f"r{number}" for number in range(600)]
    return pd.DataFrame({"label": labels, "region": groups, "text": "t"}, index=index)


def test_rows_have_their_index_and_weights_that_sum_to_the_labeled_rows(frame: pd.DataFrame) -> None:
    sample = frame.skytells.gold_sample("label", 100)

    assert len(sample) == 100
    assert sample.columns.tolist() == ["label", "region", "text", "weight"]
    assert sample.drop(columns="weight").equals(frame.loc[sample.index])
    assert sample["label"].notna().all()
    sums = sample.groupby("label")["weight"].sum()
    assert sums.round(6).to_dict() == frame["label"].value_counts().to_dict()
    assert "weight" not in frame


def test_every_label_has_two_rows_and_large_ones_have_their_share(frame: pd.DataFrame) -> None:
    counts = frame.skytells.gold_sample("label", 50)["label"].value_counts()

    assert counts["broken"] >= 2
    assert abs(counts["fine"] / 50 - 0.68) < 0.05


def test_every_label_has_rows_in_each_group_and_small_groups_have_more_than_their_share(frame: pd.DataFrame) -> None:
    sample = frame.skytells.gold_sample("label", 100, by="region")

    counts = sample.groupby(["region", "label"]).size()
    present = frame.dropna(subset="label").groupby(["region", "label"]).size()
    assert set(counts.index) == set(present.index)
    assert (sample["region"] == "south").sum() > 10
    assert sample["weight"].sum() == pytest.approx(599)


def test_it_is_the_same_for_the_same_seed(frame: pd.DataFrame) -> None:
    first, again = (frame.skytells.gold_sample("label", 40, seed=3) for _ in range(2))

    assert first.equals(again)
    assert set(first.index) != set(frame.skytells.gold_sample("label", 40, seed=4).index)


def test_rows_come_in_random_order(frame: pd.DataFrame) -> None:
    """Who stops early has judged a random part."""
    rows = frame.index.get_indexer(frame.skytells.gold_sample("label", 60).index)

    assert (np.diff(rows) < 0).sum() > 15
    assert frame.skytells.gold_sample("label", 200)["label"].head(100).nunique() == 3


def test_numbers_are_stratified_by_their_quantiles() -> None:
    frame = pd.DataFrame({"score": np.random.default_rng(0).gamma(2, 2, 1000)})

    sample = frame.skytells.gold_sample("score", 50)

    quintiles = pd.qcut(frame["score"], 5, labels=False).loc[sample.index].value_counts()
    assert quintiles.tolist() == [10] * 5


def test_booleans_are_labels() -> None:
    frame = pd.DataFrame({"matches": pd.array([True, False, None, True] * 10, dtype="boolean")})

    sample = frame.skytells.gold_sample("matches", 12)

    assert sample["weight"].sum() == pytest.approx(30)


def test_uncertain_rows_are_those_of_the_lowest_confidence(frame: pd.DataFrame) -> None:
    frame["label_confidence"] = np.linspace(1, 0, 600)

    sample = frame.skytells.gold_sample("label", 3, pick="uncertain")

    assert sample.index.tolist() == ["r599", "r598", "r597"]
    assert sample["weight"].isna().all()
    named = frame.assign(p=np.linspace(0, 1, 600)).skytells.gold_sample("label", 2, pick="uncertain", confidence="p")
    assert named.index.tolist() == ["r0", "r1"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"n": 5}, r"n=5 is too small: 3 strata need 2 rows of each label; n=6 would do\.$"),
        ({"n": 6, "by": "region"}, r"2 rows of each label in each group; n=\d+ would do, or leave out by=\.$"),
        ({"n": 600}, r"n must be at most 599, the number of rows with a label, got 600"),
        ({"n": 0}, r"n must be a positive integer, got 0"),
        ({"n": 2.5}, r"n must be a positive integer, got 2.5"),
        ({"n": 50, "seed": "x"}, r"seed must be an integer, 0 or more, got 'x'"),
        ({"n": 50, "pick": "hard"}, r"pick must be 'random' or 'uncertain', got 'hard'"),
        ({"n": 50, "pick": "uncertain"}, r"there is no column 'label_confidence'"),
        ({"n": 50, "confidence": "text"}, r"confidence is for pick='uncertain'"),
        ({"n": 50, "by": "label"}, r"by must name other columns than 'label'"),
        ({"n": 50, "by": "area"}, r"There is no column 'area'"),
        ({"n": 50, "into": "tag"}, r"There is no column 'tag'"),
    ],
)
def test_bad_input_says_what_to_do(frame: pd.DataFrame, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        frame.skytells.gold_sample(**{"into": "label", **options})


def test_the_index_must_be_unique(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"index of the frame must be unique.*reset_index"):
        frame.set_axis([0] * 600).skytells.gold_sample("label", 50)


def test_a_column_weight_is_not_replaced(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="must have no column 'weight'"):
        frame.assign(weight=1).skytells.gold_sample("label", 50)


def test_how_it_was_drawn_stays_with_its_columns_and_in_parquet(frame: pd.DataFrame, tmp_path: Path) -> None:
    sample = frame.skytells.gold_sample("label", 100, by="region")
    sample.to_parquet(tmp_path / "s.parquet")

    for kept in (sample["label"], sample.copy(), pd.read_parquet(tmp_path / "s.parquet")):
        assert kept.attrs == {"skytells_sample": {"into": "label", "by": ["region"], "pick": "random"}}
    assert frame.attrs == {}
