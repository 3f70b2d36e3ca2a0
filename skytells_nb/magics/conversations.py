"""Conversations by name: the turns that a session has kept, and sends again or lets the service remember."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from skytells_nb.magics.ask import Answered
from skytells_nb.magics.chat_arguments import Api, MagicUsageError
from skytells_nb.magics.question import CellQuestion, Message
from skytells_nb.types.responses import Response

if TYPE_CHECKING:
    from skytells_nb.session import Session

WHOLE_ENDINGS = ("stop", "length")
"""Ends of answers that a conversation can go on from."""


@dataclass(slots=True)
class Conversation:
    """The turns of one name, a user's message and its answer each, and the system text of the first."""

    name: str
    api: Api
    system: str | None = None
    model: str = ""
    messages: list[Message] = field(default_factory=list)
    last_id: str | None = None
    """The answer to go on from, where the service keeps the turns."""

    @property
    def turns(self) -> int:
        return len(self.messages) // 2

    def check_system(self, given: str | None) -> None:
        """Raises MagicUsageError for a system text that is not the one of the first turn."""
        if given is not None and self.messages and given != (self.system or ""):
            raise MagicUsageError(
                f"--conversation {self.name}: the system message belongs to its first turn, and this is another one; "
                f"%skytells conversations reset {self.name} begins anew"
            )

    def can_keep(self, outcome: Answered) -> bool:
        """Whether the answer is whole, and one that can be gone on from."""
        answer = outcome.answer
        if answer is None or outcome.problem is not None:
            return False
        return answer.finish_reason in WHOLE_ENDINGS and bool(str(answer))

    def keep(self, question: CellQuestion, outcome: Answered) -> bool:
        """Add the turn, where both its halves are whole; whether it was added."""
        answer = outcome.answer
        if answer is None or not self.can_keep(outcome):
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
        """The conversation as messages of Chat Completions, the system text first."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        return json.loads(json.dumps([*first, *self.messages]))  # type: ignore[no-any-return]


_kept: WeakKeyDictionary[Session, dict[str, Conversation]] = WeakKeyDictionary()


def conversations(session: Session) -> dict[str, Conversation]:
    """The conversations of a session, by name; those without a whole turn are not among them."""
    return _kept.setdefault(session, {})


def conversation(session: Session, name: str, api: Api) -> Conversation:
    """The one of this name, new where there is none; raises MagicUsageError where it is of the other API."""
    found = conversations(session).get(name) or Conversation(name, api)
    if found.api != api:
        raise MagicUsageError(f"--conversation {name}: this one is of %%skytells_{found.api}; take another name")
    return found


def keep_turn(session: Session, talk: Conversation, question: CellQuestion, outcome: Answered) -> bool:
    """Keep the turn, and the conversation with it; whether it was whole."""
    if not talk.keep(question, outcome):
        return False
    conversations(session)[talk.name] = talk
    return True


def known(session: Session, name: str) -> Conversation:
    """The one of this name; raises MagicUsageError where there is none."""
    found = conversations(session).get(name)
    if found is None:
        names = ", ".join(conversations(session)) or "none yet"
        raise MagicUsageError(f"there is no conversation {name!r}; there are: {names}")
    return found


def write_file(talk: Conversation, path: Path, *, replace: bool = False) -> None:
    """The messages as a JSON file; raises MagicUsageError where it exists already or cannot be written."""
    try:
        with path.open("w" if replace else "x", encoding="utf-8") as file:
            json.dump(talk.export(), file, indent=2, ensure_ascii=False)
    except FileExistsError:
        raise MagicUsageError(f"{path} exists already; --force replaces it") from None
    except OSError as problem:
        raise MagicUsageError(f"{path} cannot be written: {problem.strerror}") from None
