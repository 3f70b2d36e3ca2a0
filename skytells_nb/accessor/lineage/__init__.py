"""What made each column: recorded with the frame that a call returns.

The records of a frame are one JSON text in ``attrs``: pandas copies ``attrs`` with every operation, and a text costs it
nothing. Parquet files keep it too. A record has no text of a row and no key.

pandas keeps ``attrs`` through masks, copies and pickling, but through ``concat`` and ``merge`` only where all frames
have the same. So this process remembers of each column that it made how a few of its rows came out, as hashes.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import json
import sys
import time
import types
import typing
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd

from skytells_nb.accessor.call import BoundCall, CallClock, attached_to
from skytells_nb.accessor.options import RunOptions
from skytells_nb.accessor.prompts.template import Template
from skytells_nb.embedding_columns import frame_hash
from skytells_nb.engine.operations.jobs import Job
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError
from skytells_nb.files import LINEAGE, RECORD_ID
from skytells_nb.sanitize import SHORTEST_KEY, redact_keys

ROW_TEXTS = ("examples",)
"""Arguments that hold texts of rows, of which only a hash is recorded."""


@dataclass(frozen=True)
class CallRecord:
    """One call of a method. ``arguments`` are those that are plain values; ``left_out`` says what the others were."""

    id: str
    method: str
    columns: tuple[Any, ...]
    """The columns that it made; none for a method that only leaves rows out."""
    sources: tuple[Any, ...]
    """The columns that it read."""
    model: str
    version: str
    time: str
    """When it began, in UTC."""
    chat_model: str | None = None
    embedding_model: str | None = None
    prompt: str | None = None
    prompt_hash: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the model, defaults of the method included."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    rows: int = 0
    cached: int = 0
    sent: int = 0
    requests: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = None
    seconds: float = 0.0

    @classmethod
    def of(cls, value: Any) -> CallRecord | None:
        """Return the record that plain values stand for, ``None`` if they are none."""
        if not isinstance(value, Mapping) or not {"id", "method", "columns", "model", "version", "time"} <= set(value):
            return None
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        for name in ("columns", "sources"):
            known[name] = tuple(tuple(each) if isinstance(each, list) else each for each in known.get(name, ()))
        return cls(**known)


def dump_records(records: Iterable[CallRecord]) -> str:
    """Return the records as JSON, without API keys."""
    values = [vars(each) for each in records]
    text = json.dumps(values, ensure_ascii=False, default=str)
    return redact_keys(text) if any(map(_may_hold_a_key, values)) else text


def _may_hold_a_key(record: Mapping[str, Any]) -> bool:
    """Whether what the caller wrote has a text that is as long as a key."""
    given = [*record["arguments"].values(), *record["parameters"].values(), record["prompt"]]
    return any(not isinstance(value, str) or len(value) >= SHORTEST_KEY for value in given if value is not None)


def records_of(attrs: Mapping[Any, Any]) -> list[CallRecord]:
    """Return the records in ``attrs``; what is none of them is passed over."""
    text = attrs.get(LINEAGE)
    try:
        values = json.loads(text) if isinstance(text, str) else []
    except ValueError:
        return []
    found = [CallRecord.of(value) for value in values] if isinstance(values, list) else []
    return [record for record in found if record is not None]


def text_hash(*parts: str) -> str:
    """Return the SHA-256 of texts, as hexadecimal digits."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


class _NotPlainError(Exception):
    """A value is not one that JSON has."""


