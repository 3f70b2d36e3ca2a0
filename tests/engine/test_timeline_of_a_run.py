"""The timeline that a run's report tells, from real requests."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from served import connected, served


def test_every_answered_and_rejected_request_is_in_the_timeline(tmp_path: Path) -> None:
    """Some are rejected the first time, however slowly they are sent."""
    frame = pd.DataFrame({"text": [f"text {row}" for row in range(60)]})
    with (
        served("status=429,rate=0.08,times=1,retry_after=0") as server,
        connected(server, tmp_path / "cache.sqlite", max_in_flight=16) as session,
    ):
        frame.skytells.complete("{text}", progress=False)
        report = session.last_report
    assert report is not None
    assert report.timeline is not None
    assert sum(report.timeline.answered) == sum(report.timeline.latencies) == 60
    assert sum(report.timeline.refused) == report.requests - 60 > 0
    assert [rate for rate in report.timeline.permitted if rate]
