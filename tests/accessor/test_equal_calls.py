"""What is counted of two equal calls is twice what is counted of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from serving import Exchange, serving

import skytells_nb as sky
from skytells_nb.progress.events import Progress
from skytells_nb.session import Session

FLAGGED = {"hate": {"filtered": True, "severity": "high"}}
REPLY = {
    "choices": [{"message": {"content": "x"}, "finish_reason": "stop", "content_filter_results": FLAGGED}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
}


def answer(exchange: Exchange) -> None:
    """Refuses texts with a question mark, and leaves out the usage of those with an exclamation mark."""
    text = exchange.json["messages"][-1]["content"] if exchange.method == "POST" else ""
    if "?" in text:
        exchange.reply({"error": {"message": "no such model", "code": "bad_request"}}, 400)
    else:
        exchange.reply({**REPLY, "usage": None} if "!" in text else REPLY)


def counted(session: Session) -> dict[str, Any]:
    totals = session.totals
    names = ("requests", "input_tokens", "output_tokens", "filtered", "blocked", "unchecked", "missing_usage")
    counts = {name: getattr(totals, name) for name in names}
    counts |= {f"model {name}": getattr(totals.by_model["m"], name) for name in (*names[:3], names[-1])}
    counts |= {f"finding {number}": count for number, count in enumerate(session.safety_findings.values())}
    return counts | {"checked": session.safety_checked}


@pytest.mark.filterwarnings("ignore::skytells_nb.errors.SkytellsWarning")
def test_two_equal_calls_count_twice(tmp_path: Path) -> None:
    """Of the session, of each report, and of the events of each call."""
    events: list[Progress] = []
    with (
        serving(answer) as service,
        sky.connect("sk-x", base_url=service.url, cache=tmp_path / "c.sqlite", model="m") as session,
    ):
        counts, reports, ends = [], [], []
        for name in ("first", "second"):
            texts = [f"{name} {row}" for row in ("a", "b", "c", "c", "d!", "e?", "f?", "f?")]
            done = pd.DataFrame({"text": texts}).skytells.complete(
                "{text}", progress=events.append, on_error="null", max_in_flight=1
            )
            counts.append(counted(session))
            reports.append(done.skytells.report)
            ends.append(events[-1])
    assert counts[1] == {name: 2 * value for name, value in counts[0].items()}
    assert counts[0] | {"requests": 6, "input_tokens": 30, "output_tokens": 9, "missing_usage": 1} == counts[0]
    for report, end in zip(reports, ends, strict=True):
        assert (report.rows, report.distinct, len(report.errors)) == (8, 6, 3)
        assert (end.state, end.done, end.failed) == ("done", 8, 3)
