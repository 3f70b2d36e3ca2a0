"""The turns of a conversation, how each ended, and which are sent with the next question."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from skytells_nb.errors import InputError
from skytells_nb.formatting import format_dollars
from skytells_nb.types.safety import Safety
from skytells_nb.widgets.growing_text import split_reasoning
from skytells_nb.widgets.status_text import describe_ending

Role = Literal["user", "assistant"]

COLUMNS = (
    *("turn", "role", "text", "model", "finish_reason", "tokens_in", "tokens_out", "cost", "filtered", "severity"),
    "request_id",
)


@dataclass(frozen=True, slots=True)
class TurnError:
    """An error, for one block of the panel."""

    name: str
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation. Fields are ``None`` if they do not apply or the service did not send them.

    ``cost`` is in US dollars; ``problem`` is the error of a missing or incomplete answer. ``reasoning`` is shown, and
    never sent.
    """

    role: Role
    text: str
    model: str | None = None
    finish_reason: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost: float | None = None
    safety: Safety | None = None
    request_id: str | None = None
    problem: TurnError | None = None
    reasoning: str = ""

    @property
    def ending(self) -> str:
        """Why the answer ended early; empty if it is complete."""
        if self.role == "user" or (self.problem is not None and not self.text):
            return ""
        return describe_ending(self.finish_reason, text=bool(self.text), tokens=self.tokens_out)

    @property
    def facts(self) -> str:
        """Tokens and cost as text; empty if no usage is known."""
        if self.role == "user" or self.finish_reason is None or (self.problem is not None and self.tokens_in is None):
            return ""
        if self.tokens_in is None:
            return "tokens unknown"
        cost = format_dollars(self.cost, unknown="cost unknown")
        return f"{self.tokens_in:,} tokens in, {self.tokens_out or 0:,} out · {cost}"

    def record(self, number: int) -> dict[str, Any]:
        """Return the turn as one row, by column name."""
        safety = self.safety
        computed = {
            "turn": number,
            "filtered": safety.filtered if safety is not None else None,
            "severity": safety.severity if safety is not None else None,
        }
        return {name: computed[name] if name in computed else getattr(self, name) for name in COLUMNS}


def messages(turns: Sequence[Turn], system: str = "") -> list[dict[str, str]]:
    """Return the conversation to send. A question without any answer text is left out: it would be rejected again."""
    sent = [{"role": "system", "content": system}] if system else []
    for turn, following in itertools.zip_longest(turns, turns[1:]):
        unanswered = turn.role == "user" and following is not None and not following.text
        if turn.text and not unanswered:
            sent.append({"role": turn.role, "content": turn.text})
    return sent


def read_messages(conversation: Iterable[Mapping[str, Any]]) -> tuple[str | None, list[Turn]]:
    """Return the system text and the turns of a list of messages; raises InputError for invalid messages."""
    system, turns = None, []
    for position, message in enumerate(conversation):
        role, text = message.get("role"), message.get("content")
        if not isinstance(text, str) or role not in ("system", "user", "assistant"):
            raise InputError(
                f"messages[{position}] must have a role of system, user or assistant and a text as content."
            )
        if role == "system":
            if position:
                raise InputError(f"messages[{position}] is a system message; only the first message may be one.")
            system = text
        else:
            reasoning, text = split_reasoning(text) if role == "assistant" else ("", text)
            turns.append(Turn(cast(Role, role), text, reasoning=reasoning))
    return system, turns
