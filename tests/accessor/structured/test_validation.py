"""Answers are validated against a schema that is a dict, as by jsonschema."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_fakes import EchoGenerator
from served import connected, served

from skytells_nb.accessor.structured import patterns, validation
from skytells_nb.accessor.structured.patterns import compile_pattern
from skytells_nb.accessor.structured.validation import build_validator, validation_errors
from skytells_nb.errors import InputError

numbers = st.one_of(st.integers(-4, 4), st.sampled_from([0.5, 2.0, -1.5]))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text("ab", max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3)
    ),
    max_leaves=6,
)
kinds = st.sampled_from(["string", "number", "integer", "boolean", "object", "array", "null"])


def schemas() -> st.SearchStrategy[Any]:
    limits = {
        "type": st.one_of(kinds, st.lists(kinds, min_size=1, max_size=3, unique=True)),
        "const": values,
        "enum": st.lists(values, min_size=1, max_size=3),
        **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), numbers),
        "multipleOf": st.sampled_from([1, 2, 0.5]),
        **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties"), st.integers(0, 3)),
        "pattern": st.sampled_from(["^a", "b$", "a+b"]),
        "required": st.lists(st.sampled_from(["a", "b"]), max_size=2, unique=True),
        "uniqueItems": st.booleans(),
        "$ref": st.sampled_from(["#/$defs/text", "#/$defs/tree"]),
    }
    flat = st.fixed_dictionaries({}, optional=limits)
    return st.recursive(
        st.one_of(st.booleans(), flat),
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                "type": kinds,
                "properties": st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
                "additionalProperties": inner,
                "items": inner,
                "prefixItems": st.lists(inner, min_size=1, max_size=2),
                **{word: st.lists(inner, min_size=1, max_size=2) for word in ("anyOf", "oneOf", "allOf")},
                "not": inner,
            },
        ),
        max_leaves=4,
    )


DRAFT = "https://json-schema.org/draft/2020-12/schema"
DEFS = {"text": {"type": "string", "maxLength": 2}, "tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}}


@settings(deadline=None, max_examples=400)
@given(schemas(), values)
def test_it_finds_errors_where_jsonschema_does(schema: Any, value: Any) -> None:
    whole = {**schema, "$defs": DEFS} if isinstance(schema, dict) else schema
    assert (not validation_errors(whole, value)) is jsonschema.Draft202012Validator(whole).is_valid(value)


@pytest.mark.parametrize(
    ("part", "value", "error"),
    [
        ({"minimum": 1}, 0, "x must be at least 1, got 0"),
        ({"maxLength": 2}, "abc", "x must have at most 2 characters, got 'abc'"),
        ({"pattern": "^[A-Z]{2}$"}, "de", "x must match ^[A-Z]{2}$, got 'de'"),
        ({"minItems": 2}, [1], "x must have at least 2 items, got [1]"),
        ({"const": "a"}, "b", "x must be 'a', got 'b'"),
        ({"properties": {"y": {}}, "additionalProperties": False}, {"z": 1}, "x.z is not a field of x"),
        ({"anyOf": [{"type": "null"}, {"type": "integer", "maximum": 3}]}, 4, "x must be null, got 4"),
        ({"items": {"$ref": "#/$defs/text"}}, ["abc"], "x.0 must have at most 2 characters, got 'abc'"),
    ],
)
def test_errors_have_a_path_and_a_requirement(part: Any, value: Any, error: str) -> None:
    assert validation_errors({"properties": {"x": part}, "$defs": DEFS}, {"x": value}) == [error]


def test_a_schema_that_refers_only_to_itself_allows_everything() -> None:
    loop = {"$ref": "#/$defs/a"}
    assert validation_errors({**loop, "$defs": {"a": loop}}, 1) == []
    assert validation_errors({**loop, "$defs": {"a": {"anyOf": [loop, loop]}}}, 1) == []


@pytest.mark.parametrize(
    ("part", "value", "error"),
    [
        (
            {"if": {"properties": {"paid": {"const": True}}}, "then": {"required": ["date"]}},
            {"paid": True},
            "x lacks date",
        ),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1}, "x lacks b, required with a"),
        ({"propertyNames": {"pattern": "^[a-z]$"}}, {"A": 1}, "x: each field name must match ^[a-z]$, got 'A'"),
        ({"patternProperties": {"^n": {"type": "integer"}}}, {"n1": "a"}, "x.n1 must be an integer, got 'a'"),
        (
            {"patternProperties": {"^n": {}}, "additionalProperties": False},
            {"n1": 1, "m": 2, "a": 3},
            "x.m is not a field of x; x.a is not a field of x",
        ),
        (
            {"allOf": [{"properties": {"a": {}}}], "unevaluatedProperties": False},
            {"a": 1, "b": 2},
            "x.b is not a field of x",
        ),
        ({"contains": {"const": 1}}, [2], "x must contain an item of the required kind, got [2]"),
        ({"prefixItems": [{}], "items": False}, [1, 2], "x: Expected at most 1 item but found 1 extra: 2"),
        ({"enum": ["a", "b"], "type": "string"}, 1, "x must be a string, got 1"),
        ({"required": ["a", "b", "c"]}, {"b": 1}, "x lacks a, c"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 1, "x must fit exactly one of the choices, got 1"),
        ({"not": {"type": "null"}}, None, "x must not fit the excluded schema, got None"),
        ({"uniqueItems": True}, [{"a": 1}, {"a": 1.0}], "x must not repeat an item, got [{'a': 1}, {'a': 1.0}]"),
        ({"multipleOf": 0.01}, 0.005, "x must be a multiple of 0.01, got 0.005"),
        (False, 1, "x must be absent, got 1"),
    ],
)
def test_errors_of_other_keywords(part: Any, value: Any, error: str) -> None:
    assert "; ".join(validation_errors({"properties": {"x": part}}, {"x": value})) == error


def test_numbers_are_multiples_by_their_digits() -> None:
    """A price of 19.99 is whole cents, which the quotient of the floats is not."""
    assert validation_errors({"multipleOf": 0.01}, 19.99) == []
    assert validation_errors({"multipleOf": 0.5}, 1e308) == []
    assert validation_errors({"multipleOf": 0.01}, float("inf")) != []


@pytest.mark.parametrize("items", [[True, 1], [[1], [True]], [{"a": 0}, {"a": False}], ["1", 1], [None, False]])
def test_items_that_differ_in_json_are_not_the_same(items: list[Any]) -> None:
    assert validation_errors({"uniqueItems": True}, items) == []


def test_the_draft_that_a_schema_names_is_its_own() -> None:
    schema = {"$schema": "http://json-schema.org/draft-04/schema#", "maximum": 3, "exclusiveMaximum": True}
    assert validation_errors(schema, 3) == ["it must be less than 3, got 3"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "text"}, r"at type, 'text' is not valid"),
        ({"properties": {"n": {"minimum": "1"}}}, r"at properties\.n\.minimum, '1' is not of type 'number'"),
        ({"pattern": "(?<n>a"}, r"got '\(\?<n>a': .*unclosed group"),
        ({"patternProperties": {r"(a)\1": {}}}, "backreferences are not supported"),
        ({"properties": {"a": {"pattern": "b(?<!a)c"}}}, "look-around"),
        ({"$ref": "#/$defs/none"}, r"\$ref must lead to a part of the schema itself, got '#/\$defs/none'"),
        ({"items": {"$ref": "https://example.com/a.json"}}, r"got 'https://example\.com/a\.json'\. Nothing is fetched"),
    ],
)
def test_an_invalid_schema_is_rejected(schema: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_validator(schema)


def test_an_invalid_schema_is_rejected_before_anything_is_sent(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": "2"}}}
    with served(generator=Grows()) as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.raises(InputError, match=r"at properties\.n\.minimum"):
            pd.DataFrame({"t": ["one"]}).skytells.complete("{t}", schema=schema, progress=False)
        assert not server.stats.records


def nested(levels: int) -> Any:
    whole: Any = {}
    for _ in range(levels):
        whole = {"properties": {"a": whole}}
    return whole


def deep(levels: int) -> Any:
    whole: Any = []
    for _ in range(levels):
        whole = [whole]
    return whole


DOUBLES = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
EVIL = "^([a-zA-Z0-9._-]+)+@example\\.com$"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"pattern": EVIL}, "a" * 5000),
        ({"patternProperties": {EVIL: {}}, "additionalProperties": False}, {"a" * 5000: 1}),
        ({"patternProperties": {EVIL: {}}, "unevaluatedProperties": False}, {"a" * 5000: 1}),
        ({"propertyNames": {"pattern": EVIL}}, {"a" * 5000: 1}),
        ({"properties": {"a": {"$schema": DRAFT, "pattern": EVIL}}}, {"a": "a" * 5000}),
        ({"$ref": "#/$defs/d0", "$defs": {**DOUBLES, "d40": False}}, 1),
        ({"items": {"$ref": "#"}, "type": "array"}, deep(5000)),
        ({"uniqueItems": True}, [*({"n": n} for n in range(20_000)), {"n": 0}]),
    ],
    ids=["pattern", "names", "unevaluated names", "names of fields", "draft", "references", "levels", "items"],
)
def test_validation_terminates(monkeypatch: pytest.MonkeyPatch, schema: Any, value: Any) -> None:
    """Its errors prove it, not the clock: otherwise the test would exceed its time limit."""
    monkeypatch.setattr(validation, "MAX_STEPS", 10_000)
    assert validation_errors(schema, value) != []


def test_a_schema_of_too_many_levels_is_rejected() -> None:
    with pytest.raises(InputError, match="nested too deep"):
        build_validator(nested(5000))


def test_errors_do_not_depend_on_the_process() -> None:
    """Names come in the order of the value, not in that of a set of strings."""
    code = (
        "from skytells_nb.accessor.structured.validation import validation_errors;"
        "print(validation_errors({'additionalProperties': False}, dict.fromkeys('hgfedcba')))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1


@pytest.mark.skipif(find_spec("rfc3987_syntax") is None, reason="comes with Jupyter")
def test_validation_does_not_load_the_grammar_of_iris() -> None:
    """It takes seconds to compile; afterwards, the formats that need it still work."""
    code = """
