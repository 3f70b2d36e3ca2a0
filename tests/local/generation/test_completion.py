"""Stop sequences in a stream of pieces."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.local.generation.completion import StopFilter


def test_a_stop_filter_passes_all_text_without_a_stop_sequence() -> None:
    """The start of a stop sequence is passed on at the end of the text."""
    stop = StopFilter(["END"])
    output = [stop.feed("a E"), stop.feed("N"), stop.flush()]
    assert "".join(output) == "a EN"
    assert not stop.stopped


@given(st.text("ab", max_size=20), st.text("ab", min_size=1, max_size=3), st.lists(st.integers(0, 20), max_size=5))
def test_text_in_any_pieces_ends_at_the_first_stop_sequence(text: str, sequence: str, cuts: list[int]) -> None:
    stop = StopFilter([sequence, ""])
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    output = "".join(stop.feed(text[start:end]) for start, end in pairwise(edges)) + stop.flush()
    assert output == text.partition(sequence)[0]
    assert stop.stopped == (sequence in text)


def test_the_earliest_of_several_stop_sequences_ends_the_text() -> None:
    assert StopFilter(["b", "c"]).feed("axcxbxcxb") == "ax"
