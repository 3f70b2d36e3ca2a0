"""Tables of safety findings and frames with completions, for tests."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from skytells_nb.plots.safety_charts.findings import COLUMNS


def finding(row: Any = 0, source: str = "prompt", category: str = "hate", **values: Any) -> dict[str, Any]:
    defaults = {"severity": None, "filtered": False, "detected": None, "checked": True}
    return {"row": row, "source": source, "category": category, **defaults, **values}


def table(*findings: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(findings), columns=list(COLUMNS))


def completed(*findings: list[dict[str, Any]] | None, into: str = "reply", **columns: Any) -> pd.DataFrame:
    """A frame of ``details=True`` with the findings of each row; ``None`` for a row without a request."""
    details = [
        None
        if row_findings is None
        else json.dumps([{"index": 0, **{k: v for k, v in f.items() if k != "row"}} for f in row_findings])
        for row_findings in findings
    ]
    frame = pd.DataFrame(
        {into: ["text" if row_findings is not None else None for row_findings in findings]}, dtype="string"
    )
    frame[f"{into}_safety"] = pd.array(details, dtype="string")
    return frame.assign(**columns)
