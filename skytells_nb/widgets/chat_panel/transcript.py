"""A conversation that needs no kernel: sanitized HTML and plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from skytells_nb.errors import APIError, ContentPolicyError
from skytells_nb.formatting import format_dollars
from skytells_nb.widgets.chat_panel.attachments import Attachment
from skytells_nb.widgets.chat_panel.turns import Turn
from skytells_nb.widgets.display import OUTPUT, disconnected_style
from skytells_nb.widgets.highlighting import FRAME_CLASS
from skytells_nb.widgets.page_layout import GROW_CLASS, MUTED_CLASS
from skytells_nb.widgets.reasoning import reasoning_html, reasoning_markdown, reasoning_text
from skytells_nb.widgets.safe_html import (
    TOC_IGNORE_CLASS,
    cover_chips,
    literal_markdown,
    lower_headings,
    safe_html,
    safe_markdown,
)
from skytells_nb.widgets.safe_text import RIGHT_TO_LEFT, literal_html, plain, preformatted
from skytells_nb.widgets.status_text import INCOMPLETE, NextSteps, covers_answer, describe_findings, next_step

SHOWN_CHARACTERS = 4_000
"""Of an attached variable a page and a transcript show this much; all of it is sent."""
_SPACES = re.compile(r"^ +|(?<= ) +", re.MULTILINE)
TITLE_LEVEL = 3
"""Of the heading of a transcript; those in answers are below it."""

PANEL = NextSteps(
    retry="send again",
    connect="Connect again with a valid key: sky.connect(…) in a cell, then send again.",
    another_model="Choose another model, then send again.",
    shorten="Shorten the message, or start over with panel.clear(), then send again.",
)


def safety_badge(turn: Turn) -> tuple[str, str]:
    """Return the safety result as a kind (safe, low, medium, high, filtered, unchecked) and as text; empty if not due.

    A missing result is not a pass: an incomplete answer, or one that the filter did not cover, is "not checked".
    """
    safety = turn.safety
    if safety is None:
        return "", ""
    flagged = describe_findings(safety.flagged, filtered=False)
    if safety.filtered:
        what = "prompt blocked" if safety.blocked and turn.problem is not None else "filtered"
        return "filtered", f"Safety: {what}{f' ({flagged})' if flagged else ''}"
    incomplete = turn.finish_reason in INCOMPLETE
    covered = not turn.text or covers_answer(safety)
    checked = safety.checked and covered and not incomplete
    if flagged:
        kind = next((s for s in ("high", "medium", "low") if s == safety.severity), "medium")
        return kind, f"Safety: {flagged}{'' if checked else '; the rest is not checked'}"
    if checked:
        return "safe", "Safety: safe"
    return "unchecked", "Safety: not checked completely" if incomplete and safety.findings else "Safety: not checked"


def describe_usage(turns: Iterable[Turn], replaced: Iterable[Turn] = ()) -> str:
    """Return the tokens and cost of the conversation as text, with those of answers that others replaced."""
    gone = [turn for turn in replaced if turn.facts]
    answers = [turn for turn in (*turns, *gone) if turn.role == "assistant" and turn.facts]
    if not answers:
        return ""
    tokens_in, tokens_out = (sum(getattr(t, name) or 0 for t in answers) for name in ("tokens_in", "tokens_out"))
    cost = format_dollars(sum(turn.cost or 0 for turn in answers))
    prefix = "at least " if any(turn.cost is None for turn in answers) else ""
    also = f", with {len(gone):,} replaced answer{'' if len(gone) == 1 else 's'}" if gone else ""
    return f"{prefix}{tokens_in:,} tokens in, {tokens_out:,} out · {cost}{also}"


def unanswered_note(turn: Turn) -> str:
    """Say why a question that was asked again has no answer, and that the earlier one stays."""
    problem = turn.problem
    why = " ".join(filter(None, [f"{problem.name}: {problem.message}", problem.advice])) if problem else turn.ending
    return f"{plain(why)} The earlier answer stays." if problem else f"{plain(why)}; the earlier answer stays."


def advice(error: Exception) -> str:
    """Return what to do next, if the message itself does not say."""
    if isinstance(error, ContentPolicyError):
        return "The safety filter blocked this prompt. It is not sent again with the next one: change it and send."
    step = next_step(error, PANEL)
    return step or ("Change what the message names, then send again." if isinstance(error, APIError) else "")


@dataclass(frozen=True, slots=True)
class Transcript:
    """The turns at one moment. As the last line of a cell it is shown and saved with the notebook."""

    title: str
    system: str
    turns: tuple[Turn, ...]
    remote_images: bool = False
    replaced: tuple[Turn, ...] = ()
    """Answers that others replaced; only their cost is shown."""

    def html(self, name: str = "") -> str:
        """Return one ``<div>`` without scripts or styles, and without images unless the panel loads them.

        ``name`` is an additional class.
        """
        heading = f'<h{TITLE_LEVEL} class="{TOC_IGNORE_CLASS}">{literal_html(self.title)}</h{TITLE_LEVEL}>'
        system = f'<p class="{MUTED_CLASS}">System: {_literal_lines(self.system)}</p>' if self.system else ""
        body = "".join(_turn_html(turn, self.remote_images) for turn in self.turns) or "<p>No turns yet.</p>"
        used = self._usage()
        foot = _small_html(used)
        return f'<div class="skytells-chat{f" {name}" if name else ""}">{heading}{system}{body}{foot}</div>'

    @property
    def text(self) -> str:
        """The same as plain text."""
        system = [f"[System: {plain(self.system)}]"] if self.system else []
        parts = [plain(self.title), *system, *map(_turn_text, self.turns)]
        return "\n\n".join([*parts, *([] if self.turns else ["No turns yet."])])

    @property
    def markdown(self) -> str:
        """The same as Markdown in which nothing acts, for exports."""
        system = [f"*System: {literal_markdown(self.system)}*"] if self.system else []
        parts = [f"**{literal_markdown(self.title)}**", *system, *map(_turn_markdown, self.turns)]
        used = self._usage()
        return "\n\n".join([*parts, *([literal_markdown(used)] if used else [])])

    def _usage(self) -> str:
        """The usage of the conversation, where no turn says the same."""
        used = describe_usage(self.turns, self.replaced)
        return f"In total: {used}" if used and all(turn.facts != used for turn in self.turns) else ""

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return self.mime_bundle()

    def mime_bundle(self, name: str = "") -> dict[str, str]:
        """Return the MIME bundle to publish: as HTML, as text and, for exports, as Markdown. With ``name`` it hides the
        output above while that has no panel.
        """
        hide = disconnected_style(f"+ {OUTPUT} .{name}", "skytells-panel") if name else ""
        return {"text/html": self.html(name) + hide, "text/plain": self.text, "text/markdown": self.markdown}


def speaker(turn: Turn) -> str:
    return "You" if turn.role == "user" else turn.model or "Assistant"


def notes(turn: Turn) -> list[str]:
    """Return the notes under a turn: its usage, its safety result."""
    return [note for note in (turn.facts, safety_badge(turn)[1]) if note]


def _turn_html(turn: Turn, remote_images: bool) -> str:
    who = f"<div><strong>{literal_html(speaker(turn))}</strong></div>"
    if turn.role == "user":
        direction = ' dir="auto"' if RIGHT_TO_LEFT.search(turn.text) else ""
        words = f"<div{direction}>{_literal_lines(turn.text)}</div>" if turn.text else ""
        attached = "".join(map(_attachment_html, turn.attachments))
        # The ground of code, at the right and as wide as the words; where that has no style, the empty paragraph is a
        # space before the answer.
        bubble = f'<div class="{FRAME_CLASS}" dir="ltr">{who}{words}{attached}</div>'
        content = f'<div class="{GROW_CLASS}" dir="rtl">{bubble}</div><p></p>'
    else:
        content = who + lower_headings(cover_chips(_answer_html(turn, remote_images)), TITLE_LEVEL + 1)
    problem = turn.problem
    if problem is not None:
        message = literal_html(" ".join(filter(None, [problem.message, problem.advice])))
        content += f"<p><strong>{literal_html(problem.name)}</strong>: {message}</p>"
    ending = f"<p><em>{literal_html(turn.ending)}</em></p>" if turn.ending else ""
    return f'<div class="skytells-message">{content}{ending}{_small_html(" · ".join(notes(turn)))}</div>'


def _small_html(text: str) -> str:
    return f'<p class="{MUTED_CLASS}"><small>{literal_html(text)}</small></p>' if text else ""


def _attachment_html(attachment: Attachment) -> str:
    label = literal_html(f"Attached: {attachment.label}")
    if attachment.is_image:
        return f"<p><small>{label}</small></p>"
    return f"<details><summary>{label}</summary>{preformatted(shown_content(attachment))}</details>"


def shown_content(attachment: Attachment) -> str:
    """The text of an attached variable, as far as a page shows it."""
    text = attachment.content
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS].rstrip()}\n… {len(text):,} characters"


def _attached_lines(turn: Turn) -> list[str]:
    return [f"[Attached: {attachment.label}]" for attachment in turn.attachments]


def _turn_text(turn: Turn) -> str:
    reasoning = [reasoning_text(turn.reasoning) + "\n"] if turn.reasoning else []
    attached = map(plain, _attached_lines(turn))
    lines = [f"{plain(speaker(turn))}:", *reasoning, *([plain(turn.text)] if turn.text else []), *attached]
    if turn.problem is not None:
        lines.append(plain(f"{turn.problem.name}: {turn.problem.message} {turn.problem.advice}".rstrip()))
    footer = filter(None, [turn.ending, " · ".join(notes(turn))])
    return "\n".join([*lines, *(f"[{plain(line)}]" for line in footer)])


def _turn_markdown(turn: Turn) -> str:
    answer = safe_markdown(turn.text) if turn.role == "assistant" else literal_markdown(turn.text)
    reasoning = reasoning_markdown(turn.reasoning) if turn.reasoning else ""
    problem = turn.problem
    error = f"{problem.name}: {problem.message} {problem.advice}".rstrip() if problem is not None else ""
    attached = literal_markdown("\n".join(_attached_lines(turn)))
    ending = f"*{literal_markdown(turn.ending)}*" if turn.ending else ""
    parts = [f"**{literal_markdown(speaker(turn))}**", reasoning, answer, attached, literal_markdown(error), ending]
    return "\n\n".join(part for part in [*parts, literal_markdown(" · ".join(notes(turn)))] if part)


def _literal_lines(text: str) -> str:
    """Return the text with its lines and its indents, which a page leaves out."""
    spaced = _SPACES.sub(lambda found: "\xa0" * len(found.group()), text.expandtabs(4))
    return literal_html(spaced).replace("\n", "<br>")


def _answer_html(turn: Turn, remote_images: bool) -> str:
    if turn.role == "user":
        return ""
    reasoning = reasoning_html(turn.reasoning) if turn.reasoning else ""
    return reasoning + (safe_html(turn.text, remote_images=remote_images) if turn.text else "")


def turns_for_page(turns: Sequence[Turn], *, remote_images: bool = False) -> list[dict[str, Any]]:
    """Return the turns for the page's script; ``html`` is the only field that it sets as HTML."""
    return [_turn_for_page(turn, remote_images) for turn in turns]


def _turn_for_page(turn: Turn, remote_images: bool) -> dict[str, Any]:
    kind, label = safety_badge(turn)
    problem = turn.problem
    return {
        "role": turn.role,
        "who": plain(speaker(turn)),
        "text": turn.text,
        "html": _answer_html(turn, remote_images),
        "attachments": [
            {"label": plain(a.label), "text": "" if a.is_image else plain(shown_content(a))} for a in turn.attachments
        ],
        "ending": plain(turn.ending),
        "facts": turn.facts,
        "badge": {"kind": kind, "text": plain(label)},
        "problem": None
        if problem is None
        else {"name": problem.name, "message": plain(problem.message), "advice": problem.advice},
    }
