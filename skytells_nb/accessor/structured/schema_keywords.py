"""The keywords of JSON schema as jsonschema has them, bounded in time, and with errors in the order of the value."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from functools import cache
from typing import Any

from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from skytells_nb.accessor.structured.patterns import matcher

Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Any, Any, Any], Any]


class StepsExceeded(Exception):
    """A check that takes more keywords than it may."""


class _State(threading.local):
    """Of the check that this thread does: the steps that are left, and the references that it is within."""

    steps = 0
    within: frozenset[tuple[int, int]] = frozenset()


_state = _State()


def start(steps: int) -> None:
    """Begin a check, in this thread, of at most this many keywords."""
    _state.steps, _state.within = steps, frozenset()


@cache
def bounded(base: Any) -> Any:
    """The validator class of a draft with these keywords in place of its own."""
    keywords = {name: keyword for name, keyword in _KEYWORDS.items() if name in base.VALIDATORS}
    for name in ("$ref", "$dynamicRef", "$recursiveRef"):
        if name in base.VALIDATORS:
            keywords[name] = _once(base.VALIDATORS[name])
    for name in ("const", "enum"):
        if name in base.VALIDATORS:
            keywords[name] = _of_right_type(base.VALIDATORS[name])
    return extend(base, {name: _counted(keyword) for name, keyword in {**base.VALIDATORS, **keywords}.items()})


def _counted(keyword: Keyword) -> Keyword:
    def counted(validator: Any, wanted: Any, value: Any, schema: Any) -> Any:
        _spend()
        return keyword(validator, wanted, value, schema)

    return counted


def _spend() -> None:
    _state.steps -= 1
    if _state.steps < 0:
        raise StepsExceeded


def _once(keyword: Keyword) -> Keyword:
    """A reference that leads to itself, for the same value, asks for nothing: it would have no end."""

    def once(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:
        before, here = _state.within, (id(schema), id(value))
        if here in before:
            return
        _state.within = before | {here}
        try:
            errors = list(keyword(validator, wanted, value, schema) or ())
        finally:
            _state.within = before
        yield from errors

    return once


def _of_right_type(keyword: Keyword) -> Keyword:
    """A value of another type has one error, not two."""

    def checked(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:
        types = schema.get("type")
        types = [types] if isinstance(types, str) else types
        if not types or any(validator.is_type(value, each) for each in types):
            yield from keyword(validator, wanted, value, schema) or ()

    return checked


def _pattern(validator: Any, pattern: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, str) and not matcher(pattern)(value):
        yield ValidationError("does not match")


def _pattern_properties(validator: Any, patterns: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        for pattern, part in patterns.items():
            matches = matcher(pattern)
            for name, member in value.items():
                if matches(name):
                    yield from validator.descend(member, part, path=name, schema_path=pattern)


def _additional_properties(validator: Any, others: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        named = schema.get("properties", {})
        matchers = [matcher(pattern) for pattern in schema.get("patternProperties", {})]
        for name, member in value.items():
            if name not in named and not any(matches(name) for matches in matchers):
                if others is False:
                    yield ValidationError("is no field", path=[name])
                else:
                    yield from validator.descend(member, others, path=name)


def _unevaluated_properties(validator: Any, others: Any, value: Any, schema: Any) -> Errors:
    if isinstance(value, dict):
        known = _evaluated(validator, value, {name: part for name, part in schema.items() if name != _UNEVALUATED})
        for name, member in value.items():
            if name not in known:
                if others is False:
                    yield ValidationError("is no field", path=[name])
                else:
                    yield from validator.descend(member, others, path=name)


_UNEVALUATED = "unevaluatedProperties"


def _evaluated(validator: Any, value: dict[str, Any], schema: Any) -> set[str]:
    """The names of the fields that this schema and what it applies to the same value look at."""
    if not isinstance(schema, Mapping):
        return set()
    _spend()
    found = {name for name in schema.get("properties", ()) if name in value}
    for pattern in schema.get("patternProperties", ()):
        found.update(filter(matcher(pattern), value))
    for word in ("additionalProperties", _UNEVALUATED):
        if word in schema:
            found.update(name for name, member in value.items() if _fits(validator, member, schema[word]))
    for word in ("$ref", "$dynamicRef"):
        if word in schema:
            # Only the validator knows the base address and the dynamic scope here.
            target = validator._resolver.lookup(schema[word])
            inner = validator.evolve(schema=target.contents, _resolver=target.resolver)
            found |= _evaluated(inner, value, target.contents)
    applied = [part for word in ("allOf", "anyOf", "oneOf") for part in schema.get(word, ())]
    applied += [part for name, part in schema.get("dependentSchemas", {}).items() if name in value]
    for part in applied:
        if _fits(validator, value, part):
            found |= _evaluated(validator, value, part)
    if "if" in schema:
        fits = _fits(validator, value, schema["if"])
        if fits:
            found |= _evaluated(validator, value, schema["if"])
        found |= _evaluated(validator, value, schema.get("then" if fits else "else", True))
    return found


def _fits(validator: Any, value: Any, schema: Any) -> bool:
    return next(iter(validator.descend(value, schema)), None) is None


def _required(validator: Any, names: Any, value: Any, schema: Any) -> Errors:
    missing = [name for name in names if name not in value] if isinstance(value, dict) else []
    if missing:
        yield ValidationError(f"lacks {', '.join(missing)}")


def _dependent_required(validator: Any, needed: Any, value: Any, schema: Any) -> Errors:
    for name, names in needed.items() if isinstance(value, dict) else ():
        missing = [other for other in names if other not in value] if name in value else []
        if missing:
            yield ValidationError(f"lacks {', '.join(missing)}, which must be there beside {name}")


def _property_names(validator: Any, schema_of_names: Any, value: Any, schema: Any) -> Errors:
    for name in value if isinstance(value, dict) else ():
        yield from validator.descend(name, schema_of_names)


def _any_of(validator: Any, choices: Any, value: Any, schema: Any) -> Errors:
    wrong = []
    for place, choice in enumerate(choices):
        errors = list(validator.descend(value, choice, schema_path=place))
        if not errors:
            return
        wrong.append(errors)
    # The choice with the least to mend is the one that was most likely meant.
    yield from min(wrong, key=len)


def _one_of(validator: Any, choices: Any, value: Any, schema: Any) -> Errors:
    wrong = [list(validator.descend(value, choice, schema_path=place)) for place, choice in enumerate(choices)]
    fitting = sum(not errors for errors in wrong)
    if not fitting:
        yield from min(wrong, key=len)
    elif fitting > 1:
        yield ValidationError("fits more than one of the choices")


def _multiple_of(validator: Any, of: Any, value: Any, schema: Any) -> Errors:
    # By the digits that were written: 19.99 is a multiple of 0.01, which the quotient of the floats is not.
    if validator.is_type(value, "number"):
        finite = value == value and abs(value) != float("inf")
        if not finite or (_exact(value) / _exact(of)).denominator != 1:
            yield ValidationError("is no multiple")


def _exact(number: Any) -> Fraction:
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def _unique_items(validator: Any, wanted: Any, value: Any, schema: Any) -> Errors:
    if wanted and isinstance(value, list) and len({_hashable(item) for item in value}) < len(value):
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
