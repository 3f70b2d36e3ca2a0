"""A conversation as a page that needs no kernel: HTML that cannot act, and text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skytells_nb.widgets.panel_turn import Turn
from skytells_nb.widgets.panel_words import badge, totals
from skytells_nb.widgets.safe_html import escape, plain, safe_html

# Without its kernel a front end shows "Loading widget..." for a panel, for ever.
_HIDE_A_LOST_PANEL = (
    "<style>.jp-OutputArea-child:has(+ .jp-OutputArea-child .{name}):not(:has(.skytells-panel))"
    "{{display: none !important}}</style>"
)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The turns as they stood. As the last line of a cell it shows itself, and is saved with the notebook."""

    title: str
    system: str
    turns: tuple[Turn, ...]
    remote_images: bool = False

    def html(self, name: str = "") -> str:
        """One ``<div>`` without scripts or styles, and without images unless the panel loads them; ``name`` is one more
        class of it.
        """
        heading = f"<p><strong>{escape(self.title)}</strong></p>"
        system = f"<p><em>System: {_lines(self.system)}</em></p>" if self.system else ""
        body = "".join(_turn_html(turn, self.remote_images) for turn in self.turns) or "<p>No turns yet.</p>"
        used = totals(self.turns)
        foot = f"<p><small>{escape(used)}</small></p>" if used else ""
        return f'<div class="skytells-chat{f" {name}" if name else ""}">{heading}{system}{body}{foot}</div>'

    @property
    def text(self) -> str:
        """The same as plain text."""
        system = [f"[System: {plain(self.system)}]"] if self.system else []
        parts = [plain(self.title), *system, *map(_turn_text, self.turns)]
        return "\n\n".join([*parts, *([] if self.turns else ["No turns yet."])])

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, Any]:
        return self.bundle()

    def bundle(self, name: str = "") -> dict[str, str]:
        """What is published: ``text/html`` and ``text/plain``. With ``name``, under a panel: the output above is hidden
        while no panel is in it.
        """
        hide = _HIDE_A_LOST_PANEL.format(name=name) if name else ""
        return {"text/html": self.html(name) + hide, "text/plain": self.text}


def speaker(turn: Turn) -> str:
    return "You" if turn.role == "user" else turn.model or "Assistant"


def notes(turn: Turn) -> list[str]:
    """What stands under a turn: how it ended, what it used, the verdict."""
    return [note for note in (turn.ending, turn.facts, badge(turn)[1]) if note]


def _turn_html(turn: Turn, remote_images: bool) -> str:
    words = _answer_html(turn, remote_images)
    if turn.role == "user" and turn.text:
        words = f"<p>{_lines(turn.text)}</p>"
    problem = turn.problem
    if problem is not None:
        said = escape(" ".join(filter(None, [problem.message, problem.advice])))
        words += f"<p><strong>{escape(problem.name)}</strong>: {said}</p>"
    under = " · ".join(map(escape, notes(turn)))
    return (
        f'<div class="skytells-said"><p><strong>{escape(speaker(turn))}</strong></p>{words}'
        f"{f'<p><small>{under}</small></p>' if under else ''}</div>"
    )


def _turn_text(turn: Turn) -> str:
    lines = [f"{plain(speaker(turn))}:", *([plain(turn.text)] if turn.text else [])]
    if turn.problem is not None:
        lines.append(plain(f"{turn.problem.name}: {turn.problem.message} {turn.problem.advice}".rstrip()))
    under = notes(turn)
    return "\n".join([*lines, *([f"[{plain(' · '.join(under))}]"] if under else [])])


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")


def _answer_html(turn: Turn, remote_images: bool) -> str:
    return safe_html(turn.text, remote_images=remote_images) if turn.role == "assistant" and turn.text else ""


def view_states(turns: Sequence[Turn], *, remote_images: bool = False) -> list[dict[str, Any]]:
    """The turns as the page's script shows them: ``html`` is the only part that it takes as HTML."""
    return [_view_state(turn, remote_images) for turn in turns]


def _view_state(turn: Turn, remote_images: bool) -> dict[str, Any]:
    kind, words = badge(turn)
    problem = turn.problem
    return {
        "role": turn.role,
        "who": plain(speaker(turn)),
        "text": turn.text,
        "html": _answer_html(turn, remote_images),
        "ending": plain(turn.ending),
        "facts": turn.facts,
        "badge": {"kind": kind, "text": plain(words)},
        "problem": None
        if problem is None
        else {"name": problem.name, "message": plain(problem.message), "advice": problem.advice},
    }
