"""A server on stand-in models for each test module, and an HTTP client for it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from local_fakes import client_of, fake_server

from skytells_nb.local import LocalServer


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> Iterator[httpx.Client]:
    with client_of(server) as client:
        yield client
