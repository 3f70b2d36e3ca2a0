"""``recipe``: makes the columns of one frame for another, and asks only about rows that the first did not have."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from skytells_nb.accessor.call import attach_report, attached_to
from skytells_nb.accessor.lineage import RUN_OPTIONS, CallRecord, add_records, records_of
from skytells_nb.accessor.lineage.lookup import find_records, live_arguments
from skytells_nb.accessor.methods.estimate import sum_estimates
from skytells_nb.accessor.multi_call import NO_MODEL, sum_reports
from skytells_nb.columns import list_names
from skytells_nb.engine.report import Estimate, RecipeReport, Report
from skytells_nb.errors import InputError
from skytells_nb.files import LINEAGE
from skytells_nb.formatting import format_digits
from skytells_nb.vectors.arrays import Indices

BY_ROW = ("classify", "complete", "embed", "extract", "filter", "moderate", "score", "translate")
"""Methods whose result for a row depends on that row only, so that an earlier result can be used again."""
_TWO_MODELS = ("cluster", "join")
"""Methods with a chat model beside the embedding model, ``chat_model``."""
_VECTOR_METHODS = ("cluster", "dedupe", "embed", "join", "search", "similar")


@dataclass(frozen=True)
class _Step:
    """One call: its record, and its arguments."""

    record: CallRecord
    arguments: Mapping[str, Any]

    @property
    def name(self) -> str:
        made = list_names(self.record.columns) if self.record.columns else "some of the rows"
        return f"{self.record.method} ({self.record.model}) makes {made}"


class Recipe:
    """The calls that made the columns of a frame, in their order.

    ``apply(new)`` makes the same columns for another frame: tomorrow's file. Rows whose texts the first frame has keep
    its results, so they cost nothing; the others are asked about, with the models, prompts and parameters of then.
    Clusters are those of the first frame.
    """

    def __init__(self, frame: pd.DataFrame, arguments: Mapping[Any, Mapping[str, Any]] | None = None) -> None:
        if not isinstance(frame, pd.DataFrame):
            raise InputError(f"df must be a pandas DataFrame, got {type(frame).__name__}.")
        given = dict(arguments or {})
        records = _needed(frame, [record for record, _ in find_records(frame, parts=False)])
        if not records:
            raise InputError(
                "The frame has no column that a method made, as far as is recorded: df.skytells.lineage is empty. Call "
                "recipe() on a frame that methods returned, or on one read from its Parquet file."
            )
        self._frame = frame
        self._steps = [_Step(record, _arguments_of(record, given)) for record in records]
        if given:
            raise InputError(
                f"arguments must be for columns that the recipe makes, got {list_names(list(given))}; it makes "
                f"{list_names([name for record in records for name in record.columns])}."
            )

    @property
    def columns(self) -> list[Any]:
        """The columns that another frame must have."""
        made = {name for step in self._steps for name in step.record.columns}
        return list(dict.fromkeys(n for step in self._steps for n in step.record.sources if n not in made))

    @overload
    def apply(self, new: pd.DataFrame, *, dry_run: Literal[False] = ..., **options: Any) -> pd.DataFrame: ...
    @overload
    def apply(self, new: pd.DataFrame, *, dry_run: bool, **options: Any) -> pd.DataFrame | Estimate: ...
    def apply(self, new: pd.DataFrame, *, dry_run: bool = False, **options: Any) -> pd.DataFrame | Estimate:
        """Make the columns for another frame.

        Parameters
        ----------
        new : pandas.DataFrame
            The frame, with the columns that the first one had before the calls.
        dry_run : bool, default False
            Whether to send nothing and return an ``Estimate``.
        **options : Any
            Options of every call, such as ``budget`` (of all together), ``session``, ``on_error`` or ``progress``.

        Returns
        -------
        pandas.DataFrame or Estimate
            The frame with the new columns. ``.skytells.report.recipe`` (of an estimate ``.recipe``) counts the rows
            that are new, changed and reused: reused have the texts of a row of the first frame, changed have the index
            label of one whose texts are gone, new are all others.

        Raises
        ------
        InputError
            If ``new`` misses a column, or an argument that is not recorded is not known; nothing is sent.
        BudgetExceededError
            If the budget is used up.
        """
        if not isinstance(new, pd.DataFrame):
            raise InputError(f"new must be a pandas DataFrame, got {type(new).__name__}.")
        unknown = [name for name in options if name not in RUN_OPTIONS or name in ("sample", "to")]
        if unknown:
            raise InputError(
                f"apply() takes the options of every call, such as budget=, session= and progress=, got {unknown[0]}=. "
                "What the calls ask is recorded."
            )
        missing = [name for name in self.columns if name not in new.columns]
        if missing:
            raise InputError(
                f"new must have the columns {list_names(self.columns)}, which the recipe reads; it has no "
                f"{list_names(missing)}."
            )
        self._check_arguments()
        counts = compare_rows(self._frame, new, self.columns)
        return self._estimate(new, counts, options) if dry_run else self._run(new, counts, options)

    def estimate(self, new: pd.DataFrame, **options: Any) -> Estimate:
        """Return what ``apply`` would send and cost, and how many rows are new, changed and reused.

        Parameters
        ----------
        new : pandas.DataFrame
            The frame.
        **options : Any
            As for ``apply``.

        Returns
        -------
        Estimate
            The sum over all calls. Where a call reads a column that an earlier one makes, its cost is that of the first
            frame's values, and a note says so.
        """
        return cast(Estimate, self.apply(new, dry_run=True, **options))

    def _check_arguments(self) -> None:
        for step in self._steps:
            lost = [name for name in step.record.left_out if name not in step.arguments and name != "like"]
            if lost:
                column = step.record.columns[0] if step.record.columns else step.record.method
                raise InputError(
                    f"{lost[0]} of {step.record.method} ({column!r}) is not recorded, since a record holds no texts of "
                    f"rows and no objects: it was {step.record.left_out[lost[0]]}. Pass it: "
                    f"sky.recipe(df, {{{column!r}: {{{lost[0]!r}: ...}}}})."
                )

    def _run(self, new: pd.DataFrame, counts: RecipeReport, options: dict[str, Any]) -> pd.DataFrame:
        current = new.copy(deep=False)
        current.attrs = {name: value for name, value in current.attrs.items() if name != LINEAGE}
        reports: list[Report] = []
        for step in self._steps:
            current = self._run_step(step, current, reports, _with_rest_of_budget(options, reports))
        wanted = {*new.columns, *self._frame.columns}
        helpers = [n for step in self._steps for n in step.record.columns if n in current.columns and n not in wanted]
        result = current.drop(columns=helpers) if helpers else current
        *others, last = reports or [Report("recipe", NO_MODEL, "done", cost=0.0)]
        models = ", ".join(dict.fromkeys(each.model for each in reports)) or NO_MODEL
        total = replace(sum_reports(last, *others), operation="recipe", model=models, recipe=counts)
        if not reports:
            total = replace(total, rows=len(new), answered=len(new))
        attach_report(result, total)
        return result

    def _run_step(
        self, step: _Step, current: pd.DataFrame, reports: list[Report], options: Mapping[str, Any]
    ) -> pd.DataFrame:
        """Return the frame after one call."""
        places = self._reusable(step, current)
        if places is None:
            return _call(current, step.record.method, self._whole_arguments(step), reports, options)
        reused = places >= 0
        rest = current[~reused]
        arguments = dict(step.arguments)
        keeps_rows = step.record.method == "filter" and arguments.get("keep", "rows") == "rows"
        if keeps_rows:
            if reused.all():
                return current
            matches = _call(rest, "filter", arguments, reports, options)
            kept = reused.copy()
            kept[np.flatnonzero(~reused)] = _positions(rest, matches)
            result = current[kept]
            result.attrs = matches.attrs
            return result
        made = _call(rest, step.record.method, arguments, reports, options) if len(rest) else None
        result = current.copy(deep=False)
        for name in step.record.columns:
            earlier = self._frame[name].array.take(places[reused])
            result[name] = earlier if made is None else _interleaved(earlier, made[name].array, reused)
        if made is not None:
            result.attrs = {**result.attrs, LINEAGE: made.attrs.get(LINEAGE, "[]")}
        if reused.any():
            both = records_of(result.attrs)
            result.attrs.pop(LINEAGE, None)
            add_records(result, [*both, step.record])
        return result

    def _reusable(self, step: _Step, current: pd.DataFrame) -> Indices | None:
        """Return the position in the first frame of a row with the same sources and a result, -1 for none.

        ``None`` for a method whose results depend on all rows.
        """
        record, frame = step.record, self._frame
        needed = [*record.sources, *record.columns]
        is_function = not isinstance(step.arguments.get("template", ""), str)
        if record.method not in BY_ROW or is_function or not record.sources:
            return None
        if any(name not in frame.columns for name in needed):
            return None
        has_result = np.ones(len(frame), dtype=bool)
        if record.columns:
            has_result = frame[record.columns[0]].notna().to_numpy(dtype=bool)
        known = row_keys(frame, record.sources)
        places = pd.Series(np.flatnonzero(has_result), index=known[has_result])
        places = places[~places.index.duplicated()]
        return places.reindex(row_keys(current, record.sources)).fillna(-1).to_numpy().astype(np.int64)

    def _whole_arguments(self, step: _Step) -> dict[str, Any]:
        """Return the arguments of a method over all rows; clusters are those of the first frame."""
        arguments, record = dict(step.arguments), step.record
        if record.method == "cluster" and all(n in self._frame.columns for n in (*record.sources, *record.columns[:1])):
            for name in ("n", "text", "name"):
                arguments.pop(name, None)
            arguments["like"] = self._frame.astype({record.columns[0]: "category"})
        return arguments

    def _estimate(self, new: pd.DataFrame, counts: RecipeReport, options: dict[str, Any]) -> Estimate:
        estimates: list[Estimate] = []
        notes: list[str] = []
        current = new.copy(deep=False)
        for step in self._steps:
            lost = [name for name in step.record.sources if name not in current.columns]
            if lost and not all(name in self._frame.columns for name in lost):
                notes.append(f"{step.record.method} is not estimated: it reads {list_names(lost)}, which is made first")
                continue
            if lost:
                rows = np.arange(len(current)) % max(1, len(self._frame))
                current = current.assign(**{name: self._frame[name].array.take(rows) for name in lost})
                notes.append(f"{step.record.method} is estimated by {list_names(lost)} of the first frame")
            places = self._reusable(step, current)
            part = current if places is None else current[places < 0]
            arguments = self._whole_arguments(step) if places is None else dict(step.arguments)
            budget_free = {name: value for name, value in options.items() if name != "budget"}
            if len(part):
                method = getattr(part.skytells, step.record.method)
                estimates.append(method(**arguments, **budget_free, dry_run=True))
        total = sum_estimates("recipe", len(new), estimates, 0)
        budget = options.get("budget")
        if budget is not None and total.cost is not None and total.cost > budget:
            notes.append(f"exceeds budget={format_digits(budget)}; the call would stop early")
        return replace(total, notes=tuple(dict.fromkeys([str(counts), *total.notes, *notes])), recipe=counts)

    def __str__(self) -> str:
        lines = [f"{number}. {step.name}" for number, step in enumerate(self._steps, 1)]
        return "\n".join([f"Recipe of {len(lines)} calls, over {list_names(self.columns)}:", *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{html.escape(step.name)}</li>" for step in self._steps)
        return f"<p>Recipe over {html.escape(list_names(self.columns))}:</p><ol>{items}</ol>"


def compare_rows(old: pd.DataFrame, new: pd.DataFrame, columns: Sequence[Any]) -> RecipeReport:
    """Count the rows of ``new`` that ``old`` has, that have the label of a row whose values are gone, and all others.

    >>> old = pd.DataFrame({"text": ["a", "b", "c"]})
    >>> compare_rows(old, pd.DataFrame({"text": ["a", "B", "c", "d"]}), ["text"])
    RecipeReport(new=1, changed=1, reused=2)
    """
    names = [name for name in columns if name in old.columns]
    if not names:
        return RecipeReport(new=len(new), changed=0, reused=0)
    before, after = row_keys(old, names), row_keys(new, names)
    reused = np.isin(after, before)
    gone = old.index[~np.isin(before, after)]
    changed = ~reused & new.index.isin(gone)
    return RecipeReport(new=int((~reused & ~changed).sum()), changed=int(changed.sum()), reused=int(reused.sum()))


def row_keys(frame: pd.DataFrame, columns: Iterable[Any]) -> NDArray[np.uint64]:
    """Return a hash (n,) of the values of each row in these columns, whatever their dtypes are."""
    keys = np.zeros(len(frame), dtype=np.uint64)
    for name in columns:
        column = frame[name]
        missing = column.isna().to_numpy(dtype=bool)
        cells = np.array([_key_text(cell) for cell in column.array] or [], dtype=object)
        hashed = pd.util.hash_array(cells, categorize=True) if len(cells) else keys.copy()
        hashed[missing] = 0
        keys = keys * np.uint64(1099511628211) + hashed
    return keys


def _key_text(cell: Any) -> str:
    if isinstance(cell, (list, np.ndarray)):
        return repr(np.asarray(cell, dtype=np.float32).tobytes()) if len(cell) else ""
    return cell if isinstance(cell, str) else str(cell)


def _interleaved(earlier: Any, later: Any, is_earlier: NDArray[np.bool_]) -> Any:
    """Return the values of two arrays in one, of the dtype of the second."""
    parts = [pd.Series(earlier), pd.Series(later)]
    with contextlib.suppress(TypeError, ValueError):
        parts[0] = parts[0].astype(parts[1].dtype)
    joined = pd.concat(parts, ignore_index=True)
    order = np.empty(len(is_earlier), dtype=np.int64)
    order[is_earlier] = np.arange(len(parts[0]))
    order[~is_earlier] = len(parts[0]) + np.arange(len(parts[1]))
    return joined.array.take(order)


def _positions(rows: pd.DataFrame, kept: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which of the rows a method kept, in their order."""
    if rows.index.is_unique:
        return rows.index.isin(kept.index)
    raise InputError("new must have a unique index for a recipe with filter. Call new.reset_index(drop=True) first.")


