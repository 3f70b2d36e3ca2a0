"""The model catalogue."""

from __future__ import annotations

from urllib.parse import quote

from skytells_nb.client.exchange import parse, parse_json, validate
from skytells_nb.errors import AnswerError, InputError
from skytells_nb.transport.http import Transport
from skytells_nb.wire.models import Model


class Models:
    """``GET /models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[Model]:
        """Every model the key may see, those of other APIs (images, audio) included.

        >>> [m.namespace for m in client.models.list() if m.openai_compatible]  # doctest: +SKIP
        ['gpt-5', 'gpt-5.4', 'gpt-5.3-codex', 'deepbrain-router']
        """
        reply = self._transport.send("GET", "/models")
        body = parse_json(reply)
        entries = body.get("data") if isinstance(body, dict) else body
        if not isinstance(entries, list):
            raise AnswerError("The catalogue is not a list of models.", request_id=reply.request_id)
        return [validate(Model, entry, request_id=reply.request_id) for entry in entries]

    def retrieve(self, id: str) -> Model:
        """One model by its name; ModelNotFoundError where there is none."""
        if not isinstance(id, str) or not id:
            raise InputError(f"id must be a model's name; found {id!r}.")
        return parse(Model, self._transport.send("GET", f"/models/{quote(id, safe='')}"))
