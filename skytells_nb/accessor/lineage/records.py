"""The record of one call: what it asked of which model, what that cost, and which columns it made. It has no row text.

The records of a frame are one JSON text in ``attrs``: pandas copies ``attrs`` with every operation, and a text costs it
nothing. Parquet files keep it too.
"""

from __future__ import annotations

import enum
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from skytells_nb.files import LINEAGE
from skytells_nb.sanitize import redact_keys

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
    return redact_keys(json.dumps([asdict(each) for each in records], ensure_ascii=False, default=str))


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
    'list of 1, sha256 44'
    """
    kind = getattr(value, "__qualname__", None) or type(value).__name__
    size = f" of {len(value)}" if isinstance(value, (Sequence, pd.DataFrame)) else ""
    if callable(value):
        return str(kind)
    plain = value.to_json(orient="split", index=False, default_handler=str) if isinstance(value, pd.DataFrame) else None
    digest = text_hash(plain if plain is not None else json.dumps(value, ensure_ascii=False, default=str))
    return f"{kind}{size}, sha256 {digest[:16]}"


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
