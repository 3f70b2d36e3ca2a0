"""Every part of a figure that a chart sets, beside ``figures.json``, in which reviewers see what a change redraws.

``python tests/plots/test_drawn_as_before.py`` writes that file again, where a chart is meant to look different.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from map_figures import draw
from map_figures import frame as map_frame
from safety_tables import completed, finding, table

from skytells_nb import plots

SAVED = Path(__file__).with_name("figures.json")

DAYS = pd.Series([f"2026-03-{1 + row // 4:02}" for row in range(24)], name="day")
FINDINGS = table(
    *(
        finding(
            row,
            "prompt" if row % 3 else "completion",
            ("hate", "violence", "self-harm", "sexual")[row % 4],
            severity=("safe", "low", "medium", "high")[row * 7 % 4],
            filtered=row % 5 == 0,
            checked=row % 11 != 3,
        )
        for row in range(24)
    ),
    finding(2, "prompt", "jailbreak", detected=True, filtered=True),
    finding(5, "completion", "protected_material_text", detected=True),
)


def topic_frame() -> pd.DataFrame:
    names = np.array(["price", "delay", "taste", "parcel", "service", "color", "size", "smell", "sound"])
    rows = np.arange(90)
    return pd.DataFrame(
        {"day": pd.Timestamp("2026-03-01") + pd.to_timedelta(rows // 12, unit="D"), "about": names[rows * rows % 9]}
    )


def moderated() -> pd.DataFrame:
    """The columns that ``moderate`` adds: safe, withheld, two categories, detected, not checked, not requested."""
    severities = pd.Categorical(["safe", "high", "medium", None, None, None], ["safe", "low", "medium", "high"])
    return pd.DataFrame(
        {
            "text": list("abcdef"),
            "moderation_severity": severities,
            "moderation_filtered": pd.array([False, True, False, False, False, None], "boolean"),
            "moderation_categories": pd.array(["", "violence", "hate, sexual", "jailbreak", "", None], "string"),
            "moderation_checked": pd.array([True, True, True, True, False, None], "boolean"),
        }
    )


def judged() -> tuple[pd.DataFrame, pd.Series[Any]]:
    rows = np.arange(60)
    labels = np.where(rows % 3 == 0, "late", "broken")
    frame = pd.DataFrame({"label": labels, "label_confidence": 0.4 + (rows % 7) / 10})
    return frame, pd.Series(np.where(rows % 4 == 1, "late", labels))


def report(model: str, operation: str, number: int, **values: Any) -> dict[str, Any]:
    timeline = {
        **{"latencies": [0] * 38 + [3 + number, 5, 2, 1], "least": 0.001, "per_doubling": 4, "interval": 0.5},
        **{"answered": [4, 6, 2, 8], "refused": [0, 1, 2, 0], "permitted": [None, 5.0, 5.0, 7.0]},
    }
    used = {"tokens_in": 1200 * (number + 1), "tokens_out": 310, "requests": 9, "cost": 0.25 * number, "sent": 20}
    return {"operation": operation, "model": model, "timeline": timeline, "cached": 12, "errors": 1, **used, **values}


REPORTS = [report("gpt-5.4", "complete", 1), report("embed-3", "embed", 2), report("gpt-5.4", "embed", 3, cost=None)]
CHARTS: dict[str, Callable[[], go.Figure]] = {
    "calibration": lambda: plots.calibration(*judged(), bins=4),
    "calibration, dark": lambda: plots.calibration(*judged(), bins=3, level=0.9, theme="dark", title="Own title"),
    "shares": lambda: plots.shares(judged()[0].skytells.share("label", gold=judged()[1])),
    "shares of groups, light": lambda: plots.shares(
        judged()[0].assign(shop=list("ab") * 30).skytells.share("label", gold=judged()[1], by="shop"), theme="light"
    ),
    "topics over time": lambda: plots.topics_over_time(topic_frame(), "day", into="about"),
    "topics by week, dark": lambda: plots.topics_over_time(
        topic_frame(), "day", into="about", every="week", theme="dark", title="Topics"
    ),
    "safety by": lambda: plots.safety_by(FINDINGS, pd.Series(list("abcb") * 6, name="shop")),
    "safety by, few groups": lambda: plots.safety_by(
        FINDINGS, pd.Series(list("abcd") * 6, name="shop"), flag="medium", max_groups=2, theme="dark", source="prompt"
    ),
    "safety": lambda: plots.safety(FINDINGS),
    "safety of prompts, dark": lambda: plots.safety(
        FINDINGS, source="prompt", max_categories=2, confidence=0.9, theme="dark", title="Findings"
    ),
    "safety of nothing flagged": lambda: plots.safety(table(finding(0, severity="safe"), finding(1, severity="safe"))),
    "safety timeline": lambda: plots.safety_timeline(FINDINGS, DAYS),
    "safety timeline by day": lambda: plots.safety_timeline(
        FINDINGS, DAYS, every="day", flag="medium", theme="light", title="Days"
    ),
    "latency": lambda: plots.latency(REPORTS),
    "latency of one, dark": lambda: plots.latency(REPORTS[0], theme="dark", title="One"),
    "rate": lambda: plots.rate(REPORTS[0]),
    "rate, light": lambda: plots.rate(REPORTS[1], theme="light", title="Rate"),
    "usage": lambda: plots.usage(REPORTS),
    "usage by run, dark": lambda: plots.usage(REPORTS, by="run", theme="dark", title="Used"),
    "map": lambda: draw(map_frame(12), color="topic", label="text"),
    "map of a number, dark": lambda: draw(
        map_frame(12), color="score", size="weight", hover=["text", "topic"], theme="dark", title="Map", quality=True
    ),
    "map in 3-D": lambda: draw(map_frame(12), color="topic", dimensions=3, theme="light", width=700, height=500),
    "map with hulls": lambda: draw(map_frame(24), label="topic", hulls=True, color="weight", color_scale="quantile"),
    "map with topics": lambda: draw(map_frame(60, 4).drop(columns="topic"), label="text"),
    "map with topics and texts on hovering": lambda: draw(
        map_frame(60, 4).drop(columns="topic"), hover="text", theme="dark"
    ),
    "map with one row far away": lambda: draw(
        map_frame(30).assign(x=[*range(29), 1e6], y=[*range(29), 1e6]), coordinates=("x", "y"), label="topic"
    ),
    "safety of completions": lambda: plots.safety(
        completed(
            [finding(severity="low"), finding(category="violence", severity="high", filtered=True)],
            [finding(source="completion", category="sexual", severity="medium")],
            None,
            [],
        ).assign(reply_filtered=[True, None, None, True], reply_finish_reason=["content_filter", "stop", None, "stop"])
    ),
    "safety of moderated texts": lambda: plots.safety(moderated()),
    "safety by of moderated texts": lambda: plots.safety_by(moderated(), pd.Series(list("abcabc"), name="a" * 120)),
    "map of values with the name of a column": lambda: draw(
        map_frame(12), color=pd.Series(range(12), index=range(100, 112), name="topic")
    ),
    "map of a sample": lambda: draw(map_frame(40), max_points=10),
}


def plain(value: Any) -> Any:
    """A part of a figure as JSON, numbers with four digits; without the bytes of images, which libraries compress."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items() if key != "template"}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, str):
        return "data:" if value.startswith("data:image") else value
    if isinstance(value, bool | int) or value is None:
        return value
    return float(f"{value:.3e}") + 0.0 if isinstance(value, float) else str(value)


