"""How many modules of the package one call enters: what a reader has to open in order to follow it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pandas as pd
import pytest
from local_fakes import EchoGenerator, HashEmbedder, WordModerator
from magic_service import Notebook

import skytells_nb
from skytells_nb.local import LocalServer
from skytells_nb.session import Session, connect

PACKAGE = Path(skytells_nb.__file__).parent
KEY = "sk-for-tests-5d1f0c"


@pytest.fixture
def session() -> Iterator[Session]:
    models: dict[str, Any] = {
        "embedder": HashEmbedder(),
        "moderator": WordModerator(),
        "generator": EchoGenerator(),
    }
    with LocalServer(api_key=KEY, **models) as server:
        yield connect(KEY, base_url=server.base_url, cache="memory")


@pytest.fixture
def notebook(session: Session) -> Iterator[Notebook]:
    notebook = Notebook()
    yield notebook
    notebook.close()


def modules_entered(call: Callable[[], object]) -> set[str]:
    """Return the modules whose functions ``call`` runs, in all threads; the local server, which answers, aside."""
    files: set[str] = set()

    def record(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            files.add(frame.f_code.co_filename)

    # Other tools, such as one that measures coverage, may profile too.
    before = sys.getprofile()
    threading.setprofile(record)
    sys.setprofile(record)
    try:
        call()
    finally:
        sys.setprofile(before)
        threading.setprofile(None)
    paths = (Path(file) for file in files)
    modules = {path.relative_to(PACKAGE).as_posix() for path in paths if path.is_relative_to(PACKAGE)}
    return {module for module in modules if not module.startswith("local/")}


def test_a_column_of_completions_enters_few_modules(session: Session) -> None:
    frames = [pd.DataFrame({"word": words}) for words in (["cat", "dog"], ["hen", "cow", "hen"])]
    frames[0].skytells.complete("Say {word}.", progress=False)
    modules = modules_entered(lambda: frames[1].skytells.complete("Say {word}.", progress=False))
    assert {"accessor/frame.py", "engine/worker_pool.py", "client/transport/http11.py"} <= modules
    assert len(modules) <= 42, sorted(modules)
    optional = {"few_shot.py", "repair.py", "row_packing.py", "response_format.py", "conversation.py", "images.py"}
    assert not optional & {module.rpartition("/")[2] for module in modules}


def test_a_column_of_embeddings_enters_few_modules(session: Session) -> None:
    frames = [pd.DataFrame({"word": words}) for words in (["cat", "dog"], ["hen", "cow", "hen"])]
    frames[0].skytells.embed("word", progress=False)
    modules = modules_entered(lambda: frames[1].skytells.embed("word", progress=False))
    assert {"accessor/frame.py", "engine/worker_pool.py", "client/transport/http11.py"} <= modules
    assert len(modules) <= 34, sorted(modules)


def test_a_cell_enters_few_modules(notebook: Notebook) -> None:
    assert notebook.run("%%skytells_chat\nHello").error is None
    modules = modules_entered(lambda: notebook.run("%%skytells_chat\nHello again"))
    assert {"magics/cell.py", "client/streaming.py", "client/transport/http11.py"} <= modules
    # With http_response.py, which stands in the place of the standard library's http/client.py.
    assert len(modules) <= 28, sorted(modules)
