"""Regular expressions of JSON schemas, matched in time that is linear in the text.

A pattern that backtracks takes time that doubles with every character, and Python's ``re`` cannot be stopped in it.
pydantic's engine (Rust's regex) never backtracks, and knows neither look-around nor back-references.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

from skytells_nb.errors import InputError

_AHEAD = ("(?=", "(?!")


@lru_cache(maxsize=1024)
def matcher(pattern: str) -> Callable[[str], bool]:
    """A function that tells whether the pattern is found in a text.

    Raises InputError for one that is no regular expression, or that cannot be matched in linear time. Look-ahead right
    after ``^`` can: all of it starts at the same character, so that each part is a pattern of its own.

    >>> matcher("^(?!0)[0-9]+$")("10"), matcher("^(?!0)[0-9]+$")("01")
    (True, False)
    """
    tests = [(wanted, _compiled(part, pattern)) for wanted, part in _parts(_in_rust(pattern))]

    def matches(text: str) -> bool:
        if not text.isascii():
            text = text.encode("utf-8", "replace").decode()  # a lone surrogate is no text in Rust
        return all(test.isinstance_python(text) is wanted for wanted, test in tests)

    return matches


def _compiled(part: str, pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=part, regex_engine="rust-regex"))
    except SchemaError as problem:
        why = str(problem).strip().splitlines()[-1].strip().removeprefix("error: ").rstrip(".")
    raise InputError(
        f"pattern must be a regular expression that can be matched in linear time, got {pattern!r}: {why}. Look-ahead "
        "may stand right after ^; other look-around and back-references may not be used."
    )


def _parts(pattern: str) -> list[tuple[bool, str]]:
    """The pattern as patterns that must be found (True) or must not; itself alone where nothing looks ahead first."""
    parts: list[tuple[bool, str]] = []
    rest = pattern.removeprefix("^")
    while pattern.startswith("^") and rest.startswith(_AHEAD):
        end, _ = _group(rest)
        if not end:
            break
        parts.append((rest.startswith("(?="), f"^(?:{rest[3:end]})"))
        rest = rest[end + 1 :]
    if not parts or rest[:1] in ("*", "+", "?", "{") or _group(rest)[1]:
        return [(True, pattern)]
    return [*parts, (True, f"^{rest}")]


def _group(text: str) -> tuple[int, bool]:
    """Where the group ends with which the text begins (0: nowhere), and whether a | stands outside all groups."""
    depth, end, place, choice, in_class = 0, 0, 0, False, False
    while place < len(text):
        letter = text[place]
        if letter == "\\":
            place += 1
        elif in_class:
            in_class = letter != "]"
        elif letter == "[":
            in_class = True
            place += text[place + 1 : place + 3].startswith("^") + 1  # a ] that is first is a letter
        elif letter == "|":
            choice = choice or depth == 0
        elif letter in "()":
            depth += 1 if letter == "(" else -1
            if depth == 0 and not end:
                end = place
        place += 1
    return end, choice


def _in_rust(pattern: str) -> str:
    """The same pattern where Rust reads it differently: classes within classes, and Python's end of a text."""
    made: list[str] = []
    place, in_class = 0, False
    while place < len(pattern):
        letter, pair = pattern[place], pattern[place : place + 2]
        if letter == "\\":
            made.append(r"\z" if pair == r"\Z" and not in_class else pair)
            place += 2
            continue
        if in_class:
            in_class = letter != "]"
            made.append(f"\\{letter}" if letter == "[" or pair in ("&&", "~~") else letter)
        elif letter == "[":
            in_class = True
            first = pattern[place + 1 : place + 3]
            opening = "[^" if first.startswith("^") else "["
            opening += "]" if first.removeprefix("^").startswith("]") else ""
            made.append(opening)
            place += len(opening)
            continue
        else:
            made.append(letter)
        place += 1
    return "".join(made)
