"""What made the columns of a frame: the records that it kept, and those of columns that are recognized by values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from skytells_nb.accessor.lineage import (
    CallRecord,
    Traces,
    column_kind,
    has_source,
    known_calls,
    records_of,
    value_hashes,
)


def find_records(data: pd.DataFrame | pd.Series[Any], *, parts: bool = True) -> list[tuple[CallRecord, bool]]:
    """Return the records of what is in the data, in the order of the calls, and whether each was kept with it.

    Columns whose records pandas dropped are found by their values: each by the fewest calls that explain its rows, of
    equal ones by the latest. So is a column that was renamed, among those whose records are kept; with ``parts=False``
    only if the same call makes it under its new name.
    """
    kept = records_of(data.attrs)
    found = [(record, True) for record in kept]
    if isinstance(data, pd.DataFrame) and data.columns.is_unique:
        named = {name for record in kept for name in record.columns}
        calls: dict[str, list[Any]] = {}
        for name in data.columns:
            if name not in named:
                made_by = _calls_of(data, name)
                for call in made_by:
                    calls.setdefault(call, []).append(name)
                renamed = None if made_by else _renamed(data, name, kept)
                if renamed is not None and (parts or renamed.arguments.get("into") == name):
                    found.append((renamed, False))
        found += [(replace(known_calls[call].record, columns=tuple(names)), False) for call, names in calls.items()]
    return sorted(found, key=lambda each: each[0].time)


def _calls_of(frame: pd.DataFrame, name: Any) -> list[str]:
    """Return the calls of this process that made the values of a column, as far as they are known."""
    entries = [entry for entry in reversed(known_calls.values()) if name in entry.columns]
    if not entries:
        return []
    hashes = _FrameHashes(frame)
    explained: list[tuple[str, set[int]]] = []
    for entry in entries:
        source = entry.record.sources[0] if has_source(entry.record, frame) else None
        rows = hashes.explained(name, entry.columns[name], source)
        if rows:
            explained.append((entry.record.id, rows))
    chosen: list[str] = []
    covered: set[int] = set()
    for call, rows in sorted(explained, key=lambda each: -len(each[1])):
        if not rows <= covered:
            chosen.append(call)
            covered |= rows
    return chosen


def _renamed(frame: pd.DataFrame, name: Any, kept: Sequence[CallRecord]) -> CallRecord | None:
    """Return the record of a column under its new name, where one that the frame had under another name is this one."""
    hashes = _FrameHashes(frame)
    for record in reversed(kept):
        entry = known_calls.get(record.id)
        gone = [old for old in record.columns if entry is not None and old in entry.columns and old not in frame]
        for old in gone:
            assert entry is not None
            # Its source may have another name too.
            sources = [record.sources[0]] if has_source(record, frame) else [None, *frame.columns]
            if any(hashes.explained(name, entry.columns[old], source) for source in sources):
                more = {"into": name} if entry.record.columns == (old,) else {}
                return replace(record, columns=(name,), arguments={**record.arguments, **more})
    return None


class _FrameHashes:
    """The hashes of columns of a frame, each made once."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame
        self._columns: dict[Any, list[int | None]] = {}

    def of(self, name: Any) -> list[int | None]:
        """Return those of a column."""
        if name not in self._columns:
            self._columns[name] = value_hashes(self._frame[name].array)
        return self._columns[name]

    def explained(self, name: Any, traces: Traces, source: Any) -> set[int]:
        """Return the rows of a column that came out as these, none if any differs; by ``source`` where there is one."""
        if traces.kind != column_kind(self._frame[name]):
            return set()
        values = self.of(name)
        if source is None or not traces.by_source:
            return {row for row, value in enumerate(values) if value in traces.telling}
        pairs = traces.by_source
        known = {row: pairs[each] for row, each in enumerate(self.of(source)) if each is not None and each in pairs}
        # Values of a person, or of another call on the same rows, differ somewhere.
        return set(known) if all(values[row] == value for row, value in known.items()) else set()


def live_arguments(record: CallRecord) -> Mapping[str, Any]:
    """Return the arguments that are no plain values, where the call was made in this process."""
    entry = known_calls.get(record.id)
    return {} if entry is None else entry.arguments


def lineage_frame(data: pd.DataFrame | pd.Series[Any]) -> pd.DataFrame:
    """Return a row for each column that a method made, with what made it."""
    rows: list[dict[str, Any]] = []
    names: list[Any] = []
    for record, kept in find_records(data):
        present = [name for name in record.columns if isinstance(data, pd.Series) or name in data.columns]
        for name in present or ([] if record.columns else [None]):
            names.append(data.name if isinstance(data, pd.Series) else name)
            rows.append(
                {
                    "method": record.method,
                    "model": record.model,
                    "prompt": record.prompt,
                    "prompt_hash": record.prompt_hash,
                    "parameters": dict(record.parameters),
                    "version": record.version,
                    "time": record.time,
                    "cost": record.cost,
                    "sources": list(record.sources),
                    "arguments": {**record.arguments, **record.left_out},
                    **{each: getattr(record, each) for each in ("rows", "cached", "sent", "requests")},
                    **{each: getattr(record, each) for each in ("tokens_in", "tokens_out", "seconds")},
                    "call": record.id,
                    "found": "attrs" if kept else "values",
                }
            )
    table = pd.DataFrame(rows, columns=_COLUMNS, index=pd.Index(names, name="column", dtype=object))
    return table.astype({"time": "datetime64[us, UTC]", "cost": "Float64"})


_COLUMNS = [
    "method",
    "model",
    "prompt",
    "prompt_hash",
    "parameters",
    "version",
    "time",
    "cost",
    "sources",
    "arguments",
    "rows",
    "cached",
    "sent",
    "requests",
    "tokens_in",
    "tokens_out",
    "seconds",
    "call",
    "found",
]
