"""The head of an answer, byte by byte: what is one, what is none, and where the body behind it ends."""

from __future__ import annotations

import http.client
import io
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.transport.http_response import ResponseHead, read_head

NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=20)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\x85\xa0"), max_size=30)
FIELDS = st.dictionaries(NAMES.map(str.lower), VALUES, max_size=20)


def stream(*lines: str, body: bytes = b"") -> io.BufferedReader:
    head = "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")
    return io.BufferedReader(io.BytesIO(head + body))  # type: ignore[arg-type]


def head(*fields: str, status: str = "HTTP/1.1 200 OK") -> ResponseHead:
    return read_head(stream(status, *fields))


@given(FIELDS, st.sampled_from([": ", ":", ":\t  "]))
def test_fields_are_those_that_the_standard_library_reads(fields: dict[str, str], colon: str) -> None:
    lines = [f"{name.title()}{colon}{value}" for name, value in fields.items()]
    read = stream("HTTP/1.1 200 OK", *lines, body=b"rest")
    found = read_head(read)
    message = http.client.parse_headers(stream(*lines))
    assert found.fields == {name.lower(): value for name, value in message.items()} == fields
    assert read.read() == b"rest"


@given(st.binary(max_size=200))
def test_no_bytes_break_it(noise: bytes) -> None:
    """They are a head, or an error that says they are none."""
    for start in (b"", b"HTTP/1.1 200 OK\r\n"):
        try:
            found = read_head(io.BufferedReader(io.BytesIO(start + noise + b"\r\n\r\n")))  # type: ignore[arg-type]
        except http.client.HTTPException:
            continue
        assert 100 <= found.status <= 999


@pytest.mark.parametrize(
    "status",
    ["", "HTTP", "HTTP/2 200", "HTTP/2.0 200 OK", "HTTP/1. 200", "HTTP/1.1 20", "HTTP/1.1 2000 OK", "HTTP/1.1 099 Low"],
)
def test_a_status_line_of_another_version_or_code_is_none(status: str) -> None:
    with pytest.raises(http.client.BadStatusLine):
        head(status=status)


@pytest.mark.parametrize("status", ["HTTP/1.1 abc OK", "HTTP/1.1", "http/1.1 200 OK", "HTTP/1.1 ²00 OK", "{}"])
def test_what_is_no_status_line(status: str) -> None:
    with pytest.raises(http.client.BadStatusLine):
        head(status=status)


@pytest.mark.parametrize("status", ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.0 200 OK", "HTTP/1.1 200 Über gut"])
def test_a_reason_may_be_anything(status: str) -> None:
    assert head(status=status).status == 200


@pytest.mark.parametrize("field", ["no colon", ": no name", "two words: x", "name : x", "\x00: x"])
def test_a_field_that_is_none(field: str) -> None:
    with pytest.raises(http.client.HTTPException, match="not valid HTTP"):
        head("a: b", field)


def test_a_line_goes_on_where_the_next_is_indented() -> None:
    assert head("a: one", "  two", "b: c").fields == {"a": "one two", "b": "c"}


def test_several_fields_of_one_name_are_a_list() -> None:
    assert head("Via: a", "via: b").fields == {"via": "a, b"}


@pytest.mark.parametrize("name", ["content-length", "transfer-encoding"])
def test_two_ends_of_one_body_are_no_answer(name: str) -> None:
    assert head(f"{name}: 2", f"{name}: 2").fields == {name: "2"}
    with pytest.raises(http.client.HTTPException, match=name):
        head(f"{name}: 2", f"{name}: 3")


def test_a_head_without_end_is_given_up() -> None:
    with pytest.raises(http.client.LineTooLong):
        head(f"a: {'x' * 70_000}")
    with pytest.raises(http.client.HTTPException, match="100"):
        head(*(f"a{n}: b" for n in range(101)))
    assert len(head(*(f"a{n}: b" for n in range(100))).fields) == 100


@pytest.mark.parametrize(
    ("status", "fields", "length", "closes"),
    [
        ("HTTP/1.1 200 OK", ["content-length: 5"], 5, False),
        ("HTTP/1.1 200 OK", ["content-length: 5", "connection: Close"], 5, True),
        ("HTTP/1.0 200 OK", ["content-length: 5"], 5, True),
        ("HTTP/1.0 200 OK", ["content-length: 5", "connection: keep-alive"], 5, False),
        ("HTTP/1.1 200 OK", [], None, True),
        ("HTTP/1.1 200 OK", ["content-length: -5"], None, True),
        ("HTTP/1.1 200 OK", ["content-length: five"], None, True),
        ("HTTP/1.1 200 OK", ["content-length: 5", "transfer-encoding: Chunked"], None, False),
        ("HTTP/1.1 204 No Content", [], 0, False),
        ("HTTP/1.1 304 Not Modified", ["content-length: 5"], 0, False),
    ],
)
def test_where_the_body_ends(status: str, fields: list[str], length: int | None, closes: bool) -> None:
    found = head(*fields, status=status)
    assert (found.length, found.connection_close) == (length, closes)
