"""The cache key: one SHA-256 over everything that changes an answer, and over nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from skytells_nb.errors import InputError

KEY_VERSION = 1
"""Part of every key: raised when the same key would have to mean another answer."""

_LONGEST_INTEGER_BITS = 8_192  # Python refuses to write integers of more than 4,300 digits


class KeyMaker:
    """Keys for the inputs of one kind of call.

    ``params`` holds every parameter that changes the answer; those that are ``None`` count as absent, and 1 and 1.0 as
    equal. The API key has no place here: two accounts get the same answer. Raises InputError for a parameter that is
    not JSON, and names it.

    >>> keys = KeyMaker(endpoint="embeddings", model="m", origin="https://api.skytells.ai", params={"dimensions": 256})
    >>> [len(key) for key in keys.keys(["a text", "another"])]
    [32, 32]
    """

    __slots__ = ("_label", "_prefix", "_state")

    def __init__(self, *, endpoint: str, model: str, origin: str, params: Mapping[str, Any]) -> None:
        form = {
            "version": KEY_VERSION,
            "endpoint": endpoint,
            "model": model,
            "origin": origin,
            "params": {_name(name): _plain(value, name) for name, value in params.items() if value is not None},
        }
        self._label = f"{endpoint}, {model}, {origin}"
        self._start(_encode(form))

    def _start(self, prefix: bytes) -> None:
        self._prefix = prefix
        # The length goes first, so that no end of a prefix can pass for the start of a text.
        self._state = hashlib.sha256(len(prefix).to_bytes(8, "big") + prefix)

    def keys(self, inputs: Sequence[str] | Sequence[bytes]) -> list[bytes]:
        """One key of 32 bytes for each input, in order; bytes are taken as text already in UTF-8."""
        copy = self._state.copy
        found = []
        for text in inputs:
            digest = copy()
            try:
                digest.update(text.encode() if isinstance(text, str) else text)
            except UnicodeEncodeError:
                digest.update(_utf8(text))  # type: ignore[arg-type]
            found.append(digest.digest())
        return found

    def __repr__(self) -> str:
        return f"KeyMaker({self._label})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyMaker) and self._prefix == other._prefix

    def __hash__(self) -> int:
        return hash(self._prefix)

    def __getstate__(self) -> tuple[str, bytes]:
        return self._label, self._prefix

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        self._label, prefix = state
        self._start(prefix)


def _encode(form: Mapping[str, Any]) -> bytes:
    # ensure_ascii would write one emoji and two lone surrogates as the same escapes.
    return _utf8(json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False))


def _utf8(text: str) -> bytes:
    """UTF-8, with lone surrogates let through: they occur in real data and must still have a key."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _name(name: object) -> str:
    if isinstance(name, str):
        return name
    raise InputError(f"A parameter's name must be text; found {name!r}.")


def _plain(value: Any, param: str, depth: int = 0) -> Any:
    """The value as plain JSON types, equal numbers written alike."""
    if depth > 100:
        raise InputError(f"The parameter {param} is nested more than 100 deep, or contains itself; make it plain JSON.")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        whole = int(value)
        if whole.bit_length() > _LONGEST_INTEGER_BITS:
            raise InputError(
                f"The parameter {param} contains an integer of {whole.bit_length()} bits; use a smaller one."
            )
        return whole
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise InputError(f"The parameter {param} contains {number}, which JSON cannot hold; use a finite number.")
        return int(number) if number.is_integer() else number
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InputError(f"The parameter {param} has a key that is not text: {name!r}.")
        return {name: _plain(item, param, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, param, depth + 1) for item in value]
    raise InputError(
        f"The parameter {param} contains a {type(value).__name__}, which cannot be sent; "
        "use text, numbers, booleans, lists and dictionaries."
    )
