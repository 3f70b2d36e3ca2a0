"""Coerce JSON values to the values of typed columns."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import pydantic

from skytells_nb.accessor.structured.field_types import FieldType

_MAX_SHOWN_CHARACTERS = 60
_INT64 = range(-(2**63), 2**63)
_EARLIEST, _LATEST = dt.datetime.min, dt.datetime.max

Coercer: TypeAlias = Callable[[FieldType, Any], Any]


class CoercionError(ValueError):
    """A value that its column cannot hold: ``requirement`` is what it must be, ``path`` leads to it."""

    def __init__(self, value: Any, requirement: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(value, requirement, path)
        self.value = value
        self.requirement = requirement
        self.path = path

    def at(self, name: str) -> CoercionError:
        """Return the same error for a member ``name`` of the enclosing value."""
        return CoercionError(self.value, self.requirement, (name, *self.path))

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} {self.requirement}, got {abbreviate(self.value)}".lstrip()


def coerce(kind: FieldType, value: Any) -> Any:
    """Return the value as its column holds it; raise CoercionError if the column cannot hold it.

    Numbers, dates and decimals become Python objects; other values stay as they are in JSON.
    """
    return None if value is None else _COERCERS[kind.name](kind, value)


def abbreviate(value: Any) -> str:
    """Return the value as an error message quotes it."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[: _MAX_SHOWN_CHARACTERS - 1]}…"


def _string(kind: FieldType, value: Any) -> str:
    if not isinstance(value, str):
        raise CoercionError(value, "must be a string")
    return value


def _boolean(kind: FieldType, value: Any) -> bool:
    if not isinstance(value, bool):
        raise CoercionError(value, "must be true or false")
    return value


def _integer(kind: FieldType, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise CoercionError(value, "must be an integer")
    integer = int(value)
    if integer not in _INT64:
        raise CoercionError(value, "must fit into 64 bits")
    return integer


def _number(kind: FieldType, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CoercionError(value, "must be a number")
    try:
        return float(value)
    except OverflowError:
        raise CoercionError(value, "must fit into a float") from None


def _label(kind: FieldType, value: Any) -> Any:
    if isinstance(value, (list, dict)) or value not in kind.labels or isinstance(value, bool):
        raise CoercionError(value, f"must be one of {', '.join(map(repr, kind.labels))}")
    return value


def _date(kind: FieldType, value: Any) -> dt.date:
    date: dt.date = _parse(dt.date, value, "date")
    return date


def _datetime(kind: FieldType, value: Any) -> dt.datetime:
    moment: dt.datetime = _parse(dt.datetime, value, "date and time")
    try:
        return moment if moment.tzinfo is None else moment.astimezone(dt.UTC).replace(tzinfo=None)
    except OverflowError:
        return _EARLIEST if moment.year == _EARLIEST.year else _LATEST


def _instant(kind: FieldType, value: Any) -> dt.datetime:
    return _datetime(kind, value).replace(tzinfo=dt.UTC)


def _duration(kind: FieldType, value: Any) -> dt.timedelta:
    duration: dt.timedelta = _parse(dt.timedelta, value, "duration")
    return duration


def _decimal(kind: FieldType, value: Any) -> decimal.Decimal:
    number: decimal.Decimal = _parse(decimal.Decimal, value, "decimal number")
    if kind.digits is not None and kind.places is not None and number.adjusted() >= kind.digits - kind.places:
        raise CoercionError(value, f"must have at most {kind.digits - kind.places} digits before the point")
    return number


def _parse(target: type, value: Any, name: str) -> Any:
    try:
        if isinstance(value, str):
            return _adapter(target).validate_python(value)
    except pydantic.ValidationError:
        pass
    raise CoercionError(value, f"must be a {name}")


@lru_cache
def _adapter(target: type) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(target)


def _list(kind: FieldType, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise CoercionError(value, "must be a list")
    assert kind.item is not None
    return [coerce_at(str(position), kind.item, item) for position, item in enumerate(value)]


def _struct(kind: FieldType, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CoercionError(value, "must be an object")
    return {name: coerce_at(name, part, value.get(name)) for name, part in kind.parts}


def _map(kind: FieldType, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise CoercionError(value, "must be an object")
    assert kind.item is not None
    return [(name, coerce_at(name, kind.item, item)) for name, item in value.items()]


def coerce_at(name: str, kind: FieldType, value: Any) -> Any:
    """Coerce a member of a value; its error names the member."""
    try:
        return coerce(kind, value)
    except CoercionError as problem:
        raise problem.at(name) from None


def _any(kind: FieldType, value: Any) -> Any:
    return value


_COERCERS: dict[str, Coercer] = {
    "string": _string,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
    "datetime": _datetime,
    "instant": _instant,
    "duration": _duration,
    "decimal": _decimal,
    "label": _label,
    "list": _list,
    "struct": _struct,
    "map": _map,
    "any": _any,
}
