"""Embeddings straight into a Parquet file, for frames whose vectors do not fit into memory."""

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
"""Rows held at once while writing, and read at once by others."""


class ParquetTarget:
    """The file that a frame and its vectors go to: checked before anything is sent, there only once it is complete.

    Vectors are collected in a file beside it, which takes as much room, and is removed at the end.
    """

    def __init__(self, to: str | Path) -> None:
        if not isinstance(to, (str, Path)):
            raise InputError(f"to is the path of a Parquet file; found {to!r}.")
        self.path = Path(to).expanduser().absolute()
        self._unique = uuid.uuid4().hex
        if self.path.is_dir():
            raise InputError(f"to is the path of a file; {self.path} is a folder.")
        if not self.path.parent.is_dir() or not os.access(self.path.parent, os.W_OK):
            raise InputError(f"There is no folder {self.path.parent} that can be written to.")
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise MissingExtraError("Writing Parquet", "arrow") from None

    def check(self, frame: pd.DataFrame, into: Any) -> None:
        """Raises InputError for a frame that Parquet cannot hold."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = frame.drop(columns=[into], errors="ignore")
        if columns.columns.nlevels > 1 or not all(isinstance(name, str) for name in columns.columns):
            raise InputError("to= needs columns whose names are texts; rename them first.")
        try:
            pq.write_metadata(pa.Table.from_pandas(columns).schema, pa.BufferOutputStream())
        except (pa.ArrowException, ValueError, TypeError) as problem:
            raise InputError(f"Parquet cannot hold this frame: {problem}") from None

    def room(self, count: int) -> VectorFile:
        """Room for so many vectors, on the same disk."""
        return VectorFile(count, self._beside("vectors"))

    def write(self, frame: pd.DataFrame, into: Any, outcome: RunResult) -> None:
        """Write the frame with the vectors as its last column, a ``fixed_size_list<float>[d]``, null where none is.

        Raises SkytellsError where the disk is full; the vectors are in the cache then.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        vectors = outcome.answers
        assert isinstance(vectors, VectorFile)
        columns = frame.drop(columns=[into], errors="ignore")
        schema = pa.Schema.from_pandas(columns)
        kind = pa.list_(pa.float32(), vectors.size or -1)
        whole = schema.append(pa.field(into, kind))
        unfinished, answered = self._beside("unfinished"), outcome.result_index
        with self._complete(unfinished):
            # Neither dictionaries nor statistics help with vectors; both cost.
            writer = pq.ParquetWriter(unfinished, whole, use_dictionary=schema.names, write_statistics=schema.names)
            with writer:
                for start in range(0, max(len(frame), 1), ROWS_PER_GROUP):
                    part = pa.Table.from_pandas(columns.iloc[start : start + ROWS_PER_GROUP], schema=schema)
                    rows = answered[start : start + ROWS_PER_GROUP]
                    writer.write_table(part.append_column(whole.field(into), _vectors(vectors, rows)))

    @contextlib.contextmanager
    def _complete(self, unfinished: Path) -> Iterator[None]:
        try:
            yield
            os.replace(unfinished, self.path)
        except OSError as problem:
            raise SkytellsError(
                f"{self.path} cannot be written: {problem.strerror or problem}. Every vector is in the cache: "
                "free some space, or choose another place, and run again."
            ) from None
        finally:
            unfinished.unlink(missing_ok=True)

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f".{self.path.name}.{self._unique}.{what}")


def embed_to_file(
    call: VectorizedCall,
    frame: pd.DataFrame,
    texts: Texts,
    model: str | None,
    dimensions: int | None,
    into: Any,
    to: str | Path,
) -> Path:
    """Embed these texts, and write the frame with their vectors to ``to``; its absolute path."""
    if not isinstance(into, str):
        raise InputError(f"A column of a Parquet file has a text as its name; found into={into!r}.")
    target = ParquetTarget(to)
    target.check(frame, into)
    job = embedding_job(model or call.session.settings.embedding_model, dimensions)
    rooms: list[VectorFile] = []

    def room(count: int) -> VectorFile:
        rooms.append(target.room(count))
        return rooms[-1]

    try:
        outcome = call.run(job, texts, column=lambda outcome: None, into=room)
        target.write(frame, into, outcome)
    finally:
        for made in rooms:
            made.close()
    return target.path


def _vectors(vectors: VectorFile, rows: Any) -> Any:
    """Vectors of these rows as Arrow's fixed-size lists; -1 is null."""
    import pyarrow as pa

    there = rows >= 0
    if not there.any():
        return pa.nulls(len(rows), pa.list_(pa.float32(), vectors.size or -1))
    flat = np.zeros((len(rows), vectors.size), dtype=np.float32)
    flat[there] = vectors.rows(rows[there])
    mask = None if there.all() else pa.array(~there)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), vectors.size, mask=mask)
