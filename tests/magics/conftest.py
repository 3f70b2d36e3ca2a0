"""A shell, and a service behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from magic_service import Echo, Notebook, connect, serve

import skytells_nb.session as sessions
from skytells_nb.local import LocalServer


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def server(echo: Echo, request: pytest.FixtureRequest) -> Iterator[LocalServer]:
    """The local server; parametrise it indirectly with faults."""
    with serve(echo, getattr(request, "param", "")) as running:
        yield running
        echo.released.set()


@pytest.fixture
def session(server: LocalServer) -> Iterator[sessions.Session]:
    yield connect(server)
    sessions.reset()


@pytest.fixture
def shell() -> Iterator[Notebook]:
    notebook = Notebook()
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(shell: Notebook, session: sessions.Session) -> Notebook:
    """A shell that is connected."""
    return shell
