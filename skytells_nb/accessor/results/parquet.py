"""Embeddings written directly to a Parquet file, for frames whose vectors do not fit into memory."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from skytells_nb.accessor.call import VectorizedCall, building, current_clock
from skytells_nb.accessor.lineage import add_records, make_record
from skytells_nb.engine.planning import RowTexts
from skytells_nb.engine.results import RunResult, VectorFile
from skytells_nb.errors import InputError, MissingExtraError, ScratchFileError
from skytells_nb.files import with_lineage

ROWS_PER_GROUP = 10_000
"""Rows in one row group: those in memory while writing or reading."""
SUFFIXES = ("", ".parquet", ".parq", ".pq")
"""Suffixes of the file that is written."""


class ParquetWriter:
    """Writer of a frame and its vectors. The path is validated before anything is sent; the file appears complete.

    Vectors are collected in a scratch file beside it, which takes as much space and is removed at the end; what killed
    processes have left of theirs is removed at the start. ``note`` says where the answers are if the file cannot be
    written.
    """

    def __init__(self, to: str | Path, note: Callable[[], str]) -> None:
        if not isinstance(to, (str, Path)):
            raise InputError(f"to must be the path of a Parquet file, got {to!r}.")
        self._note = note
        try:
            self.path = Path(to).expanduser().absolute()
            kind = _mode(self.path)
            folder = self.path.parent.is_dir()
        except (OSError, ValueError, RuntimeError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise InputError(f"to must be the path of a file, got {str(to)[:200]!r}: {reason}.") from None
        if kind is not None and stat.S_ISDIR(kind):
            raise InputError(f"to must be the path of a file, got the folder {self.path}.")
        if kind is not None and not stat.S_ISREG(kind):
            raise InputError(f"to must be the path of a regular file, got the device or pipe {self.path}.")
        if self.path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"to must end in .parquet, the format that is written, got {self.path.name!r}; for another format, "
                "embed into a column and write the frame."
            )
        if not folder or not os.access(self.path.parent, os.W_OK):
            raise InputError(f"to must be in a folder that exists and is writable, got {self.path.parent}.")
        # The name of a file has at most 255 bytes; these files have a longer one than the path.
        self._prefix = f".{self.path.name.encode()[:100].decode(errors='ignore')}."
        self._unique = uuid.uuid4().hex
        self._remove_left_behind()
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise MissingExtraError("Writing Parquet", "arrow") from None

    def check(self, frame: pd.DataFrame, into: Any) -> None:
        """Raise InputError for a frame that Parquet cannot store."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = frame.drop(columns=[into], errors="ignore")
        if columns.columns.nlevels > 1 or not all(isinstance(name, str) for name in columns.columns):
            raise InputError("to= needs string column names; rename the columns first.")
        try:
            pq.write_metadata(pa.Table.from_pandas(columns).schema, pa.BufferOutputStream())
        except (pa.ArrowException, ValueError, TypeError) as problem:
            raise InputError(f"Parquet cannot store this frame: {problem}") from None

    def scratch_file(self, count: int) -> VectorFile:
        """Create a file for ``count`` vectors on the same disk."""
        return VectorFile(count, self._sibling("vectors"))

    def write(self, frame: pd.DataFrame, into: Any, outcome: RunResult) -> None:
        """Write the frame with the vectors as its last column, a nullable ``fixed_size_list<float>[d]``.

        Raises ScratchFileError if the disk is full.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        vectors = outcome.buffer
        assert isinstance(vectors, VectorFile)
        columns = frame.drop(columns=[into], errors="ignore")
        schema = pa.Schema.from_pandas(columns)
        vector_type = pa.list_(pa.float32(), vectors.size or -1)
        full_schema = with_lineage(schema.append(pa.field(into, vector_type)), _attrs(frame, into, outcome))
        result_index = outcome.result_index
        with (
            self._replace_when_complete() as file,
            # Neither dictionaries nor statistics help with vectors; both cost.
            pq.ParquetWriter(file, full_schema, use_dictionary=schema.names, write_statistics=schema.names) as writer,
        ):
            for start in range(0, max(len(frame), 1), ROWS_PER_GROUP):
                building("writing the file")
                part = pa.Table.from_pandas(columns.iloc[start : start + ROWS_PER_GROUP], schema=schema)
                rows = result_index[start : start + ROWS_PER_GROUP]
                writer.write_table(part.append_column(full_schema.field(into), _vectors(vectors, rows)))

    @contextlib.contextmanager
    def _replace_when_complete(self) -> Iterator[BinaryIO]:
        """Yield a file beside the path, and give it the path's name once it is complete."""
        temporary = self._sibling("unfinished")
        try:
            try:
                with _created(temporary) as file:
                    yield file
                os.replace(temporary, self.path)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as problem:
            raise ScratchFileError(
                f"{self.path} cannot be written: {problem.strerror or problem}. {self._note()} Free some space, or "
                "choose another path for to=."
            ) from None

    def _sibling(self, suffix: str) -> Path:
        return self.path.with_name(f"{self._prefix}{self._unique}.{suffix}")

    def _remove_left_behind(self) -> None:
        """Remove the files that killed processes have left of earlier calls with this path."""
        with contextlib.suppress(OSError):
            for entry in os.scandir(self.path.parent):
                unique, _, suffix = entry.name.removeprefix(self._prefix).partition(".")
                ours = entry.name.startswith(self._prefix) and suffix in ("vectors", "unfinished") and len(unique) == 32
                if ours and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError), open(entry.path, "rb") as file:
                        # One that is being written is locked by its process, or cannot be removed.
                        _lock(file)
                        os.unlink(entry.path)


