"""``share`` and ``mean``: corrected by judged rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest

import skytells_nb.polars  # noqa: F401 - registers the namespace
from skytells_nb.errors import InputError, SkytellsWarning

LABELS = ["late", "broken", "fine"]


@pytest.fixture
def frame() -> pd.DataFrame:
    """A model that calls too many rows late, and more so in the south."""
    random = np.random.default_rng(1)
    truth = random.choice(LABELS, 3000, p=[0.2, 0.05, 0.75])
    region = random.choice(["north", "south"], 3000, p=[0.8, 0.2])
    wrong = random.random(3000) < np.where(region == "north", 0.1, 0.3)
    label = np.where(wrong & (truth == "fine"), "late", truth)
    columns = {"label": pd.Categorical(label, LABELS), "truth": truth, "region": region}
    return pd.DataFrame(columns, index=[f"r{number}" for number in range(3000)])


def covers(frame: pd.DataFrame, *, by: str | None, within: str | None, draws: int) -> pd.Series:
    """How often the limits of each share cover the truth."""
    labeled = frame.assign(label=frame["truth"])
    true = labeled.groupby([*([within] if within else []), "label"]).size()
    true = true / (true.groupby(level=0).transform("sum") if within else true.sum())
    hits = []
    for seed in range(draws):
        sample = frame.skytells.gold_sample("label", 150, by=by, seed=seed)
        found = frame.skytells.share("label", gold=frame["truth"].loc[sample.index], by=within)
        aligned = true.reindex(found.index)
        hits.append((found["low"] <= aligned) & (aligned <= found["high"]))
    return pd.concat(hits, axis=1).mean(axis=1)


def test_it_is_a_frame_by_label(frame: pd.DataFrame) -> None:
    sample = frame.skytells.gold_sample("label", 200).assign(gold=frame["truth"])

    found = frame.skytells.share("label", gold=sample["gold"])

    assert found.index.tolist() == LABELS
    assert found.index.name == "label"
    assert found.columns.tolist() == ["share", "low", "high", "naive", "n_gold"]
    assert found["n_gold"].tolist() == [200] * 3
    assert found["naive"].tolist() == pytest.approx([(frame["label"] == label).mean() for label in LABELS])
    assert found["share"].sum() == pytest.approx(1)
    late = found.loc["late"]
    assert late["low"] <= (frame["truth"] == "late").mean() <= late["high"] < late["naive"]


@pytest.mark.slow
@pytest.mark.parametrize(("by", "within"), [(None, None), ("region", "region"), ("region", None)])
def test_the_limits_cover_the_truth(frame: pd.DataFrame, by: str | None, within: str | None) -> None:
    """Also of a sample that has more rows of small groups than their share, whatever is done with them."""
    assert (covers(frame, by=by, within=within, draws=120) >= 0.9).all()


def test_a_share_by_group(frame: pd.DataFrame) -> None:
    sample = frame.skytells.gold_sample("label", 300, by="region").assign(gold=frame["truth"])

    found = frame.skytells.share("label", gold=sample["gold"], by="region")

    assert found.index.names == ["region", "label"]
    assert found.index.tolist() == [(region, label) for region in ("north", "south") for label in LABELS]
    assert found.groupby("region")["share"].sum().tolist() == pytest.approx([1, 1])
    assert found.loc[("south", "late"), "n_gold"] == (sample["region"] == "south").sum()
    naive = (frame["label"][frame["region"] == "south"] == "late").mean()
    assert found.loc["south"].loc["late", "naive"] == pytest.approx(naive)


def test_groups_of_several_columns(frame: pd.DataFrame) -> None:
    frame["year"] = np.arange(3000) % 2
    found = frame.skytells.share("label", gold=frame["truth"].sample(400, random_state=0), by=["region", "year"])

    assert found.index.names == ["region", "year", "label"]
    assert len(found) == 12


def test_everything_judged_is_certain(frame: pd.DataFrame) -> None:
    found = frame.skytells.share("label", gold=frame["truth"])

    assert found["share"].tolist() == pytest.approx([(frame["truth"] == label).mean() for label in LABELS])
    assert (found["high"] - found["low"]).max() == pytest.approx(0, abs=1e-9)


def test_a_sample_that_was_judged_in_part_counts_as_what_was_judged(frame: pd.DataFrame) -> None:
    sample = frame.skytells.gold_sample("label", 200)
    gold = frame["truth"].loc[sample.index].where(np.arange(200) < 80)

    found = frame.skytells.share("label", gold=gold)

    assert found["n_gold"].tolist() == [80] * 3
    assert found["share"].sum() == pytest.approx(1)


def test_a_narrower_level_is_narrower(frame: pd.DataFrame) -> None:
    gold = frame["truth"].sample(100, random_state=0)
    wide, narrow = (frame.skytells.share("label", gold=gold, level=level) for level in (0.95, 0.8))

    assert ((narrow["high"] - narrow["low"]) < (wide["high"] - wide["low"])).all()


def test_a_label_that_the_model_never_gave_has_a_share(frame: pd.DataFrame) -> None:
    frame["label"] = frame["label"].astype(str).replace("broken", "fine").astype(pd.CategoricalDtype(LABELS))

    found = frame.skytells.share("label", gold=frame["truth"].sample(300, random_state=0))

    assert found.loc["broken", "naive"] == 0
    assert found.loc["broken", "low"] < 0.05 < found.loc["broken", "high"]


def test_too_few_judged_rows_say_how_many_would_do(frame: pd.DataFrame) -> None:
    with pytest.raises(
        InputError, match=r"4 judged rows are too few for a bound.*6 would do.*gold_sample\('label', n\)"
    ):
        frame.skytells.share("label", gold=frame["truth"].head(4))
    with pytest.raises(InputError, match="8 would do"):
        pd.DataFrame({"score": [1, 2, 3, 4] * 5}).skytells.mean("score", gold=pd.Series([1.0, 2.0]))


def test_a_group_with_too_few_has_no_limits(frame: pd.DataFrame) -> None:
    north = frame["truth"][frame["region"] == "north"].sample(100, random_state=0)
    gold = pd.concat([north, frame["truth"][frame["region"] == "south"].head(3)])

    with pytest.warns(SkytellsWarning, match=r"Groups with fewer judged rows than they need \(up to 6\).*'south'"):
        found = frame.skytells.share("label", gold=gold, by="region")

    assert found.loc["south"][["share", "low", "high"]].isna().all(axis=None)
    assert found.loc["south"]["n_gold"].tolist() == [3] * 3
    assert found.loc["north"].notna().all(axis=None)


def test_the_mean_of_numbers() -> None:
    random = np.random.default_rng(3)
    score = random.integers(1, 6, 2000)
    truth = pd.Series(np.clip(score - random.integers(0, 2, 2000), 1, 5).astype(float))
    frame = pd.DataFrame({"score": score, "group": np.where(score > 2, "high", "low")})
    sample = frame.skytells.gold_sample("score", 200)

    found = frame.skytells.mean("score", gold=truth.loc[sample.index])

    assert found.index.tolist() == ["score"]
    assert found.columns.tolist() == ["mean", "low", "high", "naive", "n_gold"]
    row = found.loc["score"]
    assert row["low"] <= truth.mean() <= row["high"] < row["naive"] == score.mean()
    by = frame.skytells.mean("score", gold=truth.loc[sample.index], by="group")
    assert by.index.tolist() == ["high", "low"]
    assert by.loc["high", "low"] <= truth[score > 2].mean() <= by.loc["high", "high"]


def test_a_mean_needs_numbers(frame: pd.DataFrame) -> None:
    with pytest.raises(InputError, match=r"must hold numbers, got category. share\(\) is for labels"):
        frame.skytells.mean("label", gold=frame["truth"])
    numbers = pd.DataFrame({"score": [1.0, 2.0]})
    with pytest.raises(InputError, match=r"gold must hold numbers, got (str|'a')"):
        numbers.skytells.mean("score", gold=pd.Series(["a", "b"]))
    with pytest.raises(InputError, match="finite"):
        pd.DataFrame({"score": [1.0, np.inf]}).skytells.mean("score", gold=pd.Series([1.0, 1.0]))


def test_polars_has_the_labels_as_a_column(frame: pd.DataFrame) -> None:
    table = pl.from_pandas(frame.reset_index(drop=True))
    gold = pl.Series("gold", [value if row < 300 else None for row, value in enumerate(frame["truth"])])

    found = table.skytells.share("label", gold=gold)

    assert found.columns == ["label", "share", "low", "high", "naive", "n_gold"]
    assert sorted(found["label"].to_list()) == sorted(LABELS)
    assert table.skytells.evaluate("label", gold=gold).n_gold == 300
    sample = table.skytells.gold_sample("label", 30)
    assert sample.columns == [*table.columns, "weight"]
    assert len(sample) == 30
