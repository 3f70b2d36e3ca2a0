"""``name=value`` words as the fields of a frozen dataclass: what ``serve --faults`` and the fault header carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from skytells_nb.errors import InputError

_TRUE = {"", "1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


def split_flags(text: str) -> dict[str, str]:
    """``"latency=0.1, no_done"`` as a dict; a name alone means true. With a ``;`` in it, only that separates."""
    found: dict[str, str] = {}
    for word in text.split(";" if ";" in text else ","):
        name, _, value = word.partition("=")
        if name.strip():
            found[name.strip().replace("-", "_")] = value.strip()
    return found


def read_flags(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of these fields, each as the type its field has; raises InputError naming what does not fit."""
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{kind.__name__} has no {name!r}; it has: {', '.join(sorted(known))}.")
        try:
            read[name] = _convert(hints[name], value)
        except (TypeError, ValueError):
            raise InputError(f"{name}={value!r} cannot be read as {hints[name]}.") from None
    return read


def _convert(hint: Any, value: Any) -> Any:
    if get_origin(hint) is Literal:
        if value in get_args(hint):
            return value
        raise ValueError
    options = get_args(hint) or (hint,)
    if value is None and NoneType in options:
        return None
    literal = next((option for option in options if get_origin(option) is Literal), None)
    if literal is not None:
        return _convert(literal, value)
    target = next(option for option in options if option is not NoneType)
    if target is bool:
        word = str(value).lower()
        if word not in _TRUE | _FALSE:
            raise ValueError
        return word in _TRUE
    return target(value)