import sys
from skytells_nb.accessor.structured.validation import validation_errors
assert validation_errors({"properties": {"n": {"format": "iri", "type": "string"}}}, {"n": "no iri"}) == []
assert "jsonschema" in sys.modules and "rfc3987_syntax" not in sys.modules
import jsonschema
formats = jsonschema.FormatChecker()
print(formats.conforms("https://example.com/\u00e9", "iri"), formats.conforms("no iri", "iri"))
import rfc3987_syntax
print(rfc3987_syntax.is_valid_syntax("iri", "no iri"), rfc3987_syntax.syntax_helpers.__name__)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert printed.stdout.split() == ["True", "False", "False", "rfc3987_syntax.syntax_helpers"]


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^(?=.*[0-9])(?=.*[A-Z]).{4,}$", "abC1", True),
        ("^(?=.*[0-9])(?=.*[A-Z]).{4,}$", "abc1", False),
        ("^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", "12.50", True),
        ("^(?!^[-+.]*$)[+-]?0*\\d*\\.?\\d*$", "+.", False),
        ("^(?!a(b|c))[a-z]+$", "ad", True),
        ("^(?!a(b|[)c]))[a-z]+$", "acx", False),
        ("[[a]", "[", True),
        ("[^][a]", "[", False),
        ("[]a]b", "]b", True),
        ("[a&&b]", "&", True),
        ("a\\Z", "ba", True),
        ("a\\/b", "a/b", True),
        ("\\p{Lu}", "É", True),
        ("^a$", "a\n", False),
        ("^.$", "\ud800", True),
    ],
)
def test_patterns_match(pattern: str, text: str, found: bool) -> None:
    """As ECMA's do; look-ahead at the start as well, which pydantic writes for decimals."""
    assert compile_pattern(pattern)(text) is found


