"""One completion in the cache: what is written is what is read."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from skytells_nb.engine.operations.cached import CachedCompletion

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT, st.none() | ANY_TEXT, st.integers(0, 2**40), st.booleans())
@example("half a pair: \ud800", None, 0, False)
@example("\x00 \u2028 \U0001f600", "stop", 1, True)
def test_a_completion_is_restored_as_it_was_stored(
    text: str, request_id: str | None, tokens: int, blocked: bool
) -> None:
    """Whatever a service may send as text, half surrogate pairs too."""
    finding = {"source": "completion", "index": 0, "category": text, "severity": None, "filtered": blocked}
    completion = CachedCompletion(text, request_id=request_id, tokens_in=tokens, findings=[finding], blocked=blocked)
    assert CachedCompletion.from_bytes(completion.to_bytes()) == completion
