"""What a conversation consists of: turns, how each ended, and what of them is sent with the next one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from skytells_nb.errors import InputError
from skytells_nb.formatting import format_dollars
from skytells_nb.types.safety import Safety
from skytells_nb.widgets.messages import describe_ending

Role = Literal["user", "assistant"]

COLUMNS = (
    *("turn", "role", "text", "model", "finish_reason", "tokens_in", "tokens_out", "cost", "filtered", "severity"),
    "request_id",
)


@dataclass(frozen=True, slots=True)
class TurnError:
    """What went wrong, as one readable block."""

    name: str
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One side's words. The facts are ``None`` where they do not apply or the service did not say.

    ``tokens_in`` and ``tokens_out`` are tokens, ``cost`` US dollars; ``problem`` says why an answer is missing or cut.
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

    @property
    def ending(self) -> str:
        """How the answer ended, where that was not its own end."""
        if self.role == "user" or (self.problem is not None and not self.text):
            return ""
        return describe_ending(self.finish_reason, text=bool(self.text), tokens=self.tokens_out)

    @property
    def facts(self) -> str:
        """Tokens and cost in words; empty where nothing was billed that is known of."""
        if self.role == "user" or self.finish_reason is None or (self.problem is not None and self.tokens_in is None):
            return ""
        if self.tokens_in is None:
            return "tokens unknown"
        cost = format_dollars(self.cost, unknown="cost unknown")
        return f"{self.tokens_in:,} tokens in, {self.tokens_out or 0:,} out · {cost}"

    def record(self, number: int) -> dict[str, Any]:
        """The turn as one row, by column name."""
        safety = self.safety
        found = {
            "turn": number,
            "filtered": safety.filtered if safety is not None else None,
            "severity": safety.severity if safety is not None else None,
        }
        return {name: found[name] if name in found else getattr(self, name) for name in COLUMNS}


def messages(turns: Sequence[Turn], system: str = "") -> list[dict[str, str]]:
    """The conversation as it is sent. A question that no text came for is left out: it would be refused again."""
    kept = [{"role": "system", "content": system}] if system else []
    for turn, following in itertools.zip_longest(turns, turns[1:]):
        unanswered = turn.role == "user" and following is not None and not following.text
        if turn.text and not unanswered:
            kept.append({"role": turn.role, "content": turn.text})
    return kept


def read_messages(given: Iterable[Mapping[str, Any]]) -> tuple[str | None, list[Turn]]:
    """System text and turns of a list of messages; raises InputError for what a panel cannot show."""
    system, turns = None, []
    for position, message in enumerate(given):
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
            turns.append(Turn(cast(Role, role), text))
    return system, turns