@pytest.mark.parametrize("pattern", ["^(?=a)b|c", "(?=a)a", "^(?=a)*b", "^(?=a", "^(?=(?=a)b)c"])
def test_other_look_ahead_is_rejected(pattern: str) -> None:
    with pytest.raises(InputError, match="linear time"):
        compile_pattern(pattern)


@settings(deadline=None, max_examples=300)
@given(st.text("^$()|[]ab*+?.!=:-", max_size=8), st.text("ab-[", max_size=5))
def test_patterns_find_what_python_finds(pattern: str, text: str) -> None:
    """Where both take the pattern, and Python does not warn that it will read it otherwise one day."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            wanted = re.search(pattern, text) is not None
            matches = compile_pattern(pattern)
        except (re.error, FutureWarning, InputError):
            return
    assert matches(text) is wanted


def test_examples_in_docstrings_run() -> None:
    assert doctest.testmod(validation).failed == 0
    assert doctest.testmod(patterns).failed == 0


class Grows(EchoGenerator):
    """Answers with a larger number at each attempt."""

    def stream(self, messages: Any, **settings: Any) -> Any:
        answer = f'{{"n": {sum(message["role"] == "assistant" for message in messages)}}}'
        return super().stream([{"role": "user", "content": answer}], **{**settings, "schema": None})


def test_an_answer_beyond_a_bound_is_retried(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 2}}, "required": ["n"]}
    with served(generator=Grows()) as server, connected(server, tmp_path / "c.sqlite"):
        out = pd.DataFrame({"t": ["one"]}).skytells.complete("{t}", schema=schema, flatten=True, progress=False)
    assert out["n"].tolist() == [2]
    assert out.skytells.report.requests == 3


LIMITS: list[tuple[dict[str, Any], list[Any], list[Any]]] = [
    ({"type": "integer", "minimum": 3}, [3, 4], [2]),
    ({"type": "integer", "maximum": 3}, [3, 2], [4]),
    ({"type": "number", "minimum": 0.5}, [0.5, 0.75], [0.25]),
    ({"type": "number", "maximum": 0.5}, [0.5, 0.25], [0.75]),
    ({"type": "integer", "exclusiveMinimum": 3}, [4], [3, 2]),
    ({"type": "integer", "exclusiveMaximum": 3}, [2], [3, 4]),
    ({"type": "string", "minLength": 2}, ["ab", "abc"], ["a", ""]),
    ({"type": "string", "maxLength": 2}, ["ab", "a"], ["abc"]),
    ({"type": "array", "minItems": 2}, [[1, 2], [1, 2, 3]], [[1], []]),
    ({"type": "array", "maxItems": 2}, [[1, 2], [1]], [[1, 2, 3]]),
    ({"type": "object", "minProperties": 2}, [{"a": 1, "b": 2}], [{"a": 1}]),
    ({"type": "object", "maxProperties": 2}, [{"a": 1, "b": 2}], [{"a": 1, "b": 2, "c": 3}]),
    ({"type": "integer", "multipleOf": 3}, [3, 0, -6], [4]),
]


class Repeats(EchoGenerator):
    """Repeats the first user message."""

    def stream(self, messages: Any, **settings: Any) -> Any:
        first = next(message for message in messages if message["role"] == "user")
        return super().stream([first], **{**settings, "schema": None})


@pytest.fixture(scope="module")
def repeating() -> Iterator[Any]:
    with served(generator=Repeats()) as server:
        yield server


@pytest.mark.parametrize(("part", "fitting", "beyond"), LIMITS, ids=lambda value: "-".join(map(str, value))[:40])
def test_an_answer_at_a_limit_is_taken_and_one_beyond_it_is_not(
    part: dict[str, Any], fitting: list[Any], beyond: list[Any], repeating: Any, tmp_path: Path
) -> None:
    schema = {"type": "object", "properties": {"x": part}, "required": ["x"]}
    frame = pd.DataFrame({"t": [json.dumps({"x": value}) for value in (*fitting, *beyond)]})
    with connected(repeating, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", schema=schema, repair=0, on_error="null", progress=False)
    taken = [None if pd.isna(answer) else answer["x"] for answer in out["completion"]]
    assert taken == [*fitting, *[None] * len(beyond)]
    report = out.skytells.report
    assert (report.answered, report.failed) == (len(fitting), len(beyond))