def differences(now: Any, before: Any, place: str = "") -> Iterator[str]:
    """Where two parts differ by more than what processors round differently."""
    if isinstance(now, dict) and isinstance(before, dict):
        for key in now.keys() | before.keys():
            yield from differences(now.get(key), before.get(key), f"{place}.{key}")
    elif isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        for number, (one, other) in enumerate(zip(now, before, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif isinstance(now, float) and isinstance(before, float):
        if not math.isclose(now, before, rel_tol=2e-3, abs_tol=1e-4) and not math.isnan(now + before):
            yield f"{place}: {now}, before {before}"
    elif now != before:
        yield f"{place}: {now!r}, before {before!r}"


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_drawn_as_before(name: str) -> None:
    before = json.loads(SAVED.read_text("utf-8"))[name]
    assert list(differences(json.loads(json.dumps(plain(CHARTS[name]().to_plotly_json()))), before)) == []


def test_every_chart_is_among_them() -> None:
    drawn = {name for name in plots.__all__ if f"plots.{name}(" in Path(__file__).read_text("utf-8")}
    assert drawn == {*plots.__all__} - {"filtered_rows", "save", "semantic_map", "summary"}


def save() -> None:
    lines = (
        f"{json.dumps(name)}: {json.dumps(plain(chart().to_plotly_json()), ensure_ascii=False, sort_keys=True)}"
        for name, chart in CHARTS.items()
    )
    SAVED.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    save()
