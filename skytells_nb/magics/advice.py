"""What to do next after a failed cell, where the error's own message does not say."""

from __future__ import annotations

from typing import TypeVar

from skytells_nb.errors import NotFoundError, SkytellsError
from skytells_nb.widgets.endings import Steps, next_step

CELL = Steps(
    again="run the cell again",
    connect="Set SKYTELLS_API_KEY to a valid key, then %skytells connect.",
    another_model="%skytells models lists the models; choose one with -m.",
    shorten="Shorten the prompt, send less of a table, or begin another conversation.",
)

E = TypeVar("E", bound=SkytellsError)


def advise(problem: E) -> E:
    """The same error, with a line that says what to do next where there is one to say."""
    line = _advice(problem)
    if line and line not in getattr(problem, "__notes__", ()):
        problem.add_note(line)
    return problem


def _advice(problem: SkytellsError) -> str:
    if isinstance(problem, NotFoundError) and problem.code == "previous_response_not_found":
        return "The service no longer has this conversation: %skytells conversations reset NAME begins it anew."
    return next_step(problem, CELL)
