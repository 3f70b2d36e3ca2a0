"""Safety results are kept once for all rows that have equal ones; what users see is as if each row had its own."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skytells_nb as sky
from skytells_nb.accessor.results import CompletionColumns, details_frame
from skytells_nb.accessor.safety import PRESETS, SAFETY_COLUMNS, SafetyPolicy, tidy_findings
from skytells_nb.accessor.text_columns import STRING_DTYPE
from skytells_nb.engine.operations.cached import CachedCompletion, StoredCompletions
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.engine.report import Report
from skytells_nb.errors import ContentPolicyError, InputError, ServerError
from skytells_nb.plots.safety_charts.findings import SOURCES
from skytells_nb.session import Session
from skytells_nb.types.models import Price
from skytells_nb.types.safety import Finding, Safety

FINDING = st.fixed_dictionaries(
    {
        "source": st.sampled_from(["prompt", "completion"]),
        "index": st.integers(0, 2),
        "category": st.sampled_from(["hate", "self_harm", 'ein "Wort"', '"],"blocked":']),
        "severity": st.sampled_from([None, "safe", "low", "high", "odd"]),
        "filtered": st.booleans(),
        "detected": st.sampled_from([None, False, True]),
        "checked": st.booleans(),
    }
)
FINDINGS = st.lists(FINDING, max_size=3)
TEXTS = st.text(max_size=12) | st.sampled_from(
    ['","findings":[', ',"findings":[],"blocked":true', "\\", 'a\\","findings":[']
)
COMPLETIONS = st.builds(
    CachedCompletion,
    text=TEXTS,
    finish_reason=st.sampled_from(["stop", "length", "content_filter", None]),
    model=st.sampled_from(["m", "m2"]),
    request_id=st.none() | st.text(max_size=4),
    tokens_in=st.integers(0, 3),
    tokens_out=st.integers(0, 9),
    findings=FINDINGS,
    blocked=st.booleans(),
    rows=st.integers(1, 3),
    reasoning=st.just("") | TEXTS,
)
LABELS = st.sampled_from(
    [
        range(8),
        list("abcdefgh"),
        [0, 0, 0, 1, 1, 1, 2, 2],
        pd.date_range("2026-01-01", periods=8),
        [1, "a", 2, None] * 2,
    ]
)


def shared(completion: CachedCompletion) -> CachedCompletion:
    """The completion as a run returns it."""
    return CachedCompletion.from_parts(*StoredCompletions().split(completion.to_bytes()))


def findings_row_by_row(cells: Sequence[Sequence[Mapping[str, Any]] | None], labels: pd.Index[Any]) -> pd.DataFrame:
    """The table as a dict for each finding makes it."""
    records = [{"row": label, **finding} for label, found in zip(labels, cells, strict=True) for finding in found or ()]
    return pd.DataFrame(records, columns=SAFETY_COLUMNS).astype(
        {"filtered": bool, "checked": bool, "detected": "boolean"}
    )


def details_row_by_row(into: str, answers: CompletionColumns) -> dict[str, pd.Series[Any]]:
    """The details as a loop over the rows makes them."""
    rows, index, price = answers.rows, answers.column.index, answers.price
    errors = [answers.report.errors.get(row) for row in range(len(rows))]
    safety = [None if c is None else Safety.from_records(list(c.findings), blocked=c.blocked) for c in rows]
    answered = [None if isinstance(e, ContentPolicyError) else c for c, e in zip(rows, errors, strict=True)]
    counted = [None if c is None or (c.rows == 1 and not c.tokens_in) else c for c in answered]

    def severity(v: Safety) -> str | None:
        return "not checked" if not v.checked and v.severity in (None, "safe") else v.severity

    def column(values: list[Any], dtype: Any) -> pd.Series[Any]:
        series: pd.Series[Any] = pd.Series(values, index=index, dtype=dtype)
        return series

    made = {
        "finish_reason": column([c and c.finish_reason for c in rows], STRING_DTYPE),
        "filtered": column([None if v is None else v.filtered for v in safety], "boolean"),
        "severity": column([None if v is None else severity(v) for v in safety], STRING_DTYPE),
        "tokens_in": column([c and c.tokens_in for c in counted], "Int64"),
        "tokens_out": column([c and c.tokens_out for c in counted], "Int64"),
        "cost": column([c and price and price.cost(c.tokens_in, c.tokens_out) for c in counted], "Float64"),
        "error": column([None if e is None else f"{type(e).__name__}: {e}" for e in errors], STRING_DTYPE),
        "model": column([c and c.model for c in answered], STRING_DTYPE),
        "request_id": column([c and c.request_id for c in rows], STRING_DTYPE),
        "safety": column([None if c is None else json.dumps(list(c.findings)) for c in rows], STRING_DTYPE),
    }
    if answers.batched:
        made["rows_in_request"] = column([c and c.rows for c in answered], "Int64")
    return {f"{into}_{name}": series for name, series in made.items()}


@given(completion=COMPLETIONS)
def test_the_parts_of_a_completion_make_it_whole_again(completion: CachedCompletion) -> None:
    layout, value = StoredCompletions(), completion.to_bytes()
    own, findings = layout.split(value)
    assert json.loads(findings) == list(completion.findings)
    assert layout.join(own, findings) == value
    assert shared(completion) == CachedCompletion.from_bytes(value) == completion
    assert shared(completion).safety == completion.safety
    assert shared(completion).to_bytes() == value


@given(
    value=st.sampled_from([b'{"text":"a"}', b'{"text":"a","blocked":false,"findings":[{"source":"prompt"}]}', b"{}"])
)
def test_a_completion_of_another_form_stays_in_one_part(value: bytes) -> None:
    layout = StoredCompletions()
    assert layout.split(value) == (value, b"")
    assert layout.join(value, b"") == value


@given(cells=st.lists(st.none() | FINDINGS, min_size=8, max_size=8), labels=LABELS)
def test_the_table_of_findings_is_that_of_a_loop_over_the_rows(cells: list[Any], labels: Any) -> None:
    index = pd.Index(labels)
    texts = pd.Series([None if found is None else json.dumps(found) for found in cells], dtype=object)
    expected = findings_row_by_row(cells, index)
    for column in (texts, texts.astype(STRING_DTYPE), texts.astype("category")):
        table = tidy_findings(column, index, "a_safety")
        pd.testing.assert_frame_equal(table, expected)
        assert table.dtypes.tolist() == expected.dtypes.tolist()


@settings(deadline=None)
@given(
    pool=st.lists(st.none() | COMPLETIONS, min_size=1, max_size=4),
    choice=st.lists(st.integers(0, 3), max_size=9),
    failed=st.sets(st.integers(0, 8)),
    batched=st.booleans(),
    priced=st.booleans(),
)
def test_the_details_are_those_of_a_loop_over_the_rows(
    pool: list[CachedCompletion | None], choice: list[int], failed: set[int], batched: bool, priced: bool
) -> None:
    each = [None if c is None else shared(c) for c in pool]
    rows = [each[number % len(each)] for number in choice]
    kinds: list[Exception] = [ServerError("down", status=500), ContentPolicyError("blocked", status=400)]
    errors = {row: kinds[row % 2] for row in sorted(failed) if row < len(rows)}
    report = Report("complete", "m", "done", rows=len(rows), errors=errors)
    column: pd.Series[Any] = pd.Series([None] * len(rows), index=range(5, 5 + len(rows)), dtype=object)
    answers = CompletionColumns(column, rows, report, None, Price(1.0, 2.0) if priced else None, batched)
    made, expected = details_frame("a", answers), details_row_by_row("a", answers)
    assert list(made) == list(expected)
    for name, series in made.items():
        if name == "a_safety":
            assert isinstance(series.dtype, pd.CategoricalDtype)
            series = series.astype(STRING_DTYPE)
        pd.testing.assert_series_equal(series, expected[name])


@given(pool=st.lists(st.none() | COMPLETIONS, min_size=1, max_size=4), choice=st.lists(st.integers(0, 3), max_size=9))
def test_a_policy_filters_each_row_by_its_own_result(pool: list[CachedCompletion | None], choice: list[int]) -> None:
    from skytells_nb.accessor.safety import _reasons

    rows = [pool[number % len(pool)] for number in choice]
    column: pd.Series[Any] = pd.Series([None] * len(rows), dtype=object)
    answers = CompletionColumns(column, rows, Report("complete", "m", "done"), None, None)
    for policy in (PRESETS["STRICT"], SafetyPolicy({"hate": "high"}, unchecked=True)):
        expected = {row: reason for row, c in enumerate(rows) if c is not None and (reason := policy.reason(c.safety))}
        assert _reasons(policy, answers) == expected


@pytest.mark.parametrize("text", ["no JSON", "{}", "[1]", '"a"'])
def test_a_column_of_anything_else_is_refused(text: str) -> None:
    frame = pd.DataFrame({"a": ["x"], "a_safety": [text]})
    with pytest.raises(InputError, match="'a_safety' must hold JSON lists of findings"):
        frame.skytells.safety("a")


VERDICT = [
    {**asdict(Finding(side, 0, f"{name} {'x' * 60}", "safe"))}
    for side in SOURCES
    for name in ("hate", "sexual", "violence", "self_harm")
]


def cached_frame(session: Session, rows: int, verdicts: int = 3) -> pd.DataFrame:
    """A frame whose prompts all have an answer in the cache, one of a few verdicts each."""
    frame = pd.DataFrame({"text": [f"text {row}" for row in range(rows)]}, index=range(10, 10 + rows))
    job = completion_job(session.settings.model, operation="complete")
    for row, text in enumerate(frame["text"]):
        found = [
            {**finding, "severity": "low" if row % verdicts == 1 else "safe", "index": row % verdicts}
            for finding in VERDICT
        ]
        completion = CachedCompletion(f"answer {row}", "stop", "m", f"req_{row}", 5, 7, found)
        session.engine.store(session.engine.prepare(job), text, completion.to_bytes())
    return frame


@pytest.fixture
def offline() -> Session:
    return sky.connect("sk-offline", base_url="http://127.0.0.1:9/v1", cache="memory")


def test_equal_verdicts_are_one_object_and_one_category(offline: Session) -> None:
    frame = cached_frame(offline, 30)
    out = frame.skytells.complete("{text}", into="a", details=True, progress=False)
    assert out["a_safety"].dtype.name == "category"
    assert len(out["a_safety"].cat.categories) == 3
    assert json.loads(out["a_safety"].iloc[4])[0]["severity"] == "low"
    assert out["a_severity"].tolist() == ["safe", "low", "safe"] * 10


def test_rows_of_a_frame_keep_their_findings_through_masks_concat_and_files(offline: Session, tmp_path: Path) -> None:
    frame = cached_frame(offline, 30)
    out = frame.skytells.complete("{text}", into="a", details=True, progress=False)
    whole = out.skytells.safety("a")
    assert whole.equals(frame.skytells.complete("{text}", into="a", progress=False).skytells.safety("a"))
    mask = out["a_severity"] == "low"
    part = out[mask].skytells.safety("a")
    pd.testing.assert_frame_equal(part, whole[whole["row"].isin(out.index[mask])].reset_index(drop=True))
    again = pd.concat([out[mask], out[~mask]]).sort_index()
    pd.testing.assert_frame_equal(again.skytells.safety("a"), whole)
    other = out.assign(a_safety=out["a_safety"].cat.rename_categories(lambda text: text.replace("hate", "hatred")))
    both = pd.concat([out, other])
    assert len(both.skytells.safety("a")) == 2 * len(whole)
    out.to_parquet(tmp_path / "a.parquet")
    read = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(read.skytells.safety("a"), whole)
    out.to_csv(tmp_path / "a.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv", index_col=0).skytells.safety("a"), whole)


def test_polars_has_the_findings_as_text(offline: Session) -> None:
    pl = pytest.importorskip("polars")
    import skytells_nb.polars  # noqa: F401

    frame = pl.from_pandas(cached_frame(offline, 6).reset_index(drop=True))
    out = frame.skytells.complete("{text}", into="a", details=True, progress=False)
    assert out.schema["a_safety"] == pl.String
    assert json.loads(out["a_safety"][1])[0]["severity"] == "low"


def test_memory_grows_with_the_verdicts_that_differ(offline: Session) -> None:
    """A thousand rows of the same verdict: of 1.5 kB for each in the cache, less than one stays."""
    frame = cached_frame(offline, 2_000)
    frame.head(10).skytells.complete("{text}", into="a", details=True, progress=False)
    tracemalloc.start()
    try:
        out = frame.skytells.complete("{text}", into="a", details=True, progress=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = len(json.dumps(VERDICT))
    assert len(out) == 2_000
    assert peak < 2_000 * size


def test_the_session_counts_each_verdict(offline: Session) -> None:
    frame = cached_frame(offline, 30)
    frame.skytells.complete("{text}", into="a", progress=False)
    assert offline.safety_checked == 30
    assert offline.safety_findings[Finding("prompt", 0, VERDICT[0]["category"], "low")] == 10
    assert np.isclose(offline.totals.unchecked, 0)
