"""What a failed cell says to do next."""

from __future__ import annotations

import pytest

from skytells_nb.errors import InvalidResponseError, SkytellsError, StreamError, api_error
from skytells_nb.magics.messages import add_advice


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (api_error(401, {}), "Set SKYTELLS_API_KEY"),
        (api_error(402, {}), "Add credit"),
        (api_error(404, {"error": {"code": "model_not_found"}}), "%skytells models"),
        (api_error(400, {"error": {"code": "context_length_exceeded"}}), "Shorten the prompt"),
        (api_error(451, {}), "the same prompt would be blocked again"),
        (api_error(429, {}, retry_after=12), "Wait 12 s"),
        (api_error(429, {}), "Wait a moment"),
        (api_error(503, {}), "it may succeed"),
        (StreamError("broken"), "it may succeed"),
    ],
)
def test_an_error_comes_with_the_next_step(problem: SkytellsError, said: str) -> None:
    """Below the message, as one line, and once however often it is raised."""
    lines = add_advice(add_advice(problem))._render_traceback_()
    assert len(lines) == 2
    assert said in lines[1]


def test_an_error_that_says_it_itself_gets_nothing_more() -> None:
    """Advice where there is none to give would be noise."""
    assert len(add_advice(InvalidResponseError("The answer is not a City."))._render_traceback_()) == 1
