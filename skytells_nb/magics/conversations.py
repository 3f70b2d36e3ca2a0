"""Conversations by name: turns that a session stores and sends again, or that the service stores."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from skytells_nb.magics.ask import AskOutcome
from skytells_nb.magics.chat_arguments import Api, MagicUsageError
from skytells_nb.magics.question import CellQuestion, Message
from skytells_nb.types.responses import Response

if TYPE_CHECKING:
    from skytells_nb.session import Session

COMPLETE_FINISH_REASONS = ("stop", "length")
"""Finish reasons of answers that a conversation can continue from."""


@dataclass(slots=True)
class Conversation:
    """A named conversation: turns of a user's message and its answer, and the system text of the first turn."""

    name: str
    api: Api
    system: str | None = None
    model: str = ""
    messages: list[Message] = field(default_factory=list)
    last_id: str | None = None
    """The id of the answer to continue from, if the service stores the turns."""

    @property
    def turns(self) -> int:
        return len(self.messages) // 2

    def check_system(self, system: str | None) -> None:
        """Raise MagicUsageError for a system text that differs from that of the first turn."""
        if system is not None and self.messages and system != (self.system or ""):
            raise MagicUsageError(
                f"--conversation {self.name}: the system message must be that of the first turn; "
                f"%skytells conversations reset {self.name} starts over"
            )

    def is_complete(self, outcome: AskOutcome) -> bool:
        """Whether the answer is complete, so that the conversation can continue from it."""
        answer = outcome.answer
        if answer is None or outcome.error is not None:
            return False
        return answer.finish_reason in COMPLETE_FINISH_REASONS and bool(str(answer))

    def add_turn(self, question: CellQuestion, outcome: AskOutcome) -> bool:
        """Add the turn if its answer is complete; return whether it was added."""
        answer = outcome.answer
        if answer is None or not self.is_complete(outcome):
            return False
        if not self.messages:
            self.system = question.system
        self.model = question.model
        self.last_id = answer.id if isinstance(answer, Response) else None
        self.messages += [
            {"role": "user", "content": question.content},
            {"role": "assistant", "content": str(answer)},
        ]
        return True

    def export(self) -> list[Message]:
        """Return the conversation as messages of Chat Completions, the system text first."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return json.loads(json.dumps([*system, *self.messages]))  # type: ignore[no-any-return]


_by_session: WeakKeyDictionary[Session, dict[str, Conversation]] = WeakKeyDictionary()


def conversations(session: Session) -> dict[str, Conversation]:
    """Return the conversations of a session by name; those without a complete turn are left out."""
    return _by_session.setdefault(session, {})


def get_or_create(session: Session, name: str, api: Api) -> Conversation:
    """Return the conversation of this name, or a new one; raises MagicUsageError if it belongs to the other API."""
    conversation = conversations(session).get(name) or Conversation(name, api)
    if conversation.api != api:
        raise MagicUsageError(
            f"--conversation {name}: it belongs to %%skytells_{conversation.api}; choose another name"
        )
    return conversation


def store_turn(session: Session, conversation: Conversation, question: CellQuestion, outcome: AskOutcome) -> bool:
    """Store the turn and its conversation if the answer is complete; return whether it was."""
    if not conversation.add_turn(question, outcome):
        return False
    conversations(session)[conversation.name] = conversation
    return True


def find_conversation(session: Session, name: str) -> Conversation:
    """Return the conversation of this name; raises MagicUsageError if there is none."""
    conversation = conversations(session).get(name)
    if conversation is None:
        names = ", ".join(conversations(session)) or "none"
        raise MagicUsageError(f"there is no conversation {name!r}; existing conversations: {names}")
    return conversation


def write_file(conversation: Conversation, path: Path, *, replace: bool = False) -> None:
    """Write the messages to a JSON file; raises MagicUsageError if it exists or cannot be written."""
    try:
        with path.open("w" if replace else "x", encoding="utf-8") as file:
            json.dump(conversation.export(), file, indent=2, ensure_ascii=False)
    except FileExistsError:
        raise MagicUsageError(f"{path} exists; add --force to replace it") from None
    except OSError as error:
        raise MagicUsageError(f"{path} cannot be written: {error.strerror}") from None
