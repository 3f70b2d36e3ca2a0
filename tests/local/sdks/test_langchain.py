"""langchain-openai: chat and responses, streamed and whole, structured output, tools, embeddings."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import BaseModel

from skytells_nb.local import LocalServer

if find_spec("langchain_openai") is None:
    pytest.skip("langchain-openai is not installed, so it was not tried: make test-sdks", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PRAISE = "Review: I loved every minute of it. Five stars."


class Review(BaseModel):
    """A review of a film."""

    sentiment: str
    stars: int


def get_weather(city: str) -> str:
    """Get the current weather of a city."""
    return f"rain in {city}"


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def model(request: pytest.FixtureRequest, server: LocalServer, library: Callable[[str], Any]) -> Any:
    """A model on either API."""
    return library("langchain_openai").ChatOpenAI(
        model="gpt-4o-mini",
        base_url=server.base_url,
        api_key=server.api_key,
        max_tokens=40,
        temperature=0,
        timeout=120,
        max_retries=0,
        use_responses_api=request.param,
    )


def test_streamed_and_whole(model: Any) -> None:
    whole = model.invoke("Name three colors.")
    pieces = [chunk.text for chunk in model.stream("Name three colors.")]
    assert "".join(map(str, pieces)) == str(whole.text)
    assert str(whole.text).strip()
    assert whole.usage_metadata["output_tokens"] > 0


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_parse(model: Any, method: str) -> None:
    assert isinstance(model.with_structured_output(Review, method=method).invoke(PRAISE), Review)


def test_tools(model: Any) -> None:
    (call,) = model.bind_tools([get_weather], tool_choice="any").invoke("Weather in Oslo?").tool_calls
    assert (call["name"], set(call["args"])) == ("get_weather", {"city"})


def test_embeddings(server: LocalServer, library: Callable[[str], Any]) -> None:
    """Texts are sent as they are: its own counting of tokens downloads a vocabulary."""
    embeddings = library("langchain_openai").OpenAIEmbeddings(
        model="text-embedding-3-small",
        base_url=server.base_url,
        api_key=server.api_key,
        check_embedding_ctx_length=False,
    )
    assert [len(vector) for vector in embeddings.embed_documents(["a cat", "a dog"])] == [512, 512]
