"""Embeddings: requests, and responses whose vectors become one float32 matrix without Python floats."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, TypeAlias

from pydantic import ConfigDict, Field, PrivateAttr, Strict, computed_field, field_validator
from typing_extensions import TypedDict

from skytells_nb.errors import InvalidResponseError
from skytells_nb.types.base import RequestModel, ResponseModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_INPUTS = 2048
"""Inputs in one request that the upstream service accepts."""
MAX_INPUT_TOKENS = 8192
"""Tokens in one input that the upstream service accepts."""
MAX_REQUEST_TOKENS = 300_000
"""Tokens in one request that the upstream service accepts."""


class EmbeddingRequest(RequestModel):
    """Body of ``POST /embeddings``."""

    model: str
    input: str | list[str] | list[int] | list[list[int]] = Field(min_length=1)
    encoding_format: str | None = "base64"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None


class EmbeddingUsage(ResponseModel):
    prompt_tokens: int = 0
    total_tokens: int = 0


Vector: TypeAlias = Annotated[
    Annotated[bytes, Strict()] | str | list[float] | list[float | None] | None, Field(union_mode="left_to_right")
]
"""The decoded bytes; the original text if it was not parsed from JSON or is not base64; or the numbers. ``None`` stands
for a vector that the service has not made, which must not cost the others."""


class EmbeddingRow(TypedDict):
    """One entry of ``data`` as parsed: plain values, which the garbage collector does not track."""

    # The JSON parser decodes base64 as it parses: a third of the time, and the text is never created.
    __pydantic_config__ = ConfigDict(val_json_bytes="base64", extra="allow")  # type: ignore[misc]

    embedding: NotRequired[Vector]
    index: NotRequired[int]


class Embedding(ResponseModel):
    """One vector: base64 of little-endian float32, or a list of numbers."""

    object: str = "embedding"
    index: int = 0
    vector: Vector = Field(default=None, validation_alias="embedding", exclude=True, repr=False)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def embedding(self) -> str | list[float] | list[float | None] | None:
        """The vector as sent."""
        return base64.b64encode(self.vector).decode("ascii") if isinstance(self.vector, bytes) else self.vector


class EmbeddingResponse(ResponseModel):
    """A whole response; ``matrix`` holds its vectors."""

    object: str = "list"
    model: str = ""
    rows: list[EmbeddingRow] = Field(default_factory=list, validation_alias="data", exclude=True, repr=False)
    """``data`` as parsed: four times as fast, and sufficient for the matrix."""
    usage: EmbeddingUsage = Field(default_factory=EmbeddingUsage)

    _request_id: str | None = PrivateAttr(default=None)
    _unreadable: str | None = PrivateAttr(default=None)
    """What is wrong with a vector that counts as missing."""

    @field_validator("rows")
    @classmethod
    def _check_rows(cls, rows: list[EmbeddingRow]) -> list[EmbeddingRow]:
        if rows and all(_is_missing(row.get("embedding")) for row in rows):
            raise ValueError("no entry has a vector")
        return rows

    @property
    def request_id(self) -> str | None:
        """The service's id of this request, for support."""
        return self._request_id

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def data(self) -> list[Embedding]:
        """One entry for each input, in the order of the response."""
        return [Embedding.model_validate(row) for row in self.rows]

    @cached_property
    def matrix(self) -> NDArray[np.float32]:
        """The vectors in the order of the input, float32 (n, d).

        Raises InvalidResponseError if the response is not valid: an index missing, repeated or out of range,
        vectors of different lengths, bytes that are not float32, a missing vector, values that are not finite.
        """
        matrix, finite = self.checked
        if self._unreadable is not None:
            raise self._invalid(self._unreadable)
        if not finite.all():
            raise self._invalid(f"the vector at index {int(finite.argmin())} contains values that are not finite")
        return matrix

    @cached_property
    def checked(self) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """``matrix``, and which of its rows are finite, (n,); raises InvalidResponseError for every other problem.

        A vector that is missing or cannot be read beside others is a row of NaN: it must not cost them.
        """
        import numpy as np

        n = len(self.rows)
        if n == 0:
            return np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.bool_)
        order: list[int] = _members(self.rows, "index", 0)
        vectors: list[Any] = _members(self.rows, "embedding", None)
        if order != list(range(n)):
            vectors = [vectors[place] for place in self._positions(order)]
        has_missing = False
        if set(map(type, vectors)) != {bytes}:
            vectors = [self._bytes(vector, index) for index, vector in enumerate(vectors)]
            has_missing = None in vectors
        sizes = {len(vector) for vector in vectors if vector is not None} if has_missing else set(map(len, vectors))
        if len(sizes) != 1 or 0 in sizes or any(size % 4 for size in sizes):
            vectors, size = self._of_one_size(vectors)
            has_missing, sizes = True, {size}
        if has_missing:
            missing = np.full(max(sizes) // 4, np.nan, dtype="<f4").tobytes()
            vectors = [missing if vector is None else vector for vector in vectors]
        # The only copy; a bytearray, so that the matrix is writable.
        joined = bytearray().join(vectors)
        matrix = np.frombuffer(joined, dtype="<f4").reshape(n, -1).astype(np.float32, copy=False)
        return matrix, np.asarray(np.isfinite(matrix).all(axis=1))

    def _of_one_size(self, vectors: list[bytes | None]) -> tuple[list[bytes | None], int]:
        """Return the vectors with ``None`` for those of another length than most have, and that length in bytes.

        Raises InvalidResponseError if most have none in common.
        """
        counts = Counter(len(vector) for vector in vectors if vector is not None)
        odd = next(((i, len(v)) for i, v in enumerate(vectors) if v is not None and len(v) % 4), None)
        if odd is not None:
            problem = f"the vector at index {odd[0]} has {odd[1]} bytes, not a multiple of 4"
        else:
            problem = f"the vectors of one response have different lengths: {sorted(size // 4 for size in counts)}"
        self._unreadable = self._unreadable or problem
        # What is empty or no array of float32 is no vector at all.
        possible = Counter({size: count for size, count in counts.items() if size and size % 4 == 0})
        size, count = possible.most_common(1)[0] if possible else (0, 0)
        if 2 * count <= possible.total():
            raise self._invalid(self._unreadable)
        return [vector if vector is not None and len(vector) == size else None for vector in vectors], size

    def _positions(self, order: list[int]) -> list[int]:
        """Return the position of each input's vector, where ``order`` holds the input of each vector."""
        places = dict(zip(order, range(len(order)), strict=True))
        invalid = next((i for at, i in enumerate(order) if not 0 <= i < len(order) or places[i] != at), None)
        if invalid is not None:
            raise self._invalid(f"{len(order)} vectors came with index {invalid} out of range or twice")
        return [places[index] for index in range(len(order))]

    def _bytes(self, vector: Vector, index: int) -> bytes | None:
        """Return a vector as the bytes of little-endian float32, ``None`` if it is missing."""
        if vector is None or isinstance(vector, bytes):
            return vector
        if isinstance(vector, list):
            import numpy as np

            with np.errstate(over="ignore"):  # values too large for float32 become infinite, which ``matrix`` rejects
                return np.asarray(vector, dtype="<f4").tobytes()
        try:
            return base64.b64decode(vector, validate=True)
        except (binascii.Error, ValueError):
            self._unreadable = self._unreadable or f"the vector at index {index} is not base64"
            return None

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # Without the vectors: a cell that ends with a response would show megabytes of base64.
        yield "model", self.model
        yield "data", f"{len(self.rows)} vectors"
        yield "usage", self.usage

    def _invalid(self, what: str) -> InvalidResponseError:
        return InvalidResponseError(f"The embeddings cannot be used: {what}.", request_id=self._request_id)


def _members(rows: Sequence[EmbeddingRow], name: str, default: Any) -> list[Any]:
    """Return this member of each row."""
    try:
        # The interpreter's own loop: half the time of one over ``get``.
        return list(map(itemgetter(name), rows))
    except KeyError:
        return [row.get(name, default) for row in rows]


def _is_missing(vector: Vector) -> bool:
    return vector is None or (isinstance(vector, list) and len(vector) > 0 and all(x is None for x in vector))


def answer_count_error(expected: int, got: int, request_id: str | None) -> InvalidResponseError:
    """Return the error for a response with more or fewer vectors than inputs."""
    return InvalidResponseError(
        f"The embeddings cannot be used: {expected} inputs were sent and {got} vectors came back.",
        request_id=request_id,
    )


def embedding_item(index: int, vector: Any, encoding_format: str) -> dict[str, Any]:
    """Return one entry of ``data`` for a float32 vector, in either encoding."""
    if encoding_format == "base64":
        value: Any = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    else:
        value = vector.tolist()
    return {"object": "embedding", "index": index, "embedding": value}