def plain_arguments(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the arguments that are plain values, and of each other one what it was, with a hash where it has one."""
    kept: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    for name, value in arguments.items():
        try:
            if name in ROW_TEXTS and value is not None:
                raise _NotPlainError
            kept[name] = _labels(value) if name == "labels" else _plain(value)
        except _NotPlainError:
            left_out[name] = describe(value)
    return kept, left_out


def describe(value: Any) -> str:
    """Return what an argument is, without what it holds: its kind, how long it is, a hash.

    >>> describe([("It is late", "late")])[:20]
    'list of 1, sha256 cb'
    """
    kind = getattr(value, "__qualname__", None) or type(value).__name__
    size = f" of {len(value)}" if isinstance(value, (Sequence, pd.DataFrame)) else ""
    if callable(value):
        return str(kind)
    if isinstance(value, pd.DataFrame):
        return f"{kind}{size}, sha256 {frame_hash(value)[:16]}"
    return f"{kind}{size}, sha256 {text_hash(json.dumps(value, ensure_ascii=False, default=str))[:16]}"


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise _NotPlainError


def _labels(value: Any) -> Any:
    """Return the labels of ``classify`` as a list or a mapping, whatever they were given as."""
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return [each.value if isinstance(each.value, str) else each.name for each in value]
    categories = getattr(getattr(value, "dtype", value), "categories", None)
    if isinstance(categories, pd.Index):
        return categories.tolist()
    if isinstance(value, (pd.Index, pd.Series, np.ndarray)):
        return _plain(value.tolist())
    literals = _literals(value)
    return list(literals) if literals else _plain(list(value) if isinstance(value, Sequence) else value)


def _literals(value: Any) -> tuple[Any, ...]:
    value = getattr(value, "__value__", value)
    origin, parts = typing.get_origin(value), typing.get_args(value)
    if origin is Literal:
        return parts
    if origin in (typing.Union, types.UnionType):
        return tuple(dict.fromkeys(each for part in parts for each in _literals(part)))
    return ()


RUN_OPTIONS = frozenset(RunOptions.__annotations__) | {"on_error", "progress", "to", "safety_to"}
"""Keywords that do not change what a method returns."""
_COLUMN_ARGUMENTS = ("column", "template", "on", "by", "text", "images", "conversation", "row_params")
_EXAMPLES = "\nExamples:\n"
"""What comes before the few-shot examples in the instructions of ``classify``."""
_SAMPLED_ROWS = 32
_SAMPLED_COLUMNS = 12
_VECTOR_PART = 16
"""Numbers of a vector that it is recognized by."""
_TELLING_TEXT = 16
"""Characters of a text that hardly comes about twice."""
_KEPT_ROWS = 1_000
"""Rows below which a frame that was an argument is kept for recipes."""
_MOST_CALLS = 500


@dataclass(frozen=True)
class Traces:
    """How a few rows of a column came out: the hash of the value by that of its source.

    ``telling`` are the hashes of values that hardly come about twice: longer texts, vectors, fractions.
    """

    kind: str
    by_source: Mapping[int, int | None]
    telling: frozenset[int]


@dataclass(frozen=True)
class _Known:
    record: CallRecord
    arguments: Mapping[str, Any]
    columns: Mapping[Any, Traces] = field(default_factory=dict)


known_calls: OrderedDict[str, _Known] = OrderedDict()
"""The latest calls of this process, by id."""


def record_call(clock: CallClock, result: Any) -> None:
    """Add the record of a call to the frame or column that it returned."""
    call = clock.call
    if call is None or call.is_inner or not isinstance(result, (pd.DataFrame, pd.Series)):
        return
    if isinstance(result, pd.Series) and LINEAGE in result.attrs and LINEAGE not in call.data.attrs:
        return  # it is a column of a frame whose method recorded it
    entry = attached_to(result)
    if entry is None:
        return
    record = make_record(clock, entry.report, made_columns(clock, result))
    add_records(result, [record])
    _remember(record, call, result)


def make_record(clock: CallClock, report: Report, columns: Sequence[Any]) -> CallRecord:
    """Return the record of a call, which made these columns."""
    assert clock.call is not None
    arguments = _arguments(clock.call)
    kept, left_out = plain_arguments({name: value for name, value in arguments.items() if name not in RUN_OPTIONS})
    chats = [job for job in clock.jobs.values() if job.single is not None]
    name = clock.call.method.__name__
    main = next((job for job in chats if job.name == name), chats[0] if chats else None)
    schema = None if main is None else _schema(main)
    if "schema" in left_out and schema is not None:
        kept["schema"] = schema
        del left_out["schema"]
    prompt, whole = _prompt(arguments, chats)
    seconds = time.monotonic() - clock.started
    return CallRecord(
        id=uuid.uuid4().hex[:RECORD_ID],
        method=name,
        columns=tuple(columns),
        sources=_sources(clock.call.data, arguments),
        model=report.model,
        version=sys.modules[__name__.partition(".")[0]].__version__,
        time=(datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="milliseconds"),
        chat_model=None if main is None else main.model,
        embedding_model=next((job.model for job in clock.jobs.values() if job.single is None), None),
        prompt=prompt,
        prompt_hash=None if whole is None else text_hash(whole, *left_out.values()),
        parameters={} if main is None else _parameters(main),
        arguments=kept,
        left_out=left_out,
        rows=report.rows,
        cached=report.cached,
        sent=report.sent,
        requests=report.requests,
        tokens_in=report.tokens_in,
        tokens_out=report.tokens_out,
        cost=report.cost,
        seconds=round(seconds, 3),
    )


def add_records(data: pd.DataFrame | pd.Series[Any], new: Sequence[CallRecord]) -> None:
    """Add records to a frame. A column that is made again has its new record only."""
    made = {name for record in new for name in record.columns}
    earlier = []
    for record in records_of(data.attrs):
        columns = tuple(name for name in record.columns if name not in made)
        if columns or not record.columns:
            earlier.append(replace(record, columns=columns))
    data.attrs[LINEAGE] = dump_records([*earlier, *new])


def _arguments(call: BoundCall) -> dict[str, Any]:
    signature = _signature(call.method)
    arguments = dict(signature.bind(None, *call.args, **call.options).arguments)
    arguments.pop(next(iter(signature.parameters)))
    return {name: value for name, value in arguments.items() if value is not None}


@functools.cache
def _signature(method: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(method)


def made_columns(clock: CallClock, result: Any) -> list[Any]:
    """Return the columns of a result that the call made."""
    assert clock.call is not None
    if isinstance(result, pd.Series):
        return [result.name]
    if clock.columns:
        return [name for name in clock.columns if name in result.columns]
    into = str(clock.call.options.get("into", _signature(clock.call.method).parameters["into"].default))
    before = clock.call.data.columns if isinstance(clock.call.data, pd.DataFrame) else ()
    new = [name for name in result.columns if name not in before]
    return [name for name in new if str(name) == into or str(name).startswith(f"{into}_")]


def _sources(data: Any, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the columns that the arguments name, those in a template too."""
    if isinstance(data, pd.Series):
        return (data.name,)
    found: dict[Any, None] = {}
    for name in _COLUMN_ARGUMENTS:
        value = arguments.get(name)
        several = list(value.values()) if isinstance(value, Mapping) else value
        is_label = isinstance(several, tuple) and several in data.columns
        for each in several if isinstance(several, (list, tuple)) and not is_label else [several]:
            try:
                if each in data.columns:
                    found[each] = None
                elif isinstance(each, str) and "{" in each:
                    found |= dict.fromkeys(Template(each).columns(data))
            except (InputError, TypeError):
                continue
    return tuple(found)


def _schema(job: Job) -> Any:
    form = job.params.get("response_format") or {}
    return (form.get("json_schema") or {}).get("schema")


def _parameters(job: Job) -> dict[str, Any]:
    apart = ("system", "response_format", "examples", "dialogues")  # codespell:ignore dialogues
    plain, _ = plain_arguments({name: value for name, value in job.params.items() if name not in apart})
    return {name: float(value) if isinstance(value, float) else value for name, value in plain.items()}


def _prompt(arguments: Mapping[str, Any], chats: Sequence[Job]) -> tuple[str | None, str | None]:
    """Return the instructions without few-shot examples, which are texts of rows, and all that makes the prompt."""
    parts = [job.single.system for job in chats if job.single is not None and job.single.system]
    template = arguments.get("template")
    if template is not None:
        parts.append(template if isinstance(template, str) else f"function {getattr(template, '__qualname__', '')}")
    if not parts:
        return None, None
    shown = list(dict.fromkeys(parts))
    if arguments.get("examples") is not None:
        shown = [part.rpartition(_EXAMPLES)[0] if _EXAMPLES in part else part for part in shown]
        shown.append(f"[{len(arguments['examples']):,} examples]")
    return "\n\n".join(shown), "\n\n".join(dict.fromkeys(parts))


def _remember(record: CallRecord, call: BoundCall, result: Any) -> None:
    arguments = {name: value for name, value in _arguments(call).items() if name in record.left_out}
    frames = {name: value for name, value in arguments.items() if isinstance(value, (pd.DataFrame, pd.Series))}
    columns: dict[Any, Traces] = {}
    if isinstance(result, pd.DataFrame) and result.columns.is_unique and len(result):
        part = slice(0, len(result), max(1, len(result) // _SAMPLED_ROWS))
        sources = None
        if has_source(record, result):
            sources = value_hashes(result[record.sources[0]].array[part])
        for name in record.columns[:_SAMPLED_COLUMNS]:
            cells = list(result[name].array[part])
            values = value_hashes(cells)
            read = zip(sources or (), values, strict=False)
            pairs = {source: value for source, value in read if source is not None}
            kind = column_kind(result[name])
            columns[name] = Traces(kind, pairs, _telling(kind, cells, values))
    # Few-shot examples and functions are small; a frame may be large, and is not kept alive.
    known_calls[record.id] = _Known(
        record, {n: v for n, v in arguments.items() if n not in frames or len(v) < 1000}, columns
    )
    while len(known_calls) > _MOST_CALLS:
        known_calls.popitem(last=False)


def _telling(kind: str, cells: Sequence[Any], hashes: Sequence[int | None]) -> frozenset[int]:
    if kind.startswith(("category", "bool")):
        return frozenset()
    return frozenset(
        each
        for cell, each in zip(cells, hashes, strict=True)
        if each is not None
        and (len(cell) >= _TELLING_TEXT if isinstance(cell, str) else not isinstance(cell, (int, bool)))
    )


def has_source(record: CallRecord, frame: pd.DataFrame) -> bool:
    return bool(record.sources) and record.sources[0] in frame.columns


def column_kind(column: pd.Series[Any]) -> str:
    """Return what a column holds, however it is stored."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return f"category {hash(tuple(map(str, dtype.categories)))}"
    if pd.api.types.is_bool_dtype(dtype):
        return f"bool {dtype}"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    return "text" if pd.api.types.is_string_dtype(dtype) and not _is_vectors(column) else "values"


def _is_vectors(column: pd.Series[Any]) -> bool:
    if not isinstance(column.dtype, (np.dtype, pd.ArrowDtype)):
        return False
    first = next((cell for cell in column.array[:100] if isinstance(cell, (str, list, np.ndarray))), None)
    return isinstance(first, (list, np.ndarray)) and len(first) > 0 and isinstance(first[0], (float, np.floating))


def value_hashes(cells: Iterable[Any]) -> list[int | None]:
    """Return the hash of each value, ``None`` for those that are missing."""
    return [_hash(cell) for cell in cells]


def _hash(value: Any) -> int | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (list, np.ndarray)) and len(value) and isinstance(value[0], (float, np.floating)):
        return hash(np.asarray(value[:_VECTOR_PART], dtype=np.float32).tobytes())
    try:
        return hash(value) if value == value else None
    except (TypeError, ValueError):
        return hash(str(value))
