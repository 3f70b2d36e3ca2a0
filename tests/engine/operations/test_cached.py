"""One completion in the cache: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skytells_nb.engine.operations.cached import CachedCompletion, is_usable

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


@pytest.mark.parametrize(
    ("completion", "is_text", "usable"),
    [
        (CachedCompletion('{"a": 1}', finish_reason="stop"), False, True),
        (CachedCompletion('{"a"', finish_reason="length"), False, False),
        (CachedCompletion("cut, but a tex", finish_reason="length"), True, True),
        (CachedCompletion("", finish_reason="length"), True, False),
        (CachedCompletion("", finish_reason="stop"), True, False),
        (CachedCompletion("withheld", finish_reason="content_filter"), True, False),
        (CachedCompletion("", blocked=True), True, False),
    ],
    ids=["finished JSON", "cut JSON", "cut text", "only reasoning", "empty", "withheld", "blocked"],
)
def test_what_is_asked_again_is_what_did_not_answer(completion: CachedCompletion, is_text: bool, usable: bool) -> None:
    """``retry="failed"`` pays for no answer that is finished."""
    assert is_usable(completion.to_bytes(), is_text=is_text) is usable
