"""instructor: objects by tools and by schemas, of both APIs, whole and as they grow."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
from pydantic import BaseModel

from skytells_nb.local import LocalServer

if find_spec("instructor") is None:
    pytest.skip("instructor is not installed, so it was not tried: make test-sdks", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PRAISE = [{"role": "user", "content": "Review: I loved every minute of it. Five stars."}]


class Review(BaseModel):
    """A review of a film."""

    sentiment: str
    stars: int


@pytest.fixture
def connect(server: LocalServer, library: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a client that gets objects in this way."""
    instructor = library("instructor")
    client = library("openai").OpenAI(base_url=server.base_url, api_key=server.api_key, max_retries=0, timeout=120)
    return lambda mode: instructor.from_openai(client, mode=instructor.Mode[mode])


@pytest.mark.parametrize("mode", ["TOOLS", "TOOLS_STRICT", "JSON_SCHEMA", "RESPONSES_TOOLS"])
def test_parse(connect: Callable[[str], Any], mode: str) -> None:
    found = connect(mode).chat.completions.create(
        model="gpt-4o-mini", messages=PRAISE, response_model=Review, max_retries=1
    )
    assert type(found).__name__ == "Review"
    assert isinstance(found.stars, int)


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_stream(connect: Callable[[str], Any], mode: str) -> None:
    grown = list(
        connect(mode).chat.completions.create_partial(model="gpt-4o-mini", messages=PRAISE, response_model=Review)
    )
    assert len(grown) > 1
    assert isinstance(grown[-1].stars, int)
