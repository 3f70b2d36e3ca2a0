"""The checksum around each answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.cache.checksum import HEADER_BYTES, decode_record, encode_record


@given(st.binary(max_size=40), st.binary(max_size=200))
def test_an_answer_comes_out_as_it_went_in(key: bytes, answer: bytes) -> None:
    """Six bytes longer in between."""
    assert decode_record(key, encode_record(key, answer)) == answer
    assert len(encode_record(key, answer)) == len(answer) + HEADER_BYTES


@given(st.binary(max_size=100), st.data())
def test_any_changed_byte_is_noticed(answer: bytes, data: st.DataObject) -> None:
    """In the header as in the answer."""
    value = bytearray(encode_record(b"key", answer))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place] ^= data.draw(st.integers(1, 255))
    assert decode_record(b"key", bytes(value)) is None


@given(st.binary(max_size=100), st.integers(0, 100))
def test_a_cut_answer_is_noticed(answer: bytes, size: int) -> None:
    """Wherever it is cut."""
    value = encode_record(b"key", answer)
    assert decode_record(b"key", value[: min(size, len(value) - 1)]) is None


def test_an_answer_fits_under_its_own_key_only() -> None:
    """A damaged index may point at the wrong row."""
    assert decode_record(b"other", encode_record(b"key", b"answer")) is None


def test_what_is_no_blob_is_no_answer() -> None:
    """Noise in a row's header can turn its bytes into text, a number or nothing."""
    assert [decode_record(b"key", value) for value in (None, 7, "text", b"")] == [None] * 4
