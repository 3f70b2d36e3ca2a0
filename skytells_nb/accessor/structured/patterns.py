"""Regular expressions of JSON schemas, matched in linear time.

Backtracking can take exponential time, and Python's ``re`` cannot be interrupted. pydantic's engine (Rust's regex)
never backtracks, and supports neither look-around nor back-references.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from skytells_nb.errors import InputError

_LOOK_AHEADS = ("(?=", "(?!")


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """Return a function that tests whether the pattern occurs in a text.

    Raises InputError for an invalid regular expression, and for one that cannot be matched in linear time. Look-ahead
    right after ``^`` can: every part of it starts at the same character, so each is a pattern of its own.

    >>> compile_pattern("^(?!0)[0-9]+$")("10"), compile_pattern("^(?!0)[0-9]+$")("01")
    (True, False)
    """
    parts = [(expected, _validator(part, pattern)) for expected, part in _split_look_ahead(_to_rust(pattern))]

    def matches(text: str) -> bool:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # Rust has no lone surrogates
        return all(part.isinstance_python(text) is expected for expected, part in parts)

    return matches


def _validator(part: str, pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=part, regex_engine="rust-regex"))
    except SchemaError as problem:
        reason = str(problem).strip().splitlines()[-1].strip().removeprefix("error: ").rstrip(".")
    raise InputError(
        f"pattern must be a regular expression that can be matched in linear time, got {pattern!r}: {reason}. "
        "Look-ahead is supported right after ^; other look-around and back-references are not."
    )


def _split_look_ahead(pattern: str) -> list[tuple[bool, str]]:
    """Split a pattern into those that must match (True) or must not: its look-aheads right after ^, and the rest."""
    parts: list[tuple[bool, str]] = []
    rest = pattern.removeprefix("^")
    while pattern.startswith("^") and rest.startswith(_LOOK_AHEADS):
        end, _ = _find_group(rest)
        if not end:
            break
        parts.append((rest.startswith("(?="), f"^(?:{rest[3:end]})"))
        rest = rest[end + 1 :]
    if not parts or rest[:1] in ("*", "+", "?", "{") or _find_group(rest)[1]:
        return [(True, pattern)]
    return [*parts, (True, f"^{rest}")]


def _find_group(text: str) -> tuple[int, bool]:
    """Return the end of the group at the start of the text (0: none), and whether a | is outside all groups."""
    depth, end, position, has_choice, in_class = 0, 0, 0, False, False
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
            position += text[position + 1 : position + 3].startswith("^") + 1  # a leading ] is a literal
        elif character == "|":
            has_choice = has_choice or depth == 0
        elif character in "()":
            depth += 1 if character == "(" else -1
            if depth == 0 and not end:
                end = position
        position += 1
    return end, has_choice


def _to_rust(pattern: str) -> str:
    """Translate what Rust parses differently: classes within classes, and Python's end of a text."""
    translated: list[str] = []
    position, in_class = 0, False
    while position < len(pattern):
        character, pair = pattern[position], pattern[position : position + 2]
        if character == "\\":
            translated.append(r"\z" if pair == r"\Z" and not in_class else pair)
            position += 2
            continue
        if in_class:
            in_class = character != "]"
            translated.append(f"\\{character}" if character == "[" or pair in ("&&", "~~") else character)
        elif character == "[":
            in_class = True
            first = pattern[position + 1 : position + 3]
            opening = "[^" if first.startswith("^") else "["
            opening += "]" if first.removeprefix("^").startswith("]") else ""
            translated.append(opening)
            position += len(opening)
            continue
        else:
            translated.append(character)
        position += 1
    return "".join(translated)
