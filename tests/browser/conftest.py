"""One server for all tests that look at a page, and one browser for those of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_lab import Desk, Lab, browser, jupyter_lab
from playwright.sync_api import BrowserContext


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The server; what a notebook and its kernel see of it is each test's own."""
    with jupyter_lab(tmp_path_factory.mktemp("jupyter")) as running:
        yield running


@pytest.fixture(scope="session")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browsers of all modules cache the scripts of JupyterLab."""
    return tmp_path_factory.mktemp("profile")


# Not for the whole session: as long as the browser is open, no other test could run an event loop.
@pytest.fixture(scope="module")
def shared_browser(chromium: Path, profile: Path) -> Iterator[BrowserContext]:
    with browser(chromium, profile) as running:
        yield running


@pytest.fixture
def desk(lab: Lab, shared_browser: BrowserContext) -> Desk:
    """Where notebooks are opened."""
    return Desk(lab, shared_browser)
