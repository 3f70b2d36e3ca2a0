"""What the other side says: without keys and escape sequences, and cut."""

from __future__ import annotations

import gc
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.transport.auth import APIKey
from skytells_nb.errors import APIError, InvalidResponseError, SkytellsError, StreamError, api_error
from skytells_nb.sanitize import (
    HIDDEN,
    quoted,
    quoted_body,
    quoted_name,
    redact_keys,
    register_secret,
    strip_escapes,
)

KEY = 'sk-"quoted"/and&more-4242'


@pytest.fixture
def key() -> APIKey:
    key = APIKey(KEY)
    register_secret(key)
    return key


@pytest.mark.parametrize(
    "escape",
    [
        "\x1b]52;c;cHduZWQ=\x07",
        "\x1b]0;title\x1b\\",
        "\x1b[2J",
        "\x1b[38;5;196m",
        "\x9b31m",
        "\x9d0;title\x9c",
        "\x1bP+q\x1b\\",
        "\x1bc",
        "\x1b(0",
        "\x07",
        "\x08",
        "\x00",
        "\u202e",
    ],
)
def test_escape_sequences_are_stripped(escape: str) -> None:
    assert strip_escapes(f"be{escape}fore") == "before"
    for error in (
        api_error(400, {"error": {"message": f"a{escape}b", "code": f"c{escape}"}}),
        StreamError(f"a{escape}b"),
    ):
        assert "ab" in str(error)
        assert error.code in ("c", None)


@given(st.text())
def test_what_is_quoted_is_one_printable_line(text: str) -> None:
    line = quoted(text, 50)
    assert len(line) <= 50
    assert line.replace("\u200c", "").replace("\u200d", "").isprintable()


@pytest.mark.parametrize("write", [str, lambda key: json.dumps(key)[1:-1], lambda key: quote(key, safe="")])
def test_a_key_is_hidden_however_it_is_written(key: APIKey, write: object) -> None:
    assert callable(write)
    assert redact_keys(f"x-api-key: {write(KEY)}!") == f"x-api-key: {HIDDEN}!"


def test_a_key_with_an_escape_sequence_in_it_is_hidden(key: APIKey) -> None:
    assert KEY[4:] not in quoted(f"{KEY[:4]}\x1b[0m{KEY[4:]}")
    assert HIDDEN in quoted(f"{KEY[:4]}\x1b[0m{KEY[4:]}")


def test_a_cut_does_not_leave_a_part_of_the_key(key: APIKey) -> None:
    assert KEY[:6] not in quoted("x" * 40 + KEY, 50)


def test_every_error_hides_the_key_in_all_that_it_holds(key: APIKey) -> None:
    echoed = {"error": {"message": KEY, "code": KEY, "param": KEY, "request_id": KEY, "details": [{"x": KEY}]}}
    errors: list[SkytellsError] = [
        api_error(401, echoed),
        APIError(KEY, status=500, body=KEY, error_id=KEY, type=KEY),
        InvalidResponseError(KEY, request_id=KEY),
        StreamError(KEY, code=KEY, error_id=KEY),
        SkytellsError(f"several\nlines {KEY}"),
    ]
    for error in errors:
        assert KEY not in str(error) + str(error.args) + "".join(map(str, vars(error).values()))
        assert HIDDEN in str(error)


def test_a_key_that_is_gone_is_not_kept() -> None:
    text = "sk-this-one-is-dropped"
    held = APIKey(text)
    register_secret(held)
    assert redact_keys(text) == HIDDEN
    del held
    gc.collect()
    assert redact_keys(text) == text


def test_a_placeholder_is_left_in_words() -> None:
    placeholder = APIKey("key")
    register_secret(placeholder)
    assert quoted("a monkey") == "a monkey"


def test_long_texts_are_cut() -> None:
    error = api_error(400, {"error": {"message": "x" * 5_000_000, "request_id": "r" * 5000}})
    assert len(str(error)) < 1500
    assert len(str(error.body)) < 5000
    assert quoted_name("") is None


def test_deep_and_wide_bodies_are_cut() -> None:
    deep: object = "end"
    for _ in range(500):
        deep = [deep]
    assert "…" in str(quoted_body(deep))
    assert len(quoted_body(list(range(10_000)))) == 200
