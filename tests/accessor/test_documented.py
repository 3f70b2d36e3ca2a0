"""The page of the accessor's methods has a line for each of them, with keywords that exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from judges import WordJudge

from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor

PAGE = (Path(__file__).parents[2] / "docs" / "accessor.md").read_text()
LINE = r"^\| `{}\.skytells\.({})(?:\(([^`]*)\))?` \| (.+) \| (.+) \|$"
ACCESSORS = {"df": FrameAccessor, "series": SeriesAccessor}


def members(accessor: type) -> dict[str, Any]:
    """What a user reaches by name; of a property the function behind it."""
    found = {name: getattr(accessor, name) for name in dir(accessor) if not name.startswith("_")}
    return {name: member.fget if isinstance(member, property) else member for name, member in found.items()}


@pytest.mark.parametrize("accessor", ACCESSORS)
def test_the_table_has_a_line_for_each_method_and_for_nothing_else(accessor: str) -> None:
    names = [found[0] for found in re.findall(LINE.format(accessor, r"\w+"), PAGE, re.MULTILINE)]
    assert names == sorted(members(ACCESSORS[accessor]))


@pytest.mark.parametrize(
    ("accessor", "name"), [(accessor, name) for accessor, kind in ACCESSORS.items() for name in members(kind)]
)
def test_keywords_that_the_table_names_exist(accessor: str, name: str) -> None:
    """A line may show a call with its first arguments."""
    found = re.search(LINE.format(accessor, name), PAGE, re.MULTILINE)
    assert found is not None
    shown = {part.partition("=")[0].strip() for part in (found[2] or "").split(",") if part.strip()}
    assert shown <= set(inspect.signature(members(ACCESSORS[accessor])[name]).parameters)


def test_the_code_of_the_page_runs(judge: WordJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").write_text("text\nThe parcel is late.\nGreat taste!\n")
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(block, namespace)
    assert namespace["labels"]["label"].notna().all()
    assert namespace["replies"]["completion"].notna().all()
    assert namespace["typed"].notna().all()
    assert "Reviews of November" in (tmp_path / "report.html").read_text("utf-8")
