"""Answers that nearly match their schema, as a person would read them.

A service that does not hold the model to the schema returns ``{"label": "Positive"}``, a bare ``positive.``, or yes
where true was asked for. What such an answer means is clear, and asking again would be paid for. Only what is clear is
changed, and the result is validated like any other answer.
"""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skytells_nb.types.json_schema import resolve_reference

YES = frozenset({"yes", "true", "y", "1", "correct"})
NO = frozenset({"no", "false", "n", "0", "incorrect"})
_NULL = frozenset({"null", "none", "nil", "n/a", "na", "unknown", ""})
"""How a missing value is written where a number, a flag or a date was asked for."""
_MARKS = " \t\r\n\"'`*_.,;:!?()[]{}<>«»\u2018\u2019\u201c\u201d\u201e"
"""Characters that models put around a value."""
_FIRST_WORD = re.compile(r"\W*(yes|no|true|false)\s*(?:[.,:;!\u2013\u2014-]|$)", re.IGNORECASE)
"""A decision before its reason: "Yes, it is.", and not "No doubt it is."."""
_FENCE = re.compile(r"```[A-Za-z]*\s*\n?(.*?)```", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")
_TAG = re.compile(r"</?[A-Za-z][\w-]*>")
_LIST_MARK = re.compile(r"(?:\d{1,2}[.)]|[-*\u2022])\s+")
_LEAD_IN = re.compile(r"(.{0,80}?)(?:[:=]|\bis\b(?!.*[:=]))\s*(.+)")
"""Words before a value: "The label is: bad", "label=bad"."""
_NOT = re.compile(r"\b(?:not?|never|neither|nor|rather than|instead)\b|n['\u2019]t\b", re.IGNORECASE)
_CURRENCY = re.compile(r"(?<![\w.,])[$\u20ac\u00a3\u00a5]\s?(?=\d)|(?<=\d)\s?[$\u20ac\u00a3\u00a5]$")
_INNER = ("value", "label", "name", "answer", "text", "result")
"""Members that hold the value of an object which stands in place of a plain value."""


class AmbiguousAnswerError(ValueError):
    """The answer does not say clearly what it means in terms of the schema."""


def normalize(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return the object that an answer means, by a JSON schema of an object.

    Raises AmbiguousAnswerError if that is not clear.

    >>> label = {"properties": {"label": {"enum": ["positive", "negative"]}}, "required": ["label"]}
    >>> normalize(label, "Positive.")
    {'label': 'positive'}
    """
    value = _parse(text)
    return _object(schema, schema, _parse_bare(text) if value is None else value, ("#",))


def fold(text: str) -> str:
    """Return a text without what a person overlooks: case, Unicode form, white space, marks around it.

    >>> fold(' "Very_Good." ') == fold("very good")
    True
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[\s_\-\u2010-\u2015]+", " ", plain).split()).strip(_MARKS)


def _parse(text: str) -> Any:
    """Return the JSON value in an answer, also in Python's notation; ``None`` if there is none."""
    fenced = _FENCE.search(text)
    stripped = (fenced.group(1) if fenced else text).strip()
    for candidate in _candidates(stripped):
        for attempt in (candidate, _TRAILING_COMMA.sub(r"\1", candidate)):
            try:
                return json.loads(attempt)
            except (ValueError, RecursionError):
                pass
        if candidate[:1] in "{[" and len(candidate) < 100_000:
            try:
                return ast.literal_eval(candidate)
            except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
                pass
    return None


def _candidates(text: str) -> Iterator[str]:
    """Yield what may be JSON: the text, the object in it, the list in it."""
    yield text
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            yield text[start : end + 1]


def _parse_bare(text: str) -> Any:
    fenced = _FENCE.search(text)
    return _Bare((fenced.group(1) if fenced else text).strip())


class _Bare(str):
    """Text that is not JSON."""


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], value: Any, within: tuple[str, ...]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties") or {}
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        (value,) = value
    if isinstance(value, dict):
        value = _unwrap(properties, value)
    if _is_flags(properties) and (flags := _flags(properties, value)) is not None:
        return flags
    if not isinstance(value, dict):
        return _of_one_field(properties, root, value, within)
    members = _named(properties, value)
    if len(properties) == len(members) == 1 and not members.keys() & properties.keys():
        # The one field under another name: its value shows whether it is that.
        ((name, part),), (member,) = properties.items(), members.values()
        if isinstance(member, str) and isinstance(_resolved(part, root).get("enum"), list):
            return {name: _value(part, root, member, within)}
    result = {
        name: _value(properties[name], root, member, within) if name in properties else member
        for name, member in members.items()
        if name in properties or _allows_more(schema)
    }
    if result.keys() & properties.keys():
        # An answer that has some fields and leaves out one that may be null says that it is.
        absent = [name for name in schema.get("required", ()) if name in properties and name not in result]
        result.update((name, None) for name in absent if _allows_null(properties[name], root))
    return result


def _unwrap(properties: Mapping[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """Return the object inside an object with one unknown member, such as ``{"classification": {"label": ...}}``."""
    folded = {fold(name) for name in properties}
    while len(value) == 1:
        ((name, inner),) = value.items()
        is_known = fold(str(name)) in folded
        if not isinstance(inner, dict) or is_known or not folded & {fold(str(key)) for key in inner}:
            break
        value = inner
    return value


def _named(properties: Mapping[str, Any], value: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the members under the names of the schema, where only case, space or marks differ."""
    by_fold: dict[str, list[str]] = {}
    for name in properties:
        by_fold.setdefault(fold(name), []).append(name)
    members: dict[str, Any] = {}
    for given, member in value.items():
        name = str(given)
        near = by_fold.get(fold(name), [])
        if name not in properties and len(near) == 1 and near[0] not in value:
            if near[0] in members and members[near[0]] != member:
                raise AmbiguousAnswerError(f"it has {near[0]} twice")
            name = near[0]
        members[name] = member
    return members


def _allows_more(schema: Mapping[str, Any]) -> bool:
    return schema.get("additionalProperties", True) is not False


def _of_one_field(
    properties: Mapping[str, Any], root: Mapping[str, Any], value: Any, within: tuple[str, ...]
) -> dict[str, Any]:
    """Return the object with the one field that a bare value is for."""
    if len(properties) != 1:
        raise AmbiguousAnswerError("it is not an object")
    ((name, part),) = properties.items()
    if not isinstance(value, _Bare):
        return {name: _value(part, root, value, within)}
    allowed = _resolved(part, root).get("enum")
    if _kind(part, root) == "string" and allowed is None:
        # Any prose would be taken for the value.
        raise AmbiguousAnswerError("it is not JSON")
    head, colon, rest = value.partition(":")
    readings = [rest if colon and fold(head) in (fold(name), f"the {fold(name)}") else str(value)]
    for reading in (*readings, *(_in_prose(value, allowed) if isinstance(allowed, list) else ())):
        try:
            return {name: _value(part, root, reading, within)}
        except AmbiguousAnswerError:
            pass
    raise AmbiguousAnswerError("it is none of the allowed values")


def _in_prose(text: str, allowed: Iterable[Any]) -> Iterator[str]:
    """Yield what the words around one of the allowed values may leave, such as "The label is: bad" or "1. bad".

    Nothing, where they name another one, or lead to what it is not.
    """
    first, _, rest = _TAG.sub(" ", text).strip().partition("\n")
    readings = [(rest, _LIST_MARK.sub("", first))]
    lead_in = _LEAD_IN.match(first)
    if lead_in is not None and not _NOT.search(lead_in[1]):
        readings.append((f"{lead_in[1]} {rest}", lead_in[2]))
    for around, value in readings:
        others = [fold(str(choice)) for choice in allowed if fold(str(choice)) != fold(value)]
        if not any(f" {_words(other)} " in f" {_words(around)} " for other in others):
            yield value


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _is_flags(properties: Mapping[str, Any]) -> bool:
    return len(properties) > 0 and all(
        isinstance(part, Mapping) and part.get("type") == "boolean" for part in properties.values()
    )


def _flags(properties: Mapping[str, Any], value: Any) -> dict[str, Any] | None:
    """Return the flags that a list of their names means, or an object with only those that are true."""
    if isinstance(value, dict):
        members = _named(properties, value)
        given = {name: member for name, member in members.items() if name in properties}
        if not given and len(value) == 1:
            ((_, inner),) = value.items()
            return _flags(properties, inner) if isinstance(inner, (list, str, dict)) else None
        flags = {name: _boolean(member) for name, member in given.items()}
        if all(flags.values()) and flags:
            return {name: flags.get(name, False) for name in properties}
        return None
    if isinstance(value, str):
        if len(properties) == 1 or fold(value) in YES | NO:
            return None
        is_none = fold(value) in _NULL and fold(value) not in map(fold, properties)
        value = [] if is_none else re.split(r"[,;\n]|\band\b", value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    names = [_one_of(properties, item) for item in value if item.strip()]
    return {name: name in names for name in properties}


def _value(part: Any, root: Mapping[str, Any], value: Any, within: tuple[str, ...]) -> Any:
    """Return the value that one member of an answer means; unchanged where the schema leaves it open."""
    reference = part.get("$ref") if isinstance(part, Mapping) else None
    if reference is not None:
        if reference in within:
            return value
        within = (*within, reference)
    schema = _resolved(part, root)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        present = [choice for choice in choices if not (isinstance(choice, Mapping) and choice.get("type") == "null")]
        if value is None or len(present) != 1:
            return value
        if len(present) < len(choices) and _is_null(value) and _kind(present[0], root) != "string":
            return None
        return _value(present[0], root, value, within)
    if value is None:
        return value
    allowed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(allowed, list):
        return _choice(allowed, value)
    kind = _kind(schema, root)
    if kind == "object" and isinstance(value, dict):
        return _object(schema, root, value, within)
    if kind == "array":
        items = value if isinstance(value, list) else [value]
        return [_value(schema.get("items", {}), root, item, within) for item in items]
    if isinstance(value, (dict, list)):
        value = _inner(value)
    if isinstance(schema.get("type"), list) and "null" in schema["type"] and kind != "string" and _is_null(value):
        return None
    converter = {"boolean": _boolean, "integer": _integer, "number": _number, "string": _string}.get(kind)
    return value if converter is None else converter(value)


def _resolved(part: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(part, Mapping):
        return {}
    return resolve_reference(part["$ref"], root) if "$ref" in part else part


def _kind(part: Any, root: Mapping[str, Any]) -> str:
    kind = _resolved(part, root).get("type")
    if isinstance(kind, list):
        present = [name for name in kind if name != "null"]
        return str(present[0]) if len(present) == 1 else ""
    return str(kind)


def _allows_null(part: Any, root: Mapping[str, Any]) -> bool:
    schema = _resolved(part, root)
    kind = schema.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    return any(_allows_null(choice, root) for choice in schema.get("anyOf", ()))


def _is_null(value: Any) -> bool:
    return isinstance(value, str) and value.strip().casefold() in _NULL


def _inner(value: Any) -> Any:
    """Return the plain value that a list of one or an object such as ``{"value": 3}`` stands for."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, dict):
        found = [value[name] for name in _INNER if name in value]
        if len(found) == 1 and not isinstance(found[0], (dict, list)):
            return found[0]
    return value


def _choice(allowed: Iterable[Any], value: Any) -> Any:
    """Return the one of the allowed values that is meant."""
    allowed = list(allowed)
    value = _inner(value) if isinstance(value, (list, dict)) else value
    if any(type(value) is type(choice) and value == choice for choice in allowed):
        return value
    if all(isinstance(choice, bool) for choice in allowed):
        return _boolean(value)
    if fold(str(value)) in YES | NO:
        yes = fold(str(value)) in YES
        meant = [c for c in allowed if isinstance(c, str) and fold(c) in (YES if yes else NO)]
        if len(meant) == 1:
            return meant[0]
    if isinstance(value, (str, int, float)):
        return _one_of(allowed, value)
    raise AmbiguousAnswerError("it is none of the allowed values")


def _one_of(allowed: Iterable[Any], value: Any) -> Any:
    allowed = list(allowed)
    for reading in (lambda text: unicodedata.normalize("NFC", text).strip(), fold):
        wanted = reading(str(value))
        near = [choice for choice in allowed if choice is not None and reading(str(choice)) == wanted]
        if len(near) == 1:
            return near[0]
    if isinstance(value, str) and {fold(str(choice)) for choice in allowed} == {"yes", "no"}:
        # "Yes, it is." and "No: the text does not say so."
        word = _FIRST_WORD.match(value)
        if word:
            meant = YES if word.group(1).casefold() in YES else NO
            return next(choice for choice in allowed if fold(str(choice)) in meant)
    raise AmbiguousAnswerError("it is none of the allowed values")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        folded = fold(value)
        word = _FIRST_WORD.match(value)
        decision = word.group(1).casefold() if word else folded
        if decision in YES | NO:
            return decision in YES
    raise AmbiguousAnswerError("it is neither true nor false")


def _integer(value: Any) -> Any:
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = unicodedata.normalize("NFKC", value).strip(" \t\r\n\"'`*.").replace("\u2212", "-")
    text = _CURRENCY.sub("", text)
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    if re.fullmatch(r"[-+]?\d+", text) and len(text) < 400:
        return int(text)
    if re.fullmatch(r"[-+]?\d+\.\d+([eE][-+]?\d+)?", text):
        return float(text)
    raise AmbiguousAnswerError("it is not a number")


def _string(value: Any) -> Any:
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
