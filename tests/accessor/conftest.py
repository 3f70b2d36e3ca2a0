"""A served local Skytells and a small frame of texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from judges import Judged, WordJudge, judged
from served import connected, served

from skytells_nb.local.server import LocalServer

TEXTS = ["a cat sleeps", "a dog runs", "a cat sleeps", None, "stocks fell"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    with served() as server, connected(server, tmp_path / "c.sqlite"):
        yield server


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"text": TEXTS, "n": range(5)}, index=list("vwxyz"))


@pytest.fixture(scope="module")
def place() -> Iterator[Judged]:
    with judged() as place:
        yield place


@pytest.fixture
def judge(place: Judged, tmp_path: Path) -> Iterator[WordJudge]:
    with place.session(tmp_path) as judge:
        yield judge
