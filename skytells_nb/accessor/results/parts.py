"""Results written to a folder of Parquet files as rows are done, for results that do not fit into memory."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from skytells_nb.accessor.call import (
    BoundCall,
    DryRun,
    SampleRun,
    attach_report,
    current_clock,
    get_report,
)
from skytells_nb.accessor.lineage import add_records, dump_records, made_columns, make_record, records_of
from skytells_nb.accessor.multi_call import sum_reports
from skytells_nb.accessor.options import dispatch_option
from skytells_nb.accessor.results.folder_claims import UNFINISHED, check_claim, claimed
from skytells_nb.engine.report import Report
from skytells_nb.errors import (
    InputError,
    Interrupted,
    MissingExtraError,
    ScratchFileError,
    SkytellsError,
    warn,
)
from skytells_nb.files import RECORD_ID, with_field_lineage
from skytells_nb.progress.events import Progress
from skytells_nb.progress.parts import SUMMED, PartsProgress
from skytells_nb.session import Session, current

PART_ROWS = 10_000
"""Rows in one part: those in memory with their answers, and those that are done again after the process was killed."""
METADATA = b"skytells_nb"
RUN_OPTIONS = frozenset(
    (
        *("progress", "on_error", "budget", "max_in_flight", "requests_per_minute", "tokens_per_minute"),
        *("cache", "session", "fresh", "retry"),
    )
)
"""Options that do not change what is written."""

Accessor = TypeVar("Accessor")


def with_parts(accessor: type[Accessor]) -> type[Accessor]:
    """Give every method of an accessor that has the option ``to`` for a folder what it does; ``embed`` too."""
    for name in dir(accessor):
        method = getattr(accessor, name)
        if callable(method) and not name.startswith("_") and has_parts(method):
            setattr(accessor, name, dispatch_option(method, ("to", "safety_to"), _to_folder))
    return accessor


def _to_folder(method: Callable[..., Any], accessor: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return the folder that the parts were written to, or what the method returns without one."""
    options = dict(options)
    to, safety_to = options.pop("to", None), options.pop("safety_to", None)
    is_trial = isinstance(options.get("dry_run"), DryRun) or isinstance(options.get("sample"), SampleRun)
    if method.__name__ == "embed" and not _is_folder(to):
        return method(accessor, *args, **options, **({} if to is None else {"to": to}))
    if to is None and safety_to is not None:
        raise InputError("safety_to must be left out without to=: df.skytells.safety(into) of the result has it.")
    if to is None or is_trial:
        return method(accessor, *args, **options)
    return _PartsCall(method, accessor, args, options).write(to, safety_to)


def _is_folder(to: Any) -> bool:
    """Whether ``embed`` is to write a folder: its path has no suffix of a file, and ends with a slash or exists."""
    if not isinstance(to, (str, Path)):
        return False
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        return str(to).endswith(("/", os.sep)) or Path(to).expanduser().is_dir()
    return False


