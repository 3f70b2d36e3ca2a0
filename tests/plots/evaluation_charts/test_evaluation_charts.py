"""Charts of scores and corrected shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from skytells_nb import plots
from skytells_nb.errors import InputError


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    truth = random.choice(["<b>late</b>", "fine"], 400)
    label = np.where(random.random(400) < 0.8, truth, "fine")
    return pd.DataFrame({"label": label, "truth": truth, "region": random.choice(["n", "s"], 400)})


def test_shares_have_their_interval_beside_the_count(frame: pd.DataFrame) -> None:
    table = frame.skytells.share("label", gold=frame["truth"].head(100))

    figure = plots.shares(table, title="What it says")

    corrected, counted = figure.data
    assert list(corrected.x) == table["share"].tolist()
    assert list(corrected.x + corrected.error_x.array) == pytest.approx(table["high"].tolist())
    assert list(corrected.x - corrected.error_x.arrayminus) == pytest.approx(table["low"].tolist())
    assert list(counted.x) == table["naive"].tolist()
    assert "Corrected by 100 judged rows" in plots.summary(figure)
    assert "<b>" not in "".join(figure.layout.yaxis.ticktext)


def test_shares_by_group_name_both(frame: pd.DataFrame) -> None:
    figure = plots.shares(frame.skytells.share("label", gold=frame["truth"].head(100), by="region"))

    assert figure.layout.yaxis.ticktext[1] == "n · fine"


def test_means_are_not_percentages() -> None:
    frame = pd.DataFrame({"score": [1.0, 2.0, 3.0, 4.0] * 5})

    figure = plots.shares(frame.skytells.mean("score", gold=pd.Series([1.5, 2.5, 3.5, 4.5] * 2)))

    assert figure.layout.xaxis.tickformat is None
    assert figure.layout.annotations[-1].text.startswith("mean, corrected by 8 judged rows")
    assert "plain mean 2.5" in plots.summary(figure)


def test_another_table_is_an_error() -> None:
    with pytest.raises(InputError, match=r"table must be what share\(\) or mean\(\) returned"):
        plots.shares(pd.DataFrame({"share": [0.5]}))


def test_scores_of_labels_have_their_intervals(frame: pd.DataFrame) -> None:
    found = frame.skytells.evaluate("label", gold=frame["truth"].head(100))

    figure = found.plot(theme="dark")

    assert [trace.name for trace in figure.data] == ["precision", "recall", "F1"]
    assert list(figure.data[1].x) == found.frame["recall"].tolist()
    assert "100 judged rows: accuracy" in plots.summary(figure)


def test_an_empty_table_says_so() -> None:
    empty = pd.DataFrame({name: [] for name in ("share", "low", "high", "naive", "n_gold")})

    assert plots.summary(plots.shares(empty)) == "There is nothing to draw."


def test_calibration_has_the_share_that_is_right_with_its_interval() -> None:
    frame = pd.DataFrame({"label": list("abab") * 25, "label_confidence": [0.5, 0.5, 0.9, 0.9] * 25})
    gold = pd.Series(["a", "x", "a", "b"] * 20)  # of the others nothing is known

    figure = plots.calibration(frame, gold, bins=4, theme="light", title="Is it?")

    diagonal, points = figure.data
    assert (list(diagonal.x), list(points.y)) == ([0, 1], [0.5, 1.0])
    assert list(points.x) == pytest.approx([0.5, 0.9])
    limits = scipy.stats.binomtest(20, 40).proportion_ci(0.95, method="wilson")
    assert points.y[0] + points.error_y.array[0] == pytest.approx(limits.high)
    assert points.y[0] - points.error_y.arrayminus[0] == pytest.approx(limits.low)
    assert "80 judged rows, expected calibration error 5.0%" in plots.summary(figure)
    assert list(plots.calibration(frame.assign(gold=gold), "gold", bins=4).data[1].y) == [0.5, 1.0]


@pytest.mark.parametrize(
    ("frame", "gold", "options", "message"),
    [
        ({"label": ["a"]}, pd.Series(["a"]), {}, "label_confidence"),
        ({"label": ["a"], "c": [0.5]}, pd.Series(["a"], index=[9]), {"confidence": "c"}, "No judged row"),
        ({"label": ["a"], "c": [5.0]}, pd.Series(["a"]), {"confidence": "c"}, "confidences from 0 to 1"),
        ({"label": ["a"], "c": [0.5]}, ["a"], {"confidence": "c"}, "gold must be a Series"),
        ({"label": ["a"], "c": [0.5]}, pd.Series(["a"]), {"confidence": "c", "bins": 0}, "bins must be an integer"),
    ],
)
def test_what_cannot_be_drawn_is_said(frame: Any, gold: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plots.calibration(pd.DataFrame(frame), gold, **options)
