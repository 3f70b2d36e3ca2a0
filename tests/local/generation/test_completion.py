"""Stop sequences in a stream of pieces."""

from __future__ import annotations

from skytells_nb.local.generation.completion import StopFilter


def test_a_stop_filter_passes_all_text_without_a_stop_sequence() -> None:
    """The start of a stop sequence is passed on at the end of the text."""
    stop = StopFilter(["END"])
    output = [stop.feed("a E"), stop.feed("N"), stop.flush()]
    assert "".join(output) == "a EN"
    assert not stop.stopped
