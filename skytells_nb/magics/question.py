"""One question to a model, as each of the two APIs takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from skytells_nb.types.chat import ChatCompletion, ChatCompletionChunk, ChatMessage, Choice
from skytells_nb.types.responses import OutputItem, Response, ResponseEvent

if TYPE_CHECKING:
    from skytells_nb.client.chat import ChatStream
    from skytells_nb.client.client import Skytells
    from skytells_nb.client.responses import ResponseStream
    from skytells_nb.engine.operations.jobs import Job
    from skytells_nb.magics.chat_arguments import Effort
    from skytells_nb.magics.structured_output import JsonForm

Answer: TypeAlias = ChatCompletion | Response
Message: TypeAlias = dict[str, Any]
Kind = Literal["text", "reasoning", "reasoning paragraph", "reasoning item"]

_REASONING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellQuestion(ABC):
    """What is sent. ``earlier`` are the turns before it, ``images`` are URLs, ``form`` asks for JSON."""

    model: str
    prompt: str
    system: str | None = None
    images: tuple[str, ...] = ()
    earlier: tuple[Message, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    form: JsonForm | None = None
    stream: bool = True
    cache: bool = False

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """The user's message: its text, or its parts where there are pictures."""
        if not self.images:
            return self.prompt
        pictures = [{"type": "image_url", "image_url": {"url": url}} for url in self.images]
        return [{"type": "text", "text": self.prompt}, *pictures]

    @property
    def instructions(self) -> str | None:
        """The system message, with what the form has to say."""
        words = self.form.words if self.form is not None else ""
        return "\n\n".join(filter(None, (self.system, words))) or None

    def fits(self, answer: Answer) -> bool:
        """Whether the answer has the form that was asked for."""
        try:
            return self.form is None or self.form.read(str(answer)) is not None
        except ValueError:
            return False

    @abstractmethod
    def send(self, client: Skytells) -> Answer:
        """The whole answer."""

    @abstractmethod
    def begin(self, client: Skytells) -> ChatStream | ResponseStream:
        """The answer as a stream."""

    @abstractmethod
    def pieces(self, part: Any) -> Iterator[tuple[Kind, str]]:
        """What a part of a stream, or a whole answer, has to show."""

    @abstractmethod
    def nothing(self, reason: str) -> Answer:
        """An answer of which nothing came, for this reason."""

    def key(self) -> tuple[Job, str] | None:
        """What its answer is kept under, ``None`` where it cannot be kept."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion(CellQuestion):
    """For Chat Completions: the conversation travels with each question."""

    stop: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """What is sent beside the messages, where it was given."""
        given = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "response_format": self.form.for_chat() if self.form is not None else None,
        }
        return {name: value for name, value in given.items() if value is not None}

    def parameters(self) -> dict[str, Any]:
        """The arguments of ``client.chat.completions.create``, without ``stream``."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        messages = [*system, *self.earlier, {"role": "user", "content": self.content}]
        return {"model": self.model, "messages": messages, **self.options()}

    def send(self, client: Skytells) -> ChatCompletion:
        answer: ChatCompletion = client.chat.completions.create(**self.parameters())
        return answer

    def begin(self, client: Skytells) -> ChatStream:
        counted = {"include_usage": True}
        stream: ChatStream = client.chat.completions.create(**self.parameters(), stream=True, stream_options=counted)
        return stream

    def pieces(self, part: ChatCompletion | ChatCompletionChunk) -> Iterator[tuple[Kind, str]]:
        if part.text:
            yield "text", part.text

    def nothing(self, reason: str) -> ChatCompletion:
        return ChatCompletion(model=self.model, choices=[Choice(finish_reason=reason, message=ChatMessage(content=""))])

    def key(self) -> tuple[Job, str]:
        from skytells_nb.engine.operations.jobs import completion_job

        # Of a plain prompt the same key as df.skytells.complete has: either finds what the other paid for.
        beside = {"earlier": list(self.earlier) or None, "images": list(self.images) or None}
        return completion_job(self.model, system=self.system, params={**self.options(), **beside}), self.prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class RespondQuestion(CellQuestion):
    """For Responses: the service knows the conversation by the id of its last answer, where that was stored."""

    previous: str | None = None
    store: bool = False
    effort: Effort | None = None

    def parameters(self) -> dict[str, Any]:
        """The arguments of ``client.responses.create``, without ``stream``."""
        form = self.form.for_responses() if self.form is not None else None
        given = {
            "instructions": self.instructions,
            "previous_response_id": self.previous,
            "temperature": self.temperature,
            "max_output_tokens": self.max_tokens,
            "reasoning": {"effort": self.effort, "summary": "auto"} if self.effort else None,
            "text": {"format": form} if form else None,
        }
        sent = {name: value for name, value in given.items() if value is not None}
        # The service's default for store differs between its deployments, so it is always said.
        return {"model": self.model, "input": self._input(), "store": self.store, **sent}

    def _input(self) -> str | list[dict[str, Any]]:
        if not self.images:
            return self.prompt
        pictures = [{"type": "input_image", "image_url": url} for url in self.images]
        content = [{"type": "input_text", "text": self.prompt}, *pictures]
        return [{"type": "message", "role": "user", "content": content}]

    def send(self, client: Skytells) -> Response:
        answer: Response = client.responses.create(**self.parameters())
        return answer

    def begin(self, client: Skytells) -> ResponseStream:
        stream: ResponseStream = client.responses.create(**self.parameters(), stream=True)
        return stream

    def pieces(self, part: Response | ResponseEvent) -> Iterator[tuple[Kind, str]]:
        if isinstance(part, Response):
            for item in part.output:
                yield from _reasoning(item)
            if part.output_text:
                yield "text", part.output_text
        elif part.type in _REASONING and isinstance(part.delta, str):
            yield "reasoning", part.delta
        elif part.type in ("response.reasoning_summary_part.done", "response.reasoning_text.done"):
            yield "reasoning paragraph", ""
        elif part.type == "response.output_item.done" and part.item is not None:
            yield from _reasoning(part.item)
        elif part.text:
            yield "text", part.text

    def nothing(self, reason: str) -> Response:
        return Response(model=self.model, status="incomplete", incomplete_details={"reason": reason})


def _reasoning(item: OutputItem) -> Iterator[tuple[Kind, str]]:
    """A whole reasoning item's summary, which takes the place of its pieces."""
    if item.type == "reasoning":
        texts = [part["text"] for part in item.summary if isinstance(part.get("text"), str)]
        yield "reasoning item", "\n\n".join(texts)
