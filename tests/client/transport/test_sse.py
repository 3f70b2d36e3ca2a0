"""Server-sent events: however the network cuts the bytes, the same events come out."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.client.transport.sse import EventDecoder, ServerSentEvent

END = st.sampled_from(["\n", "\r\n", "\r"])
WORD = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
LINE = st.one_of(
    WORD.map(lambda w: f"data: {w}"),
    WORD.map(lambda w: f"data:{w}"),
    WORD.map(lambda w: f": {w}"),
    WORD.map(lambda w: f"event: {w}"),
    WORD.map(lambda w: f"id: {w}"),
    st.sampled_from(["", "", "data", "retry: 5"]),
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of any lines, each with any of the three line ends."""
    lines = draw(st.lists(st.tuples(LINE, END), max_size=12))
    text = "".join(line + end for line, end in lines)
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


def decode(*pieces: bytes) -> list[ServerSentEvent]:
    decoder = EventDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


def data(*pieces: bytes) -> list[str]:
    return [event.data for event in decode(*pieces)]


@given(streams(), st.data())
def test_any_cutting_gives_the_same_events(stream: bytes, choose: st.DataObject) -> None:
    cuts = sorted(choose.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(edges)]
    assert decode(*pieces) == decode(stream)


@given(streams())
def test_one_byte_at_a_time_gives_the_same_events(stream: bytes) -> None:
    assert decode(*(stream[i : i + 1] for i in range(len(stream)))) == decode(stream)


@given(st.lists(st.dictionaries(WORD, WORD, max_size=3), max_size=5), END)
def test_json_comes_out_as_it_went_in(bodies: list[dict[str, str]], end: str) -> None:
    stream = "".join(f"data: {json.dumps(b, ensure_ascii=False)}{end}{end}" for b in bodies).encode()
    assert [json.loads(text) for text in data(stream)] == bodies


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_the_three_line_ends(end: bytes) -> None:
    assert data(b"data: a" + end + end + b"data: b" + end + end) == ["a", "b"]


def test_cr_and_lf_in_two_pieces_are_one_line_end() -> None:
    assert data(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == ["a\nb"]


def test_a_cr_ends_an_event_without_waiting_for_more() -> None:
    assert EventDecoder().feed(b"data: a\r\r") == [ServerSentEvent("a")]


def test_a_byte_order_mark_is_passed_over_also_in_pieces() -> None:
    assert data(b"\xef", b"\xbb", b"\xbfdata: a\n\n") == ["a"]


def test_comments_are_passed_over() -> None:
    assert data(b": keepalive\n\ndata: a\n: more\n\n") == ["a"]


def test_data_needs_no_space_and_loses_only_one() -> None:
    assert data(b"data:a\n\ndata:  b\n\n") == ["a", " b"]


def test_lines_of_data_are_joined() -> None:
    assert data(b"data: a\ndata\ndata: b\n\n") == ["a\n\nb"]


def test_json_objects_without_a_blank_line_between_them_are_events_of_their_own() -> None:
    assert data(b'data: {"a": 1}\ndata: {"b": 2}\n\ndata: [DONE]\n\n') == ['{"a": 1}', '{"b": 2}', "[DONE]"]
    assert data(b'data: {"a": 1}\ndata: {"b":\ndata: 2}\ndata: [DONE]\n') == ['{"a": 1}', '{"b":\n2}', "[DONE]"]
    # One object over several lines stays one.
    whole = b'data: {"a": [\ndata: {"b": 1},\ndata: {"c": 2}\ndata: ]}\n\n'
    assert [json.loads(text) for text in data(whole)] == [{"a": [{"b": 1}, {"c": 2}]}]


def test_a_name_belongs_to_its_event_only() -> None:
    assert decode(b"event: first\ndata: a\n\ndata: b\n\n") == [ServerSentEvent("a", "first"), ServerSentEvent("b")]


def test_a_name_without_data_is_no_event() -> None:
    assert decode(b"event: ping\n\ndata: a\n\n") == [ServerSentEvent("a")]


def test_a_character_cut_in_two_comes_out_whole() -> None:
    stream = "data: Größe 🙂\n\n".encode()
    for cut in range(len(stream)):
        assert data(stream[:cut], stream[cut:]) == ["Größe 🙂"]


def test_bytes_that_are_no_text_do_not_end_the_stream() -> None:
    assert data(b"data: \xff\n\ndata: b\n\n") == ["�", "b"]


@pytest.mark.parametrize("stream", [b"data: a\n\ndata: b\n", b"data: a\n\ndata: b"])
def test_the_last_event_may_lack_its_blank_line_and_says_so(stream: bytes) -> None:
    assert decode(stream) == [ServerSentEvent("a"), ServerSentEvent("b", complete=False)]


def test_an_empty_stream_has_no_events() -> None:
    assert decode() == decode(b"") == decode(b"\xef\xbb\xbf") == decode(b"\n\n\n") == []


def test_a_long_event_in_many_pieces_comes_out_whole() -> None:
    text = "x" * 2_000_000
    stream = f"data: {text}\n\n".encode()
    assert data(*(stream[i : i + 1000] for i in range(0, len(stream), 1000))) == [text]


def test_of_lines_that_are_none_of_a_stream_the_beginning_is_kept() -> None:
    """However many and however long they are."""
    decoder = EventDecoder()
    for _ in range(100):
        decoder.feed(b"<p>" + b"x" * 5000 + b"\n" + b"<br>\n" * 100)
    assert decoder.other_lines.startswith(b"<p>xxx")
    assert len(decoder.other_lines) <= 2 * 4096
