"""From a JSON value to what a column of its kind holds; raises Misfit where the value is of another kind."""

from __future__ import annotations

import datetime as dt
import decimal
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import pydantic

from skytells_nb.accessor.structured.field_types import FieldType

_LONGEST_SHOWN = 60
_INT64 = range(-(2**63), 2**63)
_EARLIEST, _LATEST = dt.datetime.min, dt.datetime.max

Cell: TypeAlias = Callable[[FieldType, Any], Any]


class CoercionError(ValueError):
    """A value that its column cannot hold; ``path`` leads to it."""

    def __init__(self, value: Any, fault: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(value, fault, path)
        self.value = value
        self.fault = fault
        self.path = path

    def at(self, name: str) -> CoercionError:
        """The same, seen from one step further out."""
        return CoercionError(self.value, self.fault, (name, *self.path))

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} is {shown(self.value)}, which {self.fault}".lstrip()


def coerce(kind: FieldType, value: Any) -> Any:
    """The value as its column holds it: numbers, dates and decimals as Python's own, the rest as JSON has it."""
    return None if value is None else _CELLS[kind.name](kind, value)


def shown(value: Any) -> str:
    """The value as an error quotes it."""
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def _string(kind: FieldType, value: Any) -> str:
    if not isinstance(value, str):
        raise CoercionError(value, "is no string")
    return value


def _boolean(kind: FieldType, value: Any) -> bool:
    if not isinstance(value, bool):
        raise CoercionError(value, "is neither true nor false")
    return value


def _integer(kind: FieldType, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise CoercionError(value, "is no whole number")
    whole = int(value)
    if whole not in _INT64:
        raise CoercionError(value, "is more than 64 bits hold")
    return whole


def _number(kind: FieldType, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CoercionError(value, "is no number")
    try:
        return float(value)
    except OverflowError:
        raise CoercionError(value, "is more than a float holds") from None


def _label(kind: FieldType, value: Any) -> Any:
    if isinstance(value, (list, dict)) or value not in kind.labels or isinstance(value, bool):
        raise CoercionError(value, f"is none of {', '.join(map(repr, kind.labels))}")
    return value


def _date(kind: FieldType, value: Any) -> dt.date:
    found: dt.date = _parsed(dt.date, value, "date")
    return found


def _datetime(kind: FieldType, value: Any) -> dt.datetime:
    found: dt.datetime = _parsed(dt.datetime, value, "date and time")
    try:
        return found if found.tzinfo is None else found.astimezone(dt.UTC).replace(tzinfo=None)
    except OverflowError:
        return _EARLIEST if found.year == _EARLIEST.year else _LATEST


def _instant(kind: FieldType, value: Any) -> dt.datetime:
    return _datetime(kind, value).replace(tzinfo=dt.UTC)


def _duration(kind: FieldType, value: Any) -> dt.timedelta:
    found: dt.timedelta = _parsed(dt.timedelta, value, "duration")
    return found


def _decimal(kind: FieldType, value: Any) -> decimal.Decimal:
    found: decimal.Decimal = _parsed(decimal.Decimal, value, "decimal number")
    if kind.digits is not None and kind.places is not None and found.adjusted() >= kind.digits - kind.places:
        raise CoercionError(value, f"has more than {kind.digits - kind.places} digits before the point")
    return found


def _parsed(wanted: type, value: Any, name: str) -> Any:
    try:
        if isinstance(value, str):
            return _adapter(wanted).validate_python(value)
    except pydantic.ValidationError:
        pass
    raise CoercionError(value, f"is no {name}")


@lru_cache
def _adapter(wanted: type) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(wanted)


def _list(kind: FieldType, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise CoercionError(value, "is no list")
    assert kind.item is not None
    return [coerce_at(str(place), kind.item, item) for place, item in enumerate(value)]


def _struct(kind: FieldType, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CoercionError(value, "is no object")
    return {name: coerce_at(name, part, value.get(name)) for name, part in kind.parts}


def _map(kind: FieldType, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise CoercionError(value, "is no object")
    assert kind.item is not None
    return [(name, coerce_at(name, kind.item, item)) for name, item in value.items()]


def coerce_at(name: str, kind: FieldType, value: Any) -> Any:
    """``cell`` of a member, whose misfit says where it is."""
    try:
        return coerce(kind, value)
    except CoercionError as problem:
        raise problem.at(name) from None


def _any(kind: FieldType, value: Any) -> Any:
    return value


_CELLS: dict[str, Cell] = {
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
