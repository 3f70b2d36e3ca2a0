"""pydantic-ai: agents on both APIs, streamed and whole, structured output, tools, embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import BaseModel

from skytells_nb.local import LocalServer

if find_spec("pydantic_ai") is None:
    pytest.skip("pydantic-ai is not installed, so it was not tried: make test-sdks", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SETTINGS = {"max_tokens": 30, "temperature": 0.0}
PRAISE = "Review: I loved every minute of it. Five stars."


class Review(BaseModel):
    """A review of a film."""

    sentiment: str
    stars: int


@pytest.fixture
def provider(server: LocalServer, library: Callable[[str], Any]) -> Any:
    library("pydantic_ai")
    provider = library("pydantic_ai.providers.openai").OpenAIProvider
    return provider(base_url=server.base_url, api_key=server.api_key)


@pytest.fixture(params=["OpenAIChatModel", "OpenAIResponsesModel"])
def model(request: pytest.FixtureRequest, provider: Any, library: Callable[[str], Any]) -> Any:
    return getattr(library("pydantic_ai.models.openai"), request.param)("gpt-4o-mini", provider=provider)


@pytest.fixture
def agent(model: Any, library: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda **options: library("pydantic_ai").Agent(model, **options)


def test_streamed_and_whole(agent: Callable[..., Any]) -> None:
    whole = agent().run_sync("Name three colors.", model_settings=SETTINGS).output

    async def stream() -> str:
        async with agent().run_stream("Name three colors.", model_settings=SETTINGS) as result:
            return "".join([text async for text in result.stream_text(delta=True)])

    assert asyncio.run(stream()) == whole
    assert whole.strip()


@pytest.mark.parametrize("way", ["ToolOutput", "NativeOutput"])
def test_parse(agent: Callable[..., Any], library: Callable[[str], Any], way: str) -> None:
    output = getattr(library("pydantic_ai"), way)(Review)
    assert isinstance(agent(output_type=output).run_sync(PRAISE).output, Review)


def test_tools(agent: Callable[..., Any]) -> None:
    """The model calls the function, reads what it returned, and answers."""
    asked: list[str] = []

    def get_weather(city: str) -> str:
        """Get the current weather of a city."""
        asked.append(city)
        return "4 degrees, rain"

    answer = agent(tools=[get_weather]).run_sync("What is the weather like in Oslo today?", model_settings=SETTINGS)
    assert len(asked) == 1
    assert answer.output.strip()


def test_embeddings(provider: Any, library: Callable[[str], Any]) -> None:
    model = library("pydantic_ai.embeddings.openai").OpenAIEmbeddingModel("text-embedding-3-small", provider=provider)
    found = library("pydantic_ai").Embedder(model).embed_documents_sync(["a cat", "a dog"])
    assert [len(vector) for vector in found.embeddings] == [512, 512]
