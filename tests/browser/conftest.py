"""One server for all tests that look at a page, and one browser for those of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_lab import Desk, Lab, browser, jupyter_lab
from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The server; what a notebook and its kernel see of it is each test's own."""
    with jupyter_lab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


# Not for the whole session: as long as the browser is open, no other test could run an event loop.
@pytest.fixture(scope="module")
def shared_browser(chromium: Path) -> Iterator[Browser]:
    with browser(chromium) as running:
        yield running


@pytest.fixture
def desk(lab: Lab, shared_browser: Browser) -> Desk:
    """Where notebooks are opened."""
    return Desk(lab, shared_browser)
