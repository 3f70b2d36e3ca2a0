"""The cache key: a SHA-256 over everything that changes a response, and over nothing else."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from skytells_nb.errors import InputError

KEY_VERSION = 1
"""Part of every key: incremented when the same key would have to mean another response."""

_MAX_INTEGER_BITS = 8_192  # Python refuses to write integers of more than 4,300 digits


class KeyMaker:
    """Keys for the inputs of one kind of call.

    ``params`` holds every parameter that changes the response; those that are ``None`` count as absent, and 1 and 1.0
    as equal. The API key is not part of it: two accounts share a response. Raises InputError, which names the
    parameter, if one is not JSON.

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
        # The length comes first, so that the end of a prefix cannot be taken for the start of a text.
        self._state = hashlib.sha256(len(prefix).to_bytes(8, "big") + prefix)

    def keys(self, inputs: Sequence[str] | Sequence[bytes]) -> list[bytes]:
        """Return one key of 32 bytes for each input, in order; bytes are text that is already UTF-8."""
        copy = self._state.copy
        digests = []
        for text in inputs:
            digest = copy()
            try:
                digest.update(text.encode() if isinstance(text, str) else text)
            except UnicodeEncodeError:
                digest.update(_utf8(text))  # type: ignore[arg-type]
            digests.append(digest.digest())
        return digests

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
    """Encode as UTF-8, lone surrogates included: they occur in real data and need a key too."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _name(name: object) -> str:
    if isinstance(name, str):
        return name
    raise InputError(f"The name of a parameter must be a string, got {name!r}.")


def _plain(value: Any, param: str, depth: int = 0) -> Any:
    """Return the value as plain JSON types, with equal numbers written alike."""
    if depth > 100:
        raise InputError(f"{param} must be nested at most 100 levels deep, got more, or a value that contains itself.")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        whole = int(value)
        if whole.bit_length() > _MAX_INTEGER_BITS:
            bits = whole.bit_length()
            raise InputError(f"The integers in {param} must have at most {_MAX_INTEGER_BITS:,} bits, got {bits:,}.")
        return whole
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise InputError(f"The numbers in {param} must be finite, got {number}; JSON has no form for it.")
        return int(number) if number.is_integer() else number
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise InputError(f"The keys in {param} must be strings, got {name!r}.")
        return {name: _plain(item, param, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, param, depth + 1) for item in value]
    raise InputError(
        f"The values in {param} must be strings, numbers, booleans, lists or dictionaries, got {type(value).__name__}."
    )
