"""jsonschema's keywords, bounded in time, and with errors in the order of the value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from skytells_nb.accessor.structured.patterns import compile_pattern

Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Any]


class StepsExceeded(Exception):
    """The validation needs more keywords than allowed."""


class _State(threading.local):
    """The state of this thread's validation: the remaining steps, and the references that enclose the current one."""

    steps = 0
    enclosing: frozenset[tuple[int, int]] = frozenset()


_state = _State()


def reset_steps(steps: int) -> None:
    """Start a validation in this thread that evaluates at most this many keywords."""
    _state.steps, _state.enclosing = steps, frozenset()


@cache
def bounded_validator(base: Any) -> Any:
    """Return the validator class of a draft with the bounded keywords instead of its own."""
    keywords = {name: keyword for name, keyword in _KEYWORDS.items() if name in base.VALIDATORS}
    for name in ("$ref", "$dynamicRef", "$recursiveRef"):
        if name in base.VALIDATORS:
            keywords[name] = _without_recursion(base.VALIDATORS[name])
    for name in ("const", "enum"):
        if name in base.VALIDATORS:
            keywords[name] = _if_type_matches(base.VALIDATORS[name])
    return extend(base, {name: _count_step(keyword) for name, keyword in {**base.VALIDATORS, **keywords}.items()})


def _count_step(keyword: Keyword) -> Keyword:
    def counted(validator: Any, argument: Any, value: Any, schema: Any) -> Any:
        _use_step()
        return keyword(validator, argument, value, schema)

    return counted


def _use_step() -> None:
    _state.steps -= 1
    if _state.steps < 0:
        raise StepsExceeded


def _without_recursion(keyword: Keyword) -> Keyword:
    """Ignore a reference that leads to itself for the same value: it would not terminate."""

    def guarded(validator: Any, argument: Any, value: Any, schema: Any) -> Errors:
        before, current = _state.enclosing, (id(schema), id(value))
        if current in before:
            return
        _state.enclosing = before | {current}
        try:
            errors = list(keyword(validator, argument, value, schema) or ())
        finally:
            _state.enclosing = before
        yield from errors

    return guarded


def _if_type_matches(keyword: Keyword) -> Keyword:
    """Skip the keyword for a value of another type, which has an error already."""

    def checked(validator: Any, argument: Any, value: Any, schema: Any) -> Errors:
        types = schema.get("type")
        types = [types] if isinstance(types, str) else types
        if not types or any(validator.is_type(value, each) for each in types):
            yield from keyword(validator, argument, value, schema) or ()

    return checked


def _pattern(validator: Any, pattern: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, str) and not compile_pattern(pattern)(value):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        for pattern, part in patterns.items():
            matches = compile_pattern(pattern)
            for name, member in value.items():
                if matches(name):
                    yield from validator.descend(member, part, path=name, schema_path=pattern)


