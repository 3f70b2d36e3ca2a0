"""What a call on a collection would send and cost: the sum over its partitions, and by a sample of its rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb import session as sessions
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.estimate import Sample, sum_estimates
from skytells_nb.columns import column_of
from skytells_nb.dask.partition_call import GraphConnection, bound_method
from skytells_nb.dask.result_dtypes import is_text, with_defaults
from skytells_nb.dask.whole_frames import sample_rows
from skytells_nb.engine.report import Estimate
from skytells_nb.errors import InputError, SkytellsError
from skytells_nb.formatting import format_digits

SEVERAL = "A text in several partitions counts in each, and is paid for once: the call costs at most this."


@dataclass(frozen=True)
class PartitionEstimate:
    """The estimate of a method on one partition, wherever it is; nothing is sent."""

    method: str
    args: tuple[Any, ...]
    options: Mapping[str, Any]
    connection: GraphConnection

    def __call__(self, data: Any) -> Estimate:
        try:
            session = self.connection.session()
        except SkytellsError:
            session = sessions.current_or_keyless()  # no key is needed here
        estimate: Estimate = bound_method(data, self.method)(
            *self.args, **self.options, session=session, dry_run=True, progress=False
        )
        return estimate


def estimate_of(data: Any, name: str, args: tuple[Any, ...], options: Mapping[str, Any], budget: Any) -> Estimate:
    """Return the estimate of a method on all partitions of a collection."""
    from dask import compute, delayed  # type: ignore[attr-defined]

    call = PartitionEstimate(name, args, options, GraphConnection.of(sessions.current_or_keyless()))
    parts: list[Estimate] = list(compute(*map(delayed(call), data.to_delayed())))  # type: ignore[no-untyped-call]
    total = sum_estimates(name, sum(part.rows for part in parts), parts, 0)
    notes = [note for note in total.notes if "cannot be sent" not in note]
    unsent = [note for note in total.notes if "cannot be sent" in note]
    if unsent:
        notes.append(f"In {len(unsent):,} partitions rows cannot be sent; of the first: {unsent[0]}")
    if len(parts) > 1 and total.requests:
        notes.append(SEVERAL)
    if budget is not None and total.cost is not None and total.cost > budget:
        notes.append(f"may exceed budget={format_digits(budget)}; the call would stop early")
    return replace(
        total,
        distinct=sum(part.distinct for part in parts),
        cached=sum(part.cached for part in parts),
        unit_price=parts[0].unit_price,
        notes=tuple(dict.fromkeys(notes)),
    )


def embedding_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a method that its call of ``embed`` takes."""
    taken = inspect.signature(FrameAccessor.embed).parameters.keys() - {"column", "into", "on_error"}
    return {name: value for name, value in options.items() if name in taken}


def cluster_estimate_of(
    data: Any, name: str, args: tuple[Any, ...], options: Mapping[str, Any], budget: Any
) -> Estimate:
    """Return the estimate of ``cluster``: of the embeddings of all rows, and of the names of a sample's clusters."""
    given = with_defaults(name, args, dict(options))
    if given["like"] is not None or given["name"] != "model":
        return estimate_of(data, name, args, options, budget)
    column = given["column"]
    rows = sample_rows(data)
    named: Estimate = bound_method(rows, name)(*args, **options, dry_run=True, progress=False)
    if not is_text(column_of(data._meta_nonempty, column)):
        return replace(named, rows=sum(data.map_partitions(len).compute()))
    own = embedding_options(options)
    whole = estimate_of(data, "embed", (column,), own, budget)
    alone: Estimate = bound_method(rows, "embed")(column, **own, dry_run=True, progress=False)

    def total(figure: str) -> Any:
        of_all, of_both, of_one = (getattr(estimate, figure) for estimate in (whole, named, alone))
        return None if None in (of_all, of_both, of_one) else of_all + of_both - of_one

    figures = ("requests", "tokens_in", "tokens_out", "cost", "minutes")
    notes = tuple(dict.fromkeys((*whole.notes, *(note for note in named.notes if note not in alone.notes))))
    return replace(
        named,
        rows=whole.rows,
        distinct=whole.distinct,
        cached=whole.cached,
        notes=notes,
        **{figure: total(figure) for figure in figures},
    )


def sample_of(
    data: Any,
    name: str,
    args: tuple[Any, ...],
    options: Mapping[str, Any],
    count: Any,
    estimate: Callable[..., Estimate] = estimate_of,
) -> Sample:
    """Return the results of so many rows, spread over the partitions, and the estimate of all rows by them.

    The rows are sent from this process.
    """
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < 1:
        raise InputError(f"sample must be a number of rows, 1 or more, got {count!r}.")
    budget = options.get("budget")
    planned = {option: value for option, value in options.items() if option != "budget"}
    whole = estimate(data, name, args, planned, budget)
    each = -(-int(count) // data.npartitions)
    rows = data.map_partitions(_spread, each, meta=data._meta, enforce_metadata=False).compute()
    rows = _spread(rows, int(count))
    expected = bound_method(rows, name)(*args, **planned, dry_run=True)
    sample: Sample = bound_method(rows, name)(*args, **options, sample=int(count), progress=False)

    def scaled(figure: str) -> int:
        before, after, all_rows = (getattr(one, figure) for one in (expected, sample.estimate, whole))
        return round(all_rows * after / before) if before else int(all_rows)

    tokens_in, tokens_out, requests = scaled("tokens_in"), scaled("tokens_out"), scaled("requests")
    cost = None if whole.unit_price is None else whole.unit_price.cost(tokens_in, tokens_out)
    minutes = whole.minutes
    if sample.estimate.minutes and expected.requests:
        minutes = sample.estimate.minutes * requests / max(1, sample.estimate.requests)
    return replace(
        sample,
        estimate=replace(
            whole,
            requests=requests,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=cost,
            minutes=minutes,
            limit=sample.estimate.limit or whole.limit,
            calibrated=True,
        ),
    )


def _spread(data: Any, count: int) -> Any:
    """Return so many rows, spread over the data."""
    size = len(data)
    return data.iloc[np.unique(np.linspace(0, size - 1, min(count, size)).round().astype(np.int64))] if size else data


def best_of_all(found: pd.DataFrame, queries: list[str] | None, k: int, into: Any, query_column: Any) -> pd.DataFrame:
    """Return the best rows of those that the partitions found, for each query; of equal ones the earlier first."""
    order = np.argsort(-found[into].to_numpy(dtype=np.float64), kind="stable")
    if queries is None:
        return found.iloc[order[:k]]
    asked = found[query_column].to_numpy(dtype=object)[order]
    kept = [order[asked == query][:k] for query in dict.fromkeys(queries)]
    by_query = dict(zip(dict.fromkeys(queries), kept, strict=True))
    return found.iloc[np.concatenate([by_query[query] for query in queries])]
