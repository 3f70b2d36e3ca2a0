"""Fixtures of the tests of the client."""

from __future__ import annotations

import pytest

from skytells_nb.client.transport import http11


@pytest.fixture(autouse=True)
def patient_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection be used again however long a slow machine takes between two requests."""
    monkeypatch.setattr(http11, "KEEP_ALIVE_S", 3_600.0)
