"""The page about numbers: its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from judges import WordJudge

PAGE = (Path(__file__).parents[4] / "docs" / "numbers.md").read_text()


def test_the_code_of_the_page_runs(judge: WordJudge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        exec(block, namespace)

    assert namespace["review"].gold.notna().sum() == len(namespace["review"].examples) == 1
    assert namespace["found"].accuracy == 1
    assert namespace["shares"].loc["late", "share"] == 2 / 3
    assert namespace["cheaper"].skytells.report.cascade.by_proxy > 300
