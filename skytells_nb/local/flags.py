"""``name=value`` words as the fields of a frozen dataclass: what ``serve --faults`` and the fault header carry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from skytells_nb.errors import InputError


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
    known = _adapters(kind)
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{kind.__name__} has no {name!r}; it has: {', '.join(sorted(known))}.")
        try:
            read[name] = known[name].validate_python(value)
        except ValidationError as problem:
            wrong = problem.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            raise InputError(f"{name} must be {wrong.removeprefix('Input should be ')}, got {value!r}.") from None
    return read


@cache
def _adapters(kind: type) -> dict[str, TypeAdapter[Any]]:
    hints = get_type_hints(kind)
    return {field.name: _adapter(hints[field.name]) for field in fields(kind)}


def _adapter(hint: Any) -> TypeAdapter[Any]:
    named: Any = Annotated[bool, BeforeValidator(_true_where_named)] if hint is bool else hint
    # A status is given as a number as often as by its name.
    return TypeAdapter(named, config=ConfigDict(coerce_numbers_to_str=True))


def _true_where_named(value: Any) -> Any:
    """A flag without a value, as in ``no_done``, is set."""
    return True if value == "" else value