def _additional_properties(validator: Any, additional: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        named = schema.get("properties", {})
        matchers = [compile_pattern(pattern) for pattern in schema.get("patternProperties", {})]
        for name, member in value.items():
            if name not in named and not any(matches(name) for matches in matchers):
                if additional is False:
                    yield ValidationError("is not a field", path=[name])
                else:
                    yield from validator.descend(member, additional, path=name)


def _unevaluated_properties(validator: Any, additional: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        known = _evaluated(validator, value, {name: part for name, part in schema.items() if name != _UNEVALUATED})
        for name, member in value.items():
            if name not in known:
                if additional is False:
                    yield ValidationError("is not a field", path=[name])
                else:
                    yield from validator.descend(member, additional, path=name)


_UNEVALUATED = "unevaluatedProperties"


def _evaluated(validator: Any, value: dict[str, Any], schema: Any) -> set[str]:
    """Return the names of the fields that this schema evaluates, with the schemas that it applies to the same value."""
    if not isinstance(schema, Mapping):
        return set()
    _use_step()
    evaluated = {name for name in schema.get("properties", ()) if name in value}
    for pattern in schema.get("patternProperties", ()):
        evaluated.update(filter(compile_pattern(pattern), value))
    for keyword in ("additionalProperties", _UNEVALUATED):
        if keyword in schema:
            evaluated.update(name for name, member in value.items() if _is_valid(validator, member, schema[keyword]))
    for keyword in ("$ref", "$dynamicRef"):
        if keyword in schema:
            # Only the validator knows the base address and the dynamic scope here.
            target = validator._resolver.lookup(schema[keyword])
            inner = validator.evolve(schema=target.contents, _resolver=target.resolver)
            evaluated |= _evaluated(inner, value, target.contents)
    applied = [part for keyword in ("allOf", "anyOf", "oneOf") for part in schema.get(keyword, ())]
    applied += [part for name, part in schema.get("dependentSchemas", {}).items() if name in value]
    for part in applied:
        if _is_valid(validator, value, part):
            evaluated |= _evaluated(validator, value, part)
    if "if" in schema:
        condition = _is_valid(validator, value, schema["if"])
        if condition:
            evaluated |= _evaluated(validator, value, schema["if"])
        evaluated |= _evaluated(validator, value, schema.get("then" if condition else "else"))
    return evaluated


def _is_valid(validator: Any, value: Any, schema: Any) -> bool:
    return next(iter(validator.descend(value, schema)), None) is None


def _required(validator: Any, names: Any, value: Any, schema: Any) -> Errors:
    missing = [name for name in names if name not in value] if isinstance(value, dict) else []
    if missing:
        yield ValidationError(f"lacks {', '.join(missing)}")


def _dependent_required(validator: Any, required: Any, value: Any, schema: Any) -> Errors:
    for name, names in required.items() if isinstance(value, dict) else ():
        missing = [other for other in names if other not in value] if name in value else []
        if missing:
            yield ValidationError(f"lacks {', '.join(missing)}, required with {name}")


def _property_names(validator: Any, schema_of_names: Any, value: Any, schema: Any) -> Errors:
    for name in value if isinstance(value, dict) else ():
        yield from validator.descend(name, schema_of_names)


def _any_of(validator: Any, choices: Any, value: Any, schema: Any) -> Errors:
    errors_by_choice = []
    for position, choice in enumerate(choices):
        errors = list(validator.descend(value, choice, schema_path=position))
        if not errors:
            return
        errors_by_choice.append(errors)
    # The choice with the fewest errors is most likely the intended one.
    yield from min(errors_by_choice, key=len)


def _one_of(validator: Any, choices: Any, value: Any, schema: Any) -> Errors:
    errors_by_choice = [
        list(validator.descend(value, choice, schema_path=position)) for position, choice in enumerate(choices)
    ]
    n_valid = sum(not errors for errors in errors_by_choice)
    if not n_valid:
        yield from min(errors_by_choice, key=len)
    elif n_valid > 1:
        yield ValidationError("fits more than one of the choices")


def _multiple_of(validator: Any, divisor: Any, value: Any, schema: Any) -> Errors:
    # In decimal: 19.99 is a multiple of 0.01, although the quotient of the floats is not an integer.
    if validator.is_type(value, "number"):
        finite = value == value and abs(value) != float("inf")
        if not finite or (_exact(value) / _exact(divisor)).denominator != 1:
            yield ValidationError("is not a multiple")


def _exact(number: Any) -> Fraction:
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _unique_items(validator: Any, unique: Any, value: Any, schema: Any) -> Errors:
    if unique and isinstance(value, list) and len({_hashable(item) for item in value}) < len(value):
        yield ValidationError("has the same item twice")


def _hashable(value: Any) -> Any:
    """Equal for values that are equal in JSON, where true is not 1."""
    if isinstance(value, list):
        return (list, *map(_hashable, value))
    if isinstance(value, dict):
        return (dict, frozenset((name, _hashable(member)) for name, member in value.items()))
    return (bool, value) if isinstance(value, bool) else value


_KEYWORDS: dict[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    _UNEVALUATED: _unevaluated_properties,
    "propertyNames": _property_names,
    "dependentRequired": _dependent_required,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "multipleOf": _multiple_of,
    "uniqueItems": _unique_items,
    "required": _required,
}
