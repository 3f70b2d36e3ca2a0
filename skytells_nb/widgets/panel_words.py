"""What the chat panel says of its turns: the verdict, what was used, what to do after an error."""

from __future__ import annotations

from collections.abc import Iterable

from skytells_nb.engine.report import dollars
from skytells_nb.errors import APIError, ContentPolicyError
from skytells_nb.widgets.endings import CUT, Steps, next_step
from skytells_nb.widgets.panel_turn import Turn
from skytells_nb.widgets.verdict_words import found_words, speaks_of_answer

PANEL = Steps(
    again="send again",
    connect="Connect again with a valid key: sky.connect(…) in a cell, then send again.",
    another_model="Choose another model, then send again.",
    shorten="Shorten the message, or start anew with panel.clear(), then send again.",
)


def badge(turn: Turn) -> tuple[str, str]:
    """The verdict as a kind (safe, low, medium, high, filtered, unchecked) and in words; empty where none was due.

    No verdict is not a pass: an answer that was cut, or whose text the filter did not speak of, is not checked.
    """
    safety = turn.safety
    if safety is None:
        return "", ""
    where = found_words(safety.flagged, filtered=False)
    if safety.filtered:
        what = "prompt blocked" if safety.blocked and turn.problem is not None else "filtered"
        return "filtered", f"Safety: {what}{f' ({where})' if where else ''}"
    cut = turn.finish_reason in CUT
    spoken_of = not turn.text or speaks_of_answer(safety)
    checked = safety.checked and spoken_of and not cut
    if where:
        kind = next((s for s in ("high", "medium", "low") if s == safety.severity), "medium")
        return kind, f"Safety: {where}{'' if checked else '; the rest is not checked'}"
    if checked:
        return "safe", "Safety: safe"
    return "unchecked", "Safety: not checked to its end" if cut and safety.findings else "Safety: not checked"


def totals(turns: Iterable[Turn]) -> str:
    """What the conversation used, in words."""
    used = [turn for turn in turns if turn.role == "assistant" and turn.facts]
    if not used:
        return ""
    tokens_in, tokens_out = (sum(getattr(t, name) or 0 for t in used) for name in ("tokens_in", "tokens_out"))
    cost = dollars(sum(turn.cost or 0 for turn in used))
    least = "at least " if any(turn.cost is None for turn in used) else ""
    return f"{least}{tokens_in:,} tokens in, {tokens_out:,} out · {cost}"


def advice(problem: Exception) -> str:
    """What to do next, where the message itself does not say."""
    if isinstance(problem, ContentPolicyError):
        return "The safety filter blocked this prompt. It is not sent again with the next one: change it and send."
    step = next_step(problem, PANEL)
    return step or ("Change what the message names, then send again." if isinstance(problem, APIError) else "")
