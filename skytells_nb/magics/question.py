"""A question to a model, for each of the two APIs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from skytells_nb.types.chat import ChatCompletion, ChatCompletionChunk, ChatMessage, Choice
from skytells_nb.types.responses import OutputItem, Response, ResponseEvent
from skytells_nb.widgets.growing_text import field_reasoning

if TYPE_CHECKING:
    from skytells_nb.client.chat import ChatStream
    from skytells_nb.client.client import Skytells
    from skytells_nb.client.responses import ResponseStream
    from skytells_nb.engine.operations.cached import CachedCompletion
    from skytells_nb.engine.operations.jobs import Job
    from skytells_nb.magics.chat_arguments import Effort
    from skytells_nb.magics.structured_output import JsonFormat

Answer: TypeAlias = ChatCompletion | Response
Message: TypeAlias = dict[str, Any]
PartKind = Literal["text", "reasoning", "reasoning paragraph", "reasoning item"]

_REASONING = ("response.reasoning_summary_text.delta", "response.reasoning_text.delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class CellQuestion(ABC):
    """The prompt of a cell with its options, as a request to one of the two APIs.

    ``history`` are earlier turns, ``images`` are URLs, ``json_format`` requests JSON.
    """

    model: str
    prompt: str
    system: str | None = None
    images: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    json_format: JsonFormat | None = None
    stream: bool = True
    cache: bool = False

    @property
    def content(self) -> str | list[dict[str, Any]]:
        """The user's message: its text, or its content parts if there are images."""
        if not self.images:
            return self.prompt
        images = [{"type": "image_url", "image_url": {"url": url}} for url in self.images]
        return [{"type": "text", "text": self.prompt}, *images]

    @property
    def instructions(self) -> str | None:
        """The system message, with the instruction of the JSON format."""
        json_instruction = self.json_format.instruction if self.json_format is not None else ""
        return "\n\n".join(filter(None, (self.system, json_instruction))) or None

    def matches_format(self, answer: Answer) -> bool:
        """Whether the answer has the requested JSON format."""
        try:
            return self.json_format is None or self.json_format.parse(str(answer)) is not None
        except ValueError:
            return False

    @abstractmethod
    def send(self, client: Skytells) -> Answer:
        """Send the question and return the complete answer."""

    @abstractmethod
    def open_stream(self, client: Skytells) -> ChatStream | ResponseStream:
        """Send the question and return the answer as a stream."""

    @abstractmethod
    def display_parts(self, part: Any) -> Iterator[tuple[PartKind, str]]:
        """Yield what to show of a stream event or of a complete answer."""

    @abstractmethod
    def empty_answer(self, reason: str) -> Answer:
        """Return an empty answer with this finish reason."""

    @abstractmethod
    def as_job(self) -> tuple[Job, str] | None:
        """Return the job and text that the cache key is made from; ``None`` if the answer cannot be cached."""

    @abstractmethod
    def cached_answer(self, cached: CachedCompletion) -> Answer:
        """Return a cached answer as the service sends one."""

    def reasoning(self, answer: Answer) -> str:
        """Return the reasoning that stands in items of its own in an answer."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuestion(CellQuestion):
    """A request to Chat Completions, which sends the conversation with each question."""

    stop: tuple[str, ...] = ()

    def options(self) -> dict[str, Any]:
        """Return the parameters other than the messages that are set."""
        options = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stop": list(self.stop) or None,
            "response_format": self.json_format.for_chat() if self.json_format is not None else None,
        }
        return {name: value for name, value in options.items() if value is not None}

    def parameters(self) -> dict[str, Any]:
        """Return the arguments of ``client.chat.completions.create``, without ``stream``."""
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        messages = [*system, *self.history, {"role": "user", "content": self.content}]
        return {"model": self.model, "messages": messages, **self.options()}

    def send(self, client: Skytells) -> ChatCompletion:
        answer: ChatCompletion = client.chat.completions.create(**self.parameters())
        return answer

    def open_stream(self, client: Skytells) -> ChatStream:
        options = {"include_usage": True}
        stream: ChatStream = client.chat.completions.create(**self.parameters(), stream=True, stream_options=options)
        return stream

    def display_parts(self, part: ChatCompletion | ChatCompletionChunk) -> Iterator[tuple[PartKind, str]]:
        choice = next((choice for choice in part.choices if choice.index == 0), None)
        message = choice.message if isinstance(choice, Choice) else choice.delta if choice is not None else None
        if message is not None and message.model_extra and (reasoning := field_reasoning(message)):
            yield "reasoning", reasoning
        if part.text:
            yield "text", part.text

    def empty_answer(self, reason: str) -> ChatCompletion:
        return ChatCompletion(model=self.model, choices=[Choice(finish_reason=reason, message=ChatMessage(content=""))])

    def as_job(self) -> tuple[Job, str]:
        from skytells_nb.engine.operations.jobs import completion_job

        # A plain prompt has the same key as in df.skytells.complete, so that each reuses the other's answers.
        # Only for the key, never sent. Stored in caches: do not rename.
        key_params = {"earlier": list(self.history) or None, "images": list(self.images) or None}
        return completion_job(self.model, system=self.system, params={**self.options(), **key_params}), self.prompt

    def cached_answer(self, cached: CachedCompletion) -> ChatCompletion:
        return cached.to_completion()


@dataclass(frozen=True, slots=True, kw_only=True)
class RespondQuestion(CellQuestion):
    """A request to Responses, which continues a conversation from the id of its last answer, if that was stored."""

    previous: str | None = None
    store: bool = False
    effort: Effort | None = None

    def parameters(self) -> dict[str, Any]:
        """Return the arguments of ``client.responses.create``, without ``stream``."""
        text_format = self.json_format.for_responses() if self.json_format is not None else None
        options = {
            "instructions": self.instructions,
            "previous_response_id": self.previous,
            "temperature": self.temperature,
            "max_output_tokens": self.max_tokens,
            "reasoning": {"effort": self.effort, "summary": "auto"} if self.effort else None,
            "text": {"format": text_format} if text_format else None,
        }
        present = {name: value for name, value in options.items() if value is not None}
        # The default of store differs between deployments, so it is always sent.
        return {"model": self.model, "input": self._input(), "store": self.store, **present}

    def _input(self) -> str | list[dict[str, Any]]:
        if not self.images:
            return self.prompt
        images = [{"type": "input_image", "image_url": url} for url in self.images]
        content = [{"type": "input_text", "text": self.prompt}, *images]
        return [{"type": "message", "role": "user", "content": content}]

    def send(self, client: Skytells) -> Response:
        answer: Response = client.responses.create(**self.parameters())
        return answer

    def open_stream(self, client: Skytells) -> ResponseStream:
        stream: ResponseStream = client.responses.create(**self.parameters(), stream=True)
        return stream

    def display_parts(self, part: Response | ResponseEvent) -> Iterator[tuple[PartKind, str]]:
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

    def as_job(self) -> tuple[Job, str] | None:
        if self.store or self.previous:
            # It is a part of a conversation at the service.
            return None
        from skytells_nb.engine.operations.conversation import PromptOptions
        from skytells_nb.engine.operations.jobs import completion_job

        # With the names of df.skytells.complete(api="responses"), so that each reuses the other's answers.
        params = {
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "response_format": self.json_format.for_chat() if self.json_format is not None else None,
            "reasoning": {"effort": self.effort, "summary": "auto"} if self.effort else None,
            "images": list(self.images) or None,
        }
        given = {name: value for name, value in params.items() if value is not None}
        options = PromptOptions("responses")
        return completion_job(self.model, system=self.system, params=given, options=options), self.prompt

    def cached_answer(self, cached: CachedCompletion) -> Response:
        return cached.to_response()

    def reasoning(self, answer: Answer) -> str:
        items = answer.output if isinstance(answer, Response) else ()
        return "\n\n".join(text for item in items for _, text in _reasoning(item))

    def empty_answer(self, reason: str) -> Response:
        return Response(model=self.model, status="incomplete", incomplete_details={"reason": reason})


def _reasoning(item: OutputItem) -> Iterator[tuple[PartKind, str]]:
    """Yield a complete reasoning item's summary, which replaces its pieces."""
    if item.type == "reasoning":
        texts = [part["text"] for part in item.summary if isinstance(part.get("text"), str)]
        yield "reasoning item", "\n\n".join(texts)