@dataclass(frozen=True)
class _Folder:
    """A folder of parts. A part appears complete, and says in its metadata which call and which rows it is from."""

    path: Path

    @classmethod
    def of(cls, name: str, to: Any) -> _Folder:
        """Return the folder at this path; raises InputError where there can be none."""
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise MissingExtraError("Writing Parquet", "arrow") from None
        if not isinstance(to, (str, Path)):
            raise InputError(f"{name} must be the path of a folder, got {to!r}.")
        try:
            path = Path(to).expanduser().absolute()
            if path.exists() and not path.is_dir():
                raise InputError(f"{name} must be the path of a folder for the parts, got the file {path}.")
            if not path.exists() and not path.parent.is_dir():
                raise InputError(f"{name} must be in a folder that exists, got {path.parent}.")
            if not os.access(path if path.exists() else path.parent, os.W_OK):
                raise InputError(f"{name} must be in a folder that is writable, got {path}.")
        except (OSError, ValueError, RuntimeError) as problem:
            raise InputError(f"{name} must be the path of a folder, got {str(to)[:200]!r}: {problem}.") from None
        return cls(path)

    def part(self, number: int) -> Path:
        return self.path / f"part-{number:05}.parquet"

    def check(self, call: str, count: int) -> None:
        """Raise InputError if there is something else than parts of this call."""
        if not self.path.is_dir():
            return
        ours = {self.part(number).name for number in range(count)}
        for name in sorted(os.listdir(self.path)):
            if name.startswith((".", "_")):
                continue
            if name not in ours or self.done(int(name[5:-8])).get("call") != call:
                raise InputError(
                    f"{self.path} holds {name}, which is not a part of this call with these arguments and rows. Choose "
                    "another folder for to=, or remove this one."
                )

    def done(self, number: int) -> dict[str, Any]:
        """Return what a part says about itself; nothing if it is not there, or another program's."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with contextlib.suppress(OSError, ValueError, pa.ArrowException):
            told = json.loads((pq.read_schema(self.part(number)).metadata or {}).get(METADATA, b"{}"))
            return told if isinstance(told, dict) else {}
        return {}

    def write(self, number: int, table: Any, about: Mapping[str, Any]) -> None:
        """Write a part, which appears once it is complete.

        Raises ScratchFileError if that cannot be, and InputError if the folder is another call's meanwhile.
        """
        import pyarrow.parquet as pq

        metadata = table.schema.metadata
        told = {**metadata, METADATA: json.dumps({**json.loads(metadata[METADATA]), **about}).encode()}
        unfinished = self.path / f".{uuid.uuid4().hex}{UNFINISHED}"
        try:
            self.path.mkdir(exist_ok=True)
            try:
                with unfinished.open("xb") as file:
                    pq.write_table(table.replace_schema_metadata(told), file)
                    file.flush()
                    os.fsync(file.fileno())
                check_claim(self.path, about["call"])
                os.replace(unfinished, self.part(number))
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as problem:
            raise ScratchFileError(
                f"{self.part(number)} cannot be written: {problem.strerror or problem}. Free some space, or choose "
                "another folder for to=; the parts that are there are complete."
            ) from None

    def remove_unfinished(self) -> None:
        """Remove what a killed process has left."""
        with contextlib.suppress(OSError):
            for left in self.path.glob(f".*{UNFINISHED}"):
                left.unlink(missing_ok=True)


@dataclass(frozen=True)
class Parts:
    """What a call writes, wherever its parts are done: results, and safety tables if they were asked for."""

    folder: _Folder
    safety: _Folder | None
    call: str
    """What is the same for calls that write the same."""
    schema: Any
    """The types of the columns that the rows have, as far as they are known for all parts."""
    into: str
    selects: bool
    """Whether a part has only some of its rows."""

    @classmethod
    def of(cls, to: Any, safety_to: Any, call: BoundCall, session: Session, shape: Sequence[int], schema: Any) -> Parts:
        """Return the parts of a call, whose rows are divided in this ``shape``.

        Raises InputError if there can be none.
        """
        folder = _Folder.of("to", to)
        safety = None if safety_to is None else _Folder.of("safety_to", safety_to)
        if safety is not None and safety.path == folder.path:
            raise InputError("safety_to must be another folder than to=.")
        arguments = inspect.signature(call.method).bind(None, *call.args, **call.options)
        arguments.apply_defaults()
        into = arguments.arguments.get("into")
        if not isinstance(into, str):
            raise InputError("to= needs string column names, also for into=; rename the columns first.")
        name, settings = call.method.__name__, session.settings
        described = [
            name,
            _canonical(list(call.args)),
            _canonical({name: value for name, value in call.options.items() if name not in RUN_OPTIONS}),
            session.client.base_url,
            [settings.model, settings.embedding_model],
            [*shape, schema.remove_metadata().to_string()],
        ]
        same = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
        return cls(folder, safety, same, schema, into, name == "filter")

    @contextlib.contextmanager
    def begun(self, count: int, rows: str) -> Iterator[None]:
        """Hold the folders, which are made if need be, in the block; remove what killed processes have left.

        ``rows`` tells the rows from others. Raises InputError if the folders hold something else, or another call
        writes there.
        """
        with contextlib.ExitStack() as held:
            for place in filter(None, (self.folder, self.safety)):
                held.enter_context(claimed(place.path, self.call, rows))
                place.check(self.call, count)
                place.remove_unfinished()
            yield

    def check_rows(self, count: int, digest_of: Callable[[int], str | None]) -> None:
        """Raise InputError if every part that is there is of other rows: those of another frame would be replaced.

        ``digest_of`` returns the digest of the rows of a part, which is asked for as few as possible.
        """
        digest = functools.cache(digest_of)
        for place in filter(None, (self.folder, self.safety)):
            there = [number for number in range(count) if place.part(number).exists()]
            # A part without rows is the same for every frame.
            told = (place.done(number).get("rows") == digest(number) for number in there if digest(number) is not None)
            if (first := next(told, None)) is not None and not (first or any(told)):
                raise InputError(
                    f"{place.path} holds {len(there):,} part{'s' * (len(there) > 1)} of other rows, which this call "
                    "would replace. Choose another folder for to=, one for each frame, or remove this one."
                )

    def digest(self, rows: pd.DataFrame) -> str | None:
        """Return what tells these rows from others, ``None`` if there are none."""
        return _digest(rows, self.schema) if len(rows) else None

    def count(self) -> int:
        """Return how many parts are there."""
        return sum(1 for _ in self.folder.path.glob("part-*.parquet"))

    def done(self, number: int, rows: pd.DataFrame) -> dict[str, Any]:
        """Return what a part of these rows says about itself, nothing if it is not there or has failed rows."""
        done = self.folder.done(number)
        if not done:
            return {}
        about = self._about(rows)
        is_there = done.items() >= about.items() and (
            self.safety is None or self.safety.done(number).items() >= about.items()
        )
        return done if is_there and not done.get("failed") else {}

    def write(self, number: int, rows: pd.DataFrame, result: pd.DataFrame, safety: Any, report: Report | None) -> None:
        """Write the result of these rows, and the safety table that ``safety()`` returns."""
        counts = {name: getattr(report, name, 0) for name in ("nulls", "answered", "failed")}
        about = {**self._about(rows), **counts}
        if self.safety is not None:
            self.safety.write(number, _table(safety()), about)
        table = _table(result, self.schema, keep=self.into, selects=self.selects)
        # Its records have an id for each part.
        earlier = {record.id for record in records_of(rows.attrs)}
        records = [
            record if record.id in earlier else replace(record, id=self.call[:RECORD_ID])
            for record in records_of(result.attrs)
        ]
        described = with_field_lineage(table.schema, dump_records(records))
        self.folder.write(number, table.from_arrays(table.columns, schema=described), about)

    def _about(self, rows: pd.DataFrame) -> dict[str, Any]:
        return {"call": self.call, "rows": _digest(rows, self.schema)}


def has_parts(method: Callable[..., Any]) -> bool:
    """Whether a method of the accessor of frames can write its results as parts."""
    return method.__name__ == "embed" or "safety_to" in getattr(method, "__options__", ())


class _PartsCall:
    """One call of a method on the parts of a frame, one after the other."""

    def __init__(
        self, method: Callable[..., Any], accessor: Any, args: Sequence[Any], options: Mapping[str, Any]
    ) -> None:
        self._method = method
        self._accessor = accessor
        self._frame: pd.DataFrame = accessor._frame
        self._args = args
        self._options = dict(options)
        if method.__name__ == "embed" and self._options.setdefault("dtype", "arrow") != "arrow":
            raise InputError("dtype must be 'arrow' or left out with to=.")
        if self._options.get("schema") is not None and self._options.setdefault("flatten", True) is not True:
            raise InputError("flatten must be True or left out with to=: the fields of a schema are columns.")
        self._reports: dict[int, Report] = {}

    def write(self, to: Any, safety_to: Any) -> Path:
        """Write the parts that are not there yet, and return the folder."""
        frame, options = self._frame, self._options
        session, shape = options.get("session") or current(), (PART_ROWS, len(frame))
        call = BoundCall(self._method, frame, tuple(self._args), options)
        parts = Parts.of(to, safety_to, call, session, shape, parquet_schema(frame))
        starts = range(0, max(1, len(frame)), PART_ROWS)

        def digest(number: int) -> str | None:
            return parts.digest(frame.iloc[starts[number] : starts[number] + PART_ROWS])

        with parts.begun(len(starts), f"{digest(0)} {digest(-1)}"):
            parts.check_rows(len(starts), digest)
            return self._write_parts(parts, starts)

    def _write_parts(self, parts: Parts, starts: range) -> Path:
        frame, options, folder = self._frame, self._options, parts.folder
        given, budget = options.get("progress", True), options.get("budget")
        on_error = options.get("on_error", "warn")
        lines = PartsProgress(self._method.__name__, len(starts), given, rows=len(frame)) if given else None
        known: list[dict[str, Any]] = []
        try:
            for number, start in enumerate(starts):
                rows = frame.iloc[start : start + PART_ROWS]
                if not options.get("fresh") and (done := parts.done(number, rows)):
                    known.append(done)
                    _tell(lines, number, "done", rows=len(rows), done=len(rows), cached=len(rows))
                    continue
                spent = sum(report.cost_upper_bound or report.cost or 0.0 for report in self._reports.values())
                more: dict[str, Any] = {"budget": max(0.0, budget - spent)} if budget is not None and spent else {}
                result = self._run(
                    number, rows, lines, {**more, "on_error": "raise" if on_error == "raise" else "null"}
                )
                report = self._reports[number]
                _record(result, report)
                safety = functools.partial(type(self._accessor)(result).safety, parts.into)
                parts.write(number, rows, result, safety, report)
                _tell(lines, number, "done", rows=len(rows), **_sums(report))
        except (SkytellsError, Interrupted) as problem:
            written = sum(folder.part(number).exists() for number in range(len(starts)))
            problem.report = self._total(known, "interrupted" if isinstance(problem, Interrupted) else "failed")
            problem.add_note(
                f"{written:,} of {len(starts):,} parts are in {folder.path}; the same call goes on from there."
            )
            _tell(lines, number, problem.report.state, rows=len(rows))
            raise
        total = self._total(known, "done")
        if total.failed and on_error == "warn":
            warn(
                f"{total.failed:,} of {total.rows:,} rows failed and are missing. {'; '.join(total.reasons())}. "
                "The same call does the parts with failed rows again."
            )
        return folder.path

    def _run(
        self, number: int, rows: pd.DataFrame, lines: PartsProgress | None, more: Mapping[str, Any]
    ) -> pd.DataFrame:
        def listen(event: Progress) -> None:
            # The final state of a run comes late, with the run that follows.
            if event.rows == len(rows) and event.state == "running":
                _tell(lines, number, "running", limit=event.limit, **{name: getattr(event, name) for name in SUMMED})

        _tell(lines, number, "running", rows=len(rows))
        options = {**self._options, **more, "progress": False if lines is None else listen}
        try:
            result: pd.DataFrame = self._method(type(self._accessor)(rows), *self._args, **options)
        finally:
            report = get_report(rows)[0]
            if report is not None:
                self._reports[number] = replace(report, partial=None)
        return result

    def _total(self, known: Sequence[Mapping[str, Any]], state: Any) -> Report:
        """Return the report of all parts, and attach it to the frame; parts that were there count as cached."""
        reports = [self._reports[number] for number in sorted(self._reports)]
        name = self._method.__name__
        first = reports[0] if reports else Report(name, "no model", "done", cost=0.0)
        there = {count: sum(int(part[count]) for part in known) for count in ("nulls", "answered", "failed")}
        errors = {
            number * PART_ROWS + row: error
            for number in sorted(self._reports)
            for row, error in self._reports[number].errors.items()
        }
        counts = {
            count: sum(getattr(report, count) for report in reports)
            for count in ("nulls", "answered", "failed", "distinct", "cached", "sent", "normalized")
        }
        for count, more in there.items():
            counts[count] += more
        total = replace(
            sum_reports(first, *reports[1:]), state=state, rows=len(self._frame), errors=errors, timeline=None, **counts
        )
        attach_report(self._frame, total)
        return total


def _record(result: pd.DataFrame, report: Report) -> None:
    """Add the record of the call that is running to the result of one of its parts, with the figures of that part."""
    clock = current_clock()
    if clock is not None and clock.call is not None:
        began = (datetime.now(UTC) - timedelta(seconds=report.seconds)).isoformat(timespec="milliseconds")
        record = make_record(clock, report, made_columns(clock, result))
        add_records(result, [replace(record, time=began, seconds=round(report.seconds, 3))])


def parquet_schema(frame: pd.DataFrame) -> Any:
    """Return the types of the columns of a frame; raises InputError if Parquet cannot store them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = frame.columns
    if columns.nlevels > 1 or not all(isinstance(name, str) for name in columns):
        raise InputError("to= needs string column names, also for into=; rename the columns first.")
    try:
        schema = pa.Schema.from_pandas(frame)
        pq.write_metadata(schema, pa.BufferOutputStream())
    except (pa.ArrowException, ValueError, TypeError) as problem:
        raise InputError(f"Parquet cannot store this frame: {problem}") from None
    return schema


