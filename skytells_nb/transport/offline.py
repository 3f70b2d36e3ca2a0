"""In the place of the network, where nothing may be sent."""

from __future__ import annotations

from typing import NoReturn

import httpx

from skytells_nb.errors import ReplayMissError


class Offline(httpx.BaseTransport):
    """Raises ReplayMissError with this message for every request, before any socket is opened."""

    def __init__(self, message: str) -> None:
        self._message = message

    def handle_request(self, request: httpx.Request) -> NoReturn:
        raise ReplayMissError(self._message)
