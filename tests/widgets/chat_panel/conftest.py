"""A panel, the service it asks, and the tap of that service's answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from panel_service import Tap
from served import connected, served

from skytells_nb.local.server import LocalServer
from skytells_nb.widgets.chat_panel.panel import ChatPanel


@pytest.fixture
def tap() -> Iterator[Tap]:
    tap = Tap()
    yield tap
    tap.flow()


@pytest.fixture
def server(tap: Tap) -> Iterator[LocalServer]:
    with served(generator=tap) as server:
        yield server


@pytest.fixture
def panel(server: LocalServer) -> Iterator[ChatPanel]:
    with ChatPanel(connected(server, "off"), model="gpt-5") as panel:
        yield panel
