"""What is said under an answer: how it ended where that was not its own end, what the safety filter found."""

from __future__ import annotations

from typing import Any, TypeVar

from skytells_nb.errors import ContentPolicyError, NotFoundError, SkytellsError
from skytells_nb.magics.ask import Answered
from skytells_nb.magics.question import Answer
from skytells_nb.types.responses import Response
from skytells_nb.types.safety import Safety, findings
from skytells_nb.widgets.messages import (
    ENDINGS,
    NextSteps,
    ending,
    found_words,
    kept,
    looked_words,
    next_step,
    speaks_of_answer,
)

_KEPT_USAGE = {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"}
_WAYS = {
    "object": "The model takes no JSON schema here; it was asked for any JSON object.",
    "words": "The model takes no JSON form here; it was asked in words.",
}


def notes(
    outcome: Answered, *, replaying: bool = False, verdict: bool = False, schema: bool = False
) -> tuple[str, ...]:
    """What has to be said under an answer: why it ended early, what the safety filter found, that nothing was sent.

    In replay mode nothing ever is, and the cell shows what it showed when it was recorded. ``verdict`` says the verdict
    also where all is safe, ``schema`` tells that JSON was asked for by a schema.
    """
    answer, problem = outcome.answer, outcome.problem
    if answer is None:
        found = (
            found_words(Safety(findings(problem.safety, "prompt")).flagged)
            if isinstance(problem, ContentPolicyError)
            else ""
        )
        return (f"Safety: the filter blocked the prompt ({found}).",) if found else ()
    said = [_ending(answer), _refusal(answer)]
    if outcome.way == "words" or (schema and outcome.way == "object"):
        said.append(_WAYS[outcome.way])
    said.append(safety_note(answer.safety, problem is None, verdict, answered=bool(str(answer))))
    said.append("Shown from the cache; nothing was sent." if outcome.cached and not replaying else "")
    return tuple(note for note in said if note)


def safety_note(safety: Safety, complete: bool = True, always: bool = False, *, answered: bool = True) -> str:
    """The verdict in a sentence.

    Empty where no verdict was due yet, and, unless ``always``, where everything was checked and safe. ``answered`` is
    whether there is text that a verdict has to speak of.
    """
    said = []
    found = found_words(safety.flagged)
    if found:
        said.append(found)
    due = complete or always
    if any(not f.checked for f in safety.findings) or (due and not safety.findings):
        said.append("not checked: the filter gave no verdict" + (" on the rest" if found else ""))
    elif due and answered and not speaks_of_answer(safety):
        said.append("the answer is not checked: the filter gave no verdict on it")
    elif always and not said:
        said.append(f"safe; {looked_words(safety)}")
    return f"Safety: {'; '.join(said)}." if said else ""


def metadata(answer: Answer, model: str) -> dict[str, Any]:
    """What is kept with the output in the notebook: model, request id, tokens, verdict."""
    safety = answer.safety
    return {
        "model": answer.model or model,
        "request_id": answer.request_id,
        "finish_reason": answer.finish_reason,
        # What the cache keeps of it, so that an answer out of the cache is saved like the one that went in.
        "usage": answer.usage.model_dump(include=_KEPT_USAGE) if answer.usage else None,
        "safety": {
            "severity": safety.severity,
            "filtered": safety.filtered,
            "checked": safety.checked,
            "flagged": Safety(safety.flagged).records(),
        },
    }


def _ending(answer: Answer) -> str:
    text, reason = bool(str(answer)), answer.finish_reason
    said = ending(reason, text=text, tokens=answer.tokens[1] if answer.usage else None)
    match reason:
        case "length":
            return f"{said}: raise --max-tokens{', or ask for a shorter answer' if text else ''}."
        case "tool_calls":
            where = "output" if isinstance(answer, Response) else "choices[0].message.tool_calls"
            return f"{said}: see _sky.{where}."
        case str() if isinstance(answer, Response) and answer.status == "incomplete" and reason not in ENDINGS:
            return f"incomplete: the service ended this answer early ({reason}); {kept(text)}"
    return said


def _refusal(answer: Answer) -> str:
    """What a model says that will not answer; it stands beside the text, not in it."""
    if isinstance(answer, Response):
        parts = [part.refusal for item in answer.output for part in item.content if part.refusal]
    else:
        parts = [choice.message.refusal for choice in answer.choices[:1] if choice.message.refusal]
    return f"The model refuses: {' '.join(parts)}" if parts else ""


CELL = NextSteps(
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