def _attrs(frame: pd.DataFrame, into: str, outcome: RunResult) -> dict[Any, Any]:
    """Return the attributes of the frame with the record of this call."""
    clock = current_clock()
    described = pd.DataFrame()
    described.attrs = frame.attrs
    if clock is not None and clock.call is not None:
        add_records(described, [make_record(clock, outcome.report, [into])])
    return described.attrs


def _mode(path: Path) -> int | None:
    """Return the mode of what is at this path, ``None`` if there is nothing; raises OSError and ValueError."""
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _created(path: Path) -> BinaryIO:
    """Create a file and lock it."""
    while True:
        file = path.open("xb")
        with contextlib.suppress(OSError):  # not every disk has locks
            _lock(file)
        if path.exists():
            return file
        # Another call began just now, and took it for one that was left behind: it was not locked yet.
        file.close()


def _lock(file: BinaryIO) -> None:
    """Lock a file for this process, as long as it is open; raises OSError if another one has locked it."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def embed_to_file(
    call: VectorizedCall,
    frame: pd.DataFrame,
    texts: RowTexts,
    model: str | None,
    dimensions: int | None,
    into: Any,
    to: str | Path,
) -> Path:
    """Embed these texts, write the frame with their vectors to ``to``, and return its absolute path."""
    if not isinstance(into, str):
        raise InputError(f"into must be a string with to=, which names a Parquet column, got {into!r}.")
    writer = ParquetWriter(to, call.engine.cache_note)
    writer.check(frame, into)
    job = call.embedding_job(model, dimensions)
    scratch_files: list[VectorFile] = []

    def scratch_file(count: int) -> VectorFile:
        scratch_files.append(writer.scratch_file(count))
        return scratch_files[-1]

    try:
        outcome = call.run(job, texts, column=lambda outcome: None, into=scratch_file)
        writer.write(frame, into, outcome)
    finally:
        for file in scratch_files:
            file.close()
    return writer.path


def _vectors(vectors: VectorFile, rows: Any) -> Any:
    """Return the vectors of these rows as Arrow's fixed-size lists, null for -1."""
    import pyarrow as pa

    valid = rows >= 0
    if not valid.any():
        return pa.nulls(len(rows), pa.list_(pa.float32(), vectors.size or -1))
    flat = np.zeros((len(rows), vectors.size), dtype=np.float32)
    flat[valid] = vectors.rows(rows[valid])
    mask = None if valid.all() else pa.array(~valid)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), vectors.size, mask=mask)