def _call(
    frame: pd.DataFrame, method: str, arguments: Mapping[str, Any], reports: list[Report], options: Mapping[str, Any]
) -> pd.DataFrame:
    result: pd.DataFrame = getattr(frame.skytells, method)(**arguments, **options)
    entry = attached_to(result)
    if entry is not None:
        reports.append(entry.report)
    return result


def _with_rest_of_budget(options: Mapping[str, Any], reports: Sequence[Report]) -> dict[str, Any]:
    budget = options.get("budget")
    if budget is None:
        return dict(options)
    spent = sum(report.cost_upper_bound or report.cost or 0.0 for report in reports)
    return {**options, "budget": max(0.0, budget - spent)}


def _needed(frame: pd.DataFrame, records: Sequence[CallRecord]) -> list[CallRecord]:
    """Return the calls that made the columns of a frame, those that made their sources too, in their order."""
    wanted = set(frame.columns)
    chosen: list[CallRecord] = []
    for record in reversed(records):
        made = [name for name in record.columns if name in wanted]
        # A column that was made in parts, such as by an earlier recipe, is made by the latest of its calls.
        if record.columns and not made:
            continue
        if record.method == "similar":
            continue
        chosen.append(record)
        wanted -= set(made)
        wanted |= set(record.sources)
    return chosen[::-1]


def _arguments_of(record: CallRecord, given: dict[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments of a call: those recorded, with its models, those of this process, and those given."""
    arguments = dict(record.arguments)
    if record.method in _VECTOR_METHODS and record.embedding_model is not None:
        arguments["model"] = record.embedding_model
        if record.method in _TWO_MODELS and record.chat_model is not None:
            arguments["chat_model"] = record.chat_model
    elif record.chat_model is not None or record.embedding_model is not None:
        arguments["model"] = record.chat_model or record.embedding_model
    arguments |= live_arguments(record)
    for key in (record.method, *record.columns):
        arguments |= given.pop(key, {})
    return arguments
