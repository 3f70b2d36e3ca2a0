"""Notes under an answer: why it ended early, and what the safety filter found."""

from __future__ import annotations

from typing import Any, TypeVar

from skytells_nb.errors import ContentPolicyError, NotFoundError, SkytellsError
from skytells_nb.magics.ask import AskOutcome
from skytells_nb.magics.question import Answer
from skytells_nb.types.responses import Response
from skytells_nb.types.safety import Safety, findings
from skytells_nb.widgets.status_text import (
    DESCRIBED_REASONS,
    NextSteps,
    covers_answer,
    describe_checks,
    describe_ending,
    describe_findings,
    next_step,
    partial_text_note,
)

_USAGE_FIELDS = {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens"}
_JSON_MODE_NOTES = {
    "object": "The model does not accept a JSON schema; any JSON object was requested.",
    "words": "The model does not accept a JSON format; the prompt asked for JSON.",
}


def notes(outcome: AskOutcome, *, always_safety: bool = False, schema: bool = False) -> tuple[str, ...]:
    """Return the notes under an answer: why it ended early, what the safety filter found.

    Nothing says whether the answer came from the cache: a notebook that runs again is saved as it was.
    ``always_safety`` shows the safety result even if everything is safe; ``schema`` is whether JSON was requested with
    a schema.
    """
    answer, error = outcome.answer, outcome.error
    if answer is None:
        findings_text = (
            describe_findings(Safety(findings(error.safety, "prompt")).flagged)
            if isinstance(error, ContentPolicyError)
            else ""
        )
        return (f"Safety: the filter blocked the prompt ({findings_text}).",) if findings_text else ()
    parts = [_ending(answer), _refusal(answer)]
    if outcome.json_mode == "words" or (schema and outcome.json_mode == "object"):
        parts.append(_JSON_MODE_NOTES[outcome.json_mode])
    parts.append(safety_note(answer.safety, error is None, always_safety, answered=bool(str(answer))))
    return tuple(part for part in parts if part)


def safety_note(safety: Safety, complete: bool = True, always: bool = False, *, answered: bool = True) -> str:
    """Return the safety result in a sentence.

    Empty if no result is expected yet, and, unless ``always``, if everything was checked and safe. ``answered`` is
    whether there is text that the result has to cover.
    """
    parts = []
    flagged = describe_findings(safety.flagged)
    if flagged:
        parts.append(flagged)
    expected = complete or always
    if any(not f.checked for f in safety.findings) or (expected and not safety.findings):
        parts.append("not checked: the filter returned no result" + (" for the rest" if flagged else ""))
    elif expected and answered and not covers_answer(safety):
        parts.append("the answer is not checked: the filter returned no result for it")
    elif always and not parts:
        parts.append(f"safe; {describe_checks(safety)}")
    return f"Safety: {'; '.join(parts)}." if parts else ""


def metadata(answer: Answer, model: str) -> dict[str, Any]:
    """Return the metadata saved with the output in the notebook: model, request id, tokens, safety."""
    safety = answer.safety
    return {
        "model": answer.model or model,
        "request_id": answer.request_id,
        "finish_reason": answer.finish_reason,
        # Only the fields that the cache stores, so that a cached answer is saved like the original.
        "usage": answer.usage.model_dump(include=_USAGE_FIELDS) if answer.usage else None,
        "safety": {
            "severity": safety.severity,
            "filtered": safety.filtered,
            "checked": safety.checked,
            "flagged": Safety(safety.flagged).records(),
        },
    }


def _ending(answer: Answer) -> str:
    text, reason = bool(str(answer)), answer.finish_reason
    description = describe_ending(reason, text=text, tokens=answer.tokens[1] if answer.usage else None)
    match reason:
        case "length":
            return f"{description}: raise --max-tokens{', or ask for a shorter answer' if text else ''}."
        case "tool_calls":
            where = "output" if isinstance(answer, Response) else "choices[0].message.tool_calls"
            return f"{description}: see _sky.{where}."
        case str() if (
            isinstance(answer, Response) and answer.status == "incomplete" and reason not in DESCRIBED_REASONS
        ):
            return f"incomplete: the service ended this answer early ({reason}); {partial_text_note(text)}"
    return description


def _refusal(answer: Answer) -> str:
    """Return the text of a model's refusal, which is a field beside the answer's text."""
    if isinstance(answer, Response):
        parts = [part.refusal for item in answer.output for part in item.content if part.refusal]
    else:
        parts = [choice.message.refusal for choice in answer.choices[:1] if choice.message.refusal]
    return f"The model refused to answer: {' '.join(parts)}" if parts else ""


CELL = NextSteps(
    retry="run the cell again",
    connect="Set SKYTELLS_API_KEY to a valid key, then %skytells connect.",
    another_model="%skytells models lists the models; choose one with -m.",
    shorten="Shorten the prompt, send less of a table, or start another conversation.",
)

E = TypeVar("E", bound=SkytellsError)


def add_advice(error: E) -> E:
    """Add a note to the error that says what to do next, if there is such advice, and return the error."""
    line = _advice(error)
    if line and line not in getattr(error, "__notes__", ()):
        error.add_note(line)
    return error


def _advice(error: SkytellsError) -> str:
    if isinstance(error, NotFoundError) and error.code == "previous_response_not_found":
        return "The service no longer has this conversation: %skytells conversations reset NAME starts it over."
    return next_step(error, CELL)
