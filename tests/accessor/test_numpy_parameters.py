"""numpy scalars, arrays and tuples where Python's own values are expected, and values that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scripted import Scripted, scripted

import skytells_nb as sky
from skytells_nb.errors import BudgetExceededError, InputError


@pytest.fixture
def script() -> Iterator[Scripted]:
    with scripted(lambda text: "fine") as script:
        yield script


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"t": ["cat", "dog", "hen"], "by": ["x", "y", "x"], "of": ["p", "p", "p"]})


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ({"max_tokens": np.int64(5)}, {"max_tokens": 5}),
        ({"params": {"max_tokens": np.int64(5)}}, {"max_tokens": 5}),
        ({"temperature": np.float32(0.5)}, {"temperature": 0.5}),
        ({"seed": np.uint8(7)}, {"seed": 7}),
        ({"stop": ("a", "b")}, {"stop": ["a", "b"]}),
        ({"stop": np.array(["a", "b"])}, {"stop": ["a", "b"]}),
        ({"params": {"logit_bias": {"5": np.int8(-100)}}}, {"logit_bias": {"5": -100}}),
        ({"params": {"logprobs": np.bool_(True)}}, {"logprobs": True}),
    ],
)
def test_parameters_of_the_model(
    given: dict[str, Any], sent: dict[str, Any], script: Scripted, df: pd.DataFrame
) -> None:
    df.skytells.complete("{t}", progress=False, on_error="raise", **given)
    assert {name: script.bodies[0][name] for name in sent} == sent
    df.skytells.complete("{t}", progress=False, on_error="raise", **sent if "params" not in given else {"params": sent})
    assert len(script.asked) == 3


def test_options_of_every_method(script: Scripted, df: pd.DataFrame) -> None:
    options: dict[str, Any] = {
        "max_in_flight": np.int64(2),
        "requests_per_minute": np.float64(6e5),
        "tokens_per_minute": np.int32(2_000_000_000),
        "budget": np.float32(1.0),
        "progress": np.bool_(False),
        "fresh": np.bool_(True),
    }
    assert df.skytells.complete("{t}", **options)["completion"].tolist() == ["fine"] * 3
    options["budget"] = None
    assert df.skytells.embed("t", dimensions=np.int64(4), **options)["embedding"].notna().all()
    assert len(df.skytells.search(np.array(["cat", "dog"]), "t", k=np.int64(1), progress=False)) == 2
    assert len(df.skytells.search(("cat", "dog"), "t", k=1, progress=False)) == 2
    assert df.skytells.cluster("t", np.int64(2), name=np.bool_(False), progress=False)["cluster"].nunique() == 2
    assert len(df.skytells.preview("{t}", np.int64(2))) == 2
    table = df.skytells.summarize("t", by=("by", "of"), window=np.int64(200), progress=False)
    assert table.index.tolist() == [("x", "p"), ("y", "p")]


@pytest.mark.parametrize("model", ["", " ", 5, b"gpt-5"])
def test_a_model_has_a_name(model: Any, script: Scripted, df: pd.DataFrame) -> None:
    for call in (
        lambda: df.skytells.complete("{t}", model=model, progress=False),
        lambda: df.skytells.embed("t", model=model, progress=False),
        lambda: df["t"].skytells.classify(["a", "b"], model=model, progress=False),
        lambda: df.skytells.estimate("t", model=model),
    ):
        with pytest.raises(InputError, match="model must be the name of a model"):
            call()
    assert script.asked == script.embedded == []


def test_a_budget_of_several_runs_is_named_as_it_was_given(script: Scripted, df: pd.DataFrame) -> None:
    from skytells_nb.types.models import LISTED_PRICES, Price

    before = dict(LISTED_PRICES)
    LISTED_PRICES.update({"gpt-5": Price(1e3, 1e3), "skytells-embed-3-small": Price(1.0, 0.0)})
    try:
        with pytest.raises(BudgetExceededError) as stopped:
            df.skytells.cluster("t", 2, budget=0.0008, progress=False)
    finally:
        LISTED_PRICES.clear()
        LISTED_PRICES.update(before)
    assert any("of budget=0.0008 was" in note for note in stopped.value.__notes__)


def test_a_usage_chart_takes_a_frame(script: Scripted, df: pd.DataFrame) -> None:
    pytest.importorskip("plotly")
    made = df.skytells.complete("{t}", progress=False)
    assert sky.plots.usage(made) == sky.plots.usage(made.skytells.report)
    with pytest.raises(InputError, match=r"frame\.skytells\.report\)"):
        sky.plots.usage(["x"])
