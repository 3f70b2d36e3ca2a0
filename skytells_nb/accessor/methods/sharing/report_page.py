"""The report of a frame: rows, map, safety, costs, how it was made, and errors on one page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.base import failed_rows
from skytells_nb.accessor.call import attached_to, get_report
from skytells_nb.accessor.lineage.lookup import lineage_frame
from skytells_nb.accessor.methods.sharing.workbook import is_vector, words_of
from skytells_nb.accessor.safety import as_findings, tidy_findings
from skytells_nb.columns import column_of
from skytells_nb.engine.operations.cached import findings_text
from skytells_nb.errors import InputError, MissingExtraError
from skytells_nb.formatting import format_dollars
from skytells_nb.plots import safety, semantic_map
from skytells_nb.plots.maps.projection import Method
from skytells_nb.plots.pages.document import figure_data, fitting_rows, html_page
from skytells_nb.plots.pages.rows import PageRows, attached_rows
from skytells_nb.plots.safety_charts.moderation import moderation_findings, moderation_prefixes
from skytells_nb.plots.theme import TRANSPARENT, format_count, plain_text

MAX_ROWS = 10_000
ROWS_BYTES, MAP_BYTES = 3_000_000, 1_500_000
MAX_ERRORS = 500
MIN_MAP_ROWS = 3
CELL_CHARACTERS = 20_000
SAMPLE_CELLS = 50


def report_page(frame: pd.DataFrame, *, title: str | None, embedding: Any, method: Method, progress: bool) -> str:
    """The whole page of a frame; each part only where there is something to say."""
    vectors = [name for name in dict.fromkeys(frame.columns) if _has_vectors(frame[name])]
    if embedding is not None:
        column_of(frame, embedding)
        if embedding not in vectors:
            raise InputError(f"embedding must be a column of vectors, got {embedding!r}.")
    drawn = embedding if embedding is not None else next(iter(vectors), None)
    heading = plain_text(title, 160) if title else f"Report of {format_count(len(frame), 'row')}"
    written = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    about = f"{format_count(len(frame), 'row')}, {format_count(frame.shape[1], 'column')} · written {written}"
    figures: dict[str, Any] = {}
    sections = [
        ("Rows", _rows_section(frame, vectors)),
        ("Map", _map_section(frame, drawn, method, progress, figures)),
        ("Safety", _safety_section(frame, figures)),
        ("Costs", _costs_section(frame)),
        ("How it was made", _lineage_section(frame)),
        ("Errors", _errors_section(frame)),
    ]
    shown = [(name, part) for name, part in sections if part]
    links = "".join(f'<a href="#{_anchor(name)}">{name}</a>' for name, _ in shown)
    parts = "".join(f'<section id="{_anchor(name)}"><h2>{name}</h2>{part}</section>' for name, part in shown)
    body = (
        f'<main class="sky-report"><h1>{escape(heading)}</h1><p class="sky-quiet">{escape(about)}</p>'
        f"<nav>{links}</nav>{parts}</main>"
    )
    plain = frame.drop(columns=vectors).head(MAX_ROWS)
    rows = PageRows(np.arange(len(plain)), plain)
    data = {"figures": figures, "tables": {"rows": fitting_rows(rows, ROWS_BYTES)}}
    return html_page(heading, body, data, TRANSPARENT, f"{heading}: {about}")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _has_vectors(column: Any) -> bool:
    if isinstance(column, pd.DataFrame) or not (column.dtype == object or isinstance(column.dtype, pd.ArrowDtype)):
        return False
    cells = column.dropna().head(SAMPLE_CELLS).tolist()
    return bool(cells) and all(is_vector(cell) for cell in cells)


def _rows_section(frame: pd.DataFrame, vectors: Sequence[Any]) -> str:
    notes = []
    if len(frame) > MAX_ROWS:
        notes.append(f"The first {MAX_ROWS:,} of {format_count(len(frame), 'row')}.")
    for name in vectors:
        first = frame[name].dropna().iloc[0]
        notes.append(f"Column {plain_text(name, 60)} is left out: {words_of(first)} in each row.")
    return _paragraph(" ".join(notes)) + '<div data-table="rows"></div>'


def _map_section(frame: pd.DataFrame, embedding: Any, method: Method, progress: bool, figures: dict[str, Any]) -> str:
    if embedding is None or int(frame[embedding].notna().sum()) < MIN_MAP_ROWS:
        return ""
    note = ""
    try:
        try:
            figure = semantic_map(frame, embedding, method=method, progress=progress)
        except MissingExtraError:
            figure = semantic_map(frame, embedding, method="pca", progress=progress)
            note = "Drawn by PCA: umap-learn is not installed."
    except MissingExtraError:
        return _paragraph("Not drawn: plotly is not installed.")
    drawn = figure_data(figure)
    rows = attached_rows(figure)
    if rows is not None:
        drawn["rows"] = fitting_rows(rows, MAP_BYTES)
    figures["map"] = drawn
    return f'{_paragraph(note)}<div class="sky-map" data-figure="map"></div>'


def _safety_section(frame: pd.DataFrame, figures: dict[str, Any]) -> str:
    parts: list[str] = []
    for name, findings in _findings(frame):
        if not len(findings):
            continue
        try:
            figure = safety(findings, title=f"Safety of {plain_text(name, 60)}")
        except MissingExtraError:
            return _paragraph("Not drawn: plotly is not installed.")
        key = f"safety-{len(parts)}"
        figures[key] = figure_data(figure)
        parts.append(f'<div class="sky-plain" data-figure="{key}"></div>')
    return "".join(parts)


def _findings(frame: pd.DataFrame) -> Iterable[tuple[Any, pd.DataFrame]]:
    """The findings of each column that has any: stored with it, attached to the frame, or those of ``moderate``."""
    completions = get_report(frame)[1]
    for name in dict.fromkeys(frame.columns):
        stored = f"{name}_safety"
        if stored in frame.columns:
            yield name, tidy_findings(frame[stored], frame.index, stored)
        elif name in completions and len(completions[name]) == len(frame):
            texts = [None if answer is None else findings_text(answer.findings) for answer in completions[name]]
            yield name, tidy_findings(pd.Series(texts, dtype=object), frame.index, stored)
    for prefix in moderation_prefixes(frame):
        table, positions = moderation_findings(frame, prefix)
        yield prefix, as_findings(table.assign(row=frame.index[positions], index=0))


def _costs_section(frame: pd.DataFrame) -> str:
    made = lineage_frame(frame)
    figures = ["method", "model", "time", "rows", "cached", "sent", "requests"]
    figures += ["tokens_in", "tokens_out", "seconds", "cost"]
    if len(made):
        calls = made.drop_duplicates("call")
        lines = [[_figure(name, call[name]) for name in figures] for _, call in calls.iterrows()]
        known = calls["cost"].dropna()
        total = f"{format_dollars(float(known.sum()))} in {format_count(len(calls), 'call')}"
        if len(known) < len(calls):
            total += f"; the price of {len(calls) - len(known):,} of them is not known"
        return _paragraph(f"{total}.") + _table([name.replace("_", " ") for name in figures], lines)
    report = get_report(frame)[0]
    if report is None:
        return ""
    lines = [[line.strip()] for line in str(report).splitlines()]
    return _table(["the last call"], lines)


def _figure(name: str, value: Any) -> str:
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return "not known" if name == "cost" else "—"
    if name == "cost":
        return format_dollars(float(value))
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d %H:%M:%S UTC")
    if isinstance(value, (float, np.floating)):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def _lineage_section(frame: pd.DataFrame) -> str:
    parts = []
    for _, columns in lineage_frame(frame).groupby("call", sort=False):
        made = columns.iloc[0]
        entries = {
            "method": made["method"],
            "model": made["model"],
            "from": ", ".join(map(str, made["sources"])),
            "prompt": made["prompt"],
            "prompt hash": made["prompt_hash"],
            "parameters": _listed(made["parameters"]),
            "arguments": _listed(made["arguments"]),
            "version": made["version"],
            "time": _figure("time", made["time"]),
        }
        lines = "".join(
            f"<dt>{label}</dt><dd>{escape(_clean(value))}</dd>" for label, value in entries.items() if _is_said(value)
        )
        heading = ", ".join("rows left out" if name is None else str(name) for name in columns.index)
        parts.append(f"<details open><summary>{escape(_clean(heading))}</summary><dl>{lines}</dl></details>")
    return "".join(parts)


def _listed(values: Any) -> str:
    return "; ".join(f"{name} = {value}" for name, value in values.items()) if isinstance(values, dict) else ""


def _is_said(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _errors_section(frame: pd.DataFrame) -> str:
    entry = attached_to(frame)
    if entry is None or not entry.report.errors:
        return ""
    said = f"{format_count(len(entry.report.errors), 'row')} failed. {'; '.join(entry.report.reasons())}."
    try:
        failed = failed_rows(frame).iloc[:MAX_ERRORS, -1]
    except InputError:
        # The rows are no longer those of the call.
        return _paragraph(said)
    more = f" The first {MAX_ERRORS:,} of them:" if len(entry.report.errors) > MAX_ERRORS else ""
    return _paragraph(said + more) + _table(["row", "error"], [[str(row), str(why)] for row, why in failed.items()])


def _paragraph(text: str) -> str:
    return f"<p>{escape(_clean(text))}</p>" if text else ""


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    names = "".join(f"<th>{escape(_clean(name))}</th>" for name in head)
    rows = "".join(f"<tr>{''.join(f'<td>{escape(_clean(cell))}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="sky-scroll"><table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></div>'


def _clean(text: Any) -> str:
    """The text without characters that reorder or hide others; lines are kept."""
    return "\n".join(plain_text(line) for line in str(text)[:CELL_CHARACTERS].splitlines())
