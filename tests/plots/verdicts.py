"""Tables of findings and frames of completions to draw."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from skytells_nb.plots.safety_charts.findings import COLUMNS


def finding(row: Any = 0, source: str = "prompt", category: str = "hate", **verdict: Any) -> dict[str, Any]:
    rest = {"severity": None, "filtered": False, "detected": None, "checked": True}
    return {"row": row, "source": source, "category": category, **rest, **verdict}


def table(*findings: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(list(findings), columns=list(COLUMNS))


def completed(*verdicts: list[dict[str, Any]] | None, into: str = "reply", **columns: Any) -> pd.DataFrame:
    """A frame as ``details=True`` leaves it, with these findings for each row; ``None`` where nothing was asked."""
    kept = [
        None
        if found is None
        else json.dumps([{"index": 0, **{k: v for k, v in f.items() if k != "row"}} for f in found])
        for found in verdicts
    ]
    frame = pd.DataFrame({into: ["text" if found is not None else None for found in verdicts]}, dtype="string")
    frame[f"{into}_safety"] = pd.array(kept, dtype="string")
    return frame.assign(**columns)
