"""The turns of a conversation, how each ended, and which are sent with the next question."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from skytells_nb.errors import InputError
from skytells_nb.formatting import format_dollars
from skytells_nb.types.safety import Safety
from skytells_nb.widgets.chat_panel.attachments import Attachment, image_of_part
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
    attachments: tuple[Attachment, ...] = ()

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """What is sent: the text with attached variables below it, and images as parts of their own."""
        text = "\n\n".join([self.text, *(a.prompt for a in self.attachments if not a.is_image)])
        images = [{"type": "image_url", "image_url": {"url": a.content}} for a in self.attachments if a.is_image]
        return [{"type": "text", "text": text}, *images] if images else text

    @property
    def ending(self) -> str:
        """Why the answer ended early; empty if it is complete."""
        if self.role == "user" or (self.problem is not None and not self.text):
            return ""
        ending = describe_ending(self.finish_reason, text=bool(self.text), tokens=self.tokens_out)
        return f"{ending}: ask the model to go on." if self.finish_reason == "length" and self.text else ending

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


def messages(turns: Sequence[Turn], system: str = "") -> list[dict[str, Any]]:
    """Return the conversation to send. A question without any answer text is left out: it would be rejected again."""
    sent: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for turn, following in itertools.zip_longest(turns, turns[1:]):
        unanswered = turn.role == "user" and following is not None and not following.text
        if turn.text and not unanswered:
            sent.append({"role": turn.role, "content": turn.content})
    return sent


def read_messages(conversation: Iterable[Mapping[str, Any]]) -> tuple[str | None, list[Turn]]:
    """Return the system text and the turns of a list of messages; raises InputError for invalid messages."""
    system, turns = None, []
    for position, message in enumerate(conversation):
        role, text = message.get("role"), message.get("content")
        text, images = _with_images(text) if role == "user" else (text, ())
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
            turns.append(Turn(cast(Role, role), text, reasoning=reasoning, attachments=images))
    return system, turns


def _with_images(content: Any) -> tuple[Any, tuple[Attachment, ...]]:
    """Return the text and the images of a content that ``Turn.content`` made; anything else unchanged."""
    if not isinstance(content, list) or len(content) < 2 or not all(isinstance(part, Mapping) for part in content):
        return content, ()
    images = [image_of_part(part, number) for number, part in enumerate(content[1:], 1)]
    if content[0].get("type") != "text" or None in images:
        return content, ()
    return content[0].get("text"), tuple(image for image in images if image is not None)
