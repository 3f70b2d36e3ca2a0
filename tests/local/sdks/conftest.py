"""The real local models on a port, for libraries that are in an environment of their own.

``make test-sdks`` installs them and runs these tests; without them each module is skipped, and says so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from skytells_nb.local import LocalServer

LIBRARIES = ("litellm", "langchain_openai", "instructor", "pydantic_ai")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Nothing may be skipped where everything was to be installed."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if not (Path(__file__).parent / "node" / "node_modules" / "openai").is_dir():
        missing.append("openai for Node.js")
    if os.environ.get("SKYTELLS_TEST_SDKS") == "1" and missing:
        raise pytest.UsageError(f"Not installed: {', '.join(missing)}.")


@pytest.fixture(scope="session")
def server(chat_weights: Path) -> Iterator[LocalServer]:
    with LocalServer(warm=True) as server:
        yield server


@pytest.fixture(scope="session")
def library() -> Callable[[str], Any]:
    """Import a library."""
    return importlib.import_module