def _canonical(value: Any) -> Any:
    """Return a value as JSON has it; of what it has not, a text that is the same in every process."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if hasattr(value, "model_json_schema"):
        return value.model_json_schema()
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return [str(part) for part in pd.util.hash_pandas_object(value.astype(str))]
    if callable(value):
        code = getattr(value, "__code__", None)
        return [getattr(value, "__qualname__", repr(type(value))), "" if code is None else code.co_code.hex()]
    return repr(value)


def _digest(rows: pd.DataFrame, schema: Any) -> str:
    import pyarrow as pa

    inferred = pa.Schema.from_pandas(rows)
    for field in schema:
        if (at := inferred.get_field_index(field.name)) >= 0:
            inferred = inferred.set(at, field)
    table = pa.Table.from_pandas(rows, schema=inferred).replace_schema_metadata(None).combine_chunks()
    with pa.BufferOutputStream() as sink:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()


def _table(frame: pd.DataFrame, schema: Any = None, *, keep: str | None = None, selects: bool = False) -> Any:
    """Return a frame as Arrow table, with the types of these columns, and texts for categories that may differ.

    ``selects`` says that parts have some of their rows, so that their index is a column. Lists and structs are left out
    of what the file says to pandas, which cannot read their dtypes; ``files.read`` restores them.
    """
    import pyarrow as pa

    for name in frame.columns:
        dtype = frame[name].dtype
        is_own = schema is not None and name in schema.names
        if isinstance(dtype, pd.CategoricalDtype) and not (dtype.ordered or is_own or name == keep):
            frame = frame.assign(**{name: frame[name].astype(dtype.categories.dtype)})
    table = pa.Table.from_pandas(frame, preserve_index=True if selects else None)
    for field in schema or ():
        at = table.schema.get_field_index(field.name)
        if at >= 0 and table.schema.field(at).type != field.type:
            table = table.set_column(at, field, table.column(at).cast(field.type))
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    told = table.schema.pandas_metadata
    told["columns"] = [column for column in told["columns"] if column["name"] not in nested]
    restored = [name for name in nested if not pa.types.is_fixed_size_list(table.schema.field(name).type)]
    metadata = {b"pandas": json.dumps(told).encode(), METADATA: json.dumps({"nested": restored}).encode()}
    return table.replace_schema_metadata(metadata)


def _sums(report: Report) -> dict[str, Any]:
    return {
        "done": report.answered + report.nulls + report.failed,
        "failed": report.failed,
        "requests": report.requests,
        "retries": report.retries,
        "tokens": report.tokens_in + report.tokens_out,
        "cost": report.cost,
        "in_flight": 0,
    }


def _tell(lines: PartsProgress | None, number: int, state: str, **told: Any) -> None:
    if lines is not None:
        lines({"number": number, "state": state, **told})
