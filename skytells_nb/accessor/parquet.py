"""Embeddings written directly to a Parquet file, for frames whose vectors do not fit into memory."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from skytells_nb.accessor.call import VectorizedCall
from skytells_nb.accessor.text_columns import Texts
from skytells_nb.engine.operations.jobs import embedding_job
from skytells_nb.engine.results import RunResult, VectorFile
from skytells_nb.errors import InputError, MissingExtraError, SkytellsError

ROWS_PER_GROUP = 10_000
"""Rows in one row group: those in memory while writing or reading."""


class ParquetWriter:
    """Writer of a frame and its vectors. The path is validated before anything is sent; the file appears complete.

    Vectors are collected in a scratch file beside it, which takes as much space and is removed at the end.
    """

    def __init__(self, to: str | Path) -> None:
        if not isinstance(to, (str, Path)):
            raise InputError(f"to must be the path of a Parquet file, got {to!r}.")
        self.path = Path(to).expanduser().absolute()
        self._unique = uuid.uuid4().hex
        if self.path.is_dir():
            raise InputError(f"to must be the path of a file, got the folder {self.path}.")
        if not self.path.parent.is_dir() or not os.access(self.path.parent, os.W_OK):
            raise InputError(f"to must be in a folder that exists and is writable, got {self.path.parent}.")
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

        Raises SkytellsError if the disk is full; the vectors are in the cache then.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        vectors = outcome.answers
        assert isinstance(vectors, VectorFile)
        columns = frame.drop(columns=[into], errors="ignore")
        schema = pa.Schema.from_pandas(columns)
        vector_type = pa.list_(pa.float32(), vectors.size or -1)
        full_schema = schema.append(pa.field(into, vector_type))
        temporary, result_index = self._sibling("unfinished"), outcome.result_index
        with (
            self._replace_when_complete(temporary),
            # Neither dictionaries nor statistics help with vectors; both cost.
            pq.ParquetWriter(
                temporary, full_schema, use_dictionary=schema.names, write_statistics=schema.names
            ) as writer,
        ):
            for start in range(0, max(len(frame), 1), ROWS_PER_GROUP):
                part = pa.Table.from_pandas(columns.iloc[start : start + ROWS_PER_GROUP], schema=schema)
                rows = result_index[start : start + ROWS_PER_GROUP]
                writer.write_table(part.append_column(full_schema.field(into), _vectors(vectors, rows)))

    @contextlib.contextmanager
    def _replace_when_complete(self, temporary: Path) -> Iterator[None]:
        try:
            yield
            os.replace(temporary, self.path)
        except OSError as problem:
            raise SkytellsError(
                f"{self.path} cannot be written: {problem.strerror or problem}. Every vector is in the cache: "
                "free some space, or choose another path, and run again."
            ) from None
        finally:
            temporary.unlink(missing_ok=True)

    def _sibling(self, suffix: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{self._unique}.{suffix}")


def embed_to_file(
    call: VectorizedCall,
    frame: pd.DataFrame,
    texts: Texts,
    model: str | None,
    dimensions: int | None,
    into: Any,
    to: str | Path,
) -> Path:
    """Embed these texts, write the frame with their vectors to ``to``, and return its absolute path."""
    if not isinstance(into, str):
        raise InputError(f"into must be a string with to=, which names a Parquet column, got {into!r}.")
    writer = ParquetWriter(to)
    writer.check(frame, into)
    job = embedding_job(model or call.session.settings.embedding_model, dimensions)
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
