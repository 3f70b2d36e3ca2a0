"""The model catalog."""

from __future__ import annotations

from urllib.parse import quote

from skytells_nb.client.serialization import parse, parse_json, validate
from skytells_nb.client.transport.transport import Transport
from skytells_nb.errors import InputError, InvalidResponseError
from skytells_nb.types.models import Model


class Models:
    """``GET /models``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> list[Model]:
        """List every model the key may see, those of other APIs (images, audio) included.

        Returns
        -------
        list of Model
            The catalog; ``.namespace`` is the name to pass as ``model``, ``.price`` is in US dollars per million
            tokens.

        Raises
        ------
        APIError
            If the service responds with an error.
        TransportError
            If no response arrives.
        InvalidResponseError
            If the response is not a list of models.

        Examples
        --------
        >>> "gpt-5.4" in [model.namespace for model in client.models.list() if model.openai_compatible]
        True
        """
        reply = self._transport.send("GET", "/models")
        body = parse_json(reply, ("data",))
        entries = body.get("data") if isinstance(body, dict) else body
        if not isinstance(entries, list):
            raise InvalidResponseError("The catalog is not a list of models.", request_id=reply.request_id)
        return [validate(Model, entry, request_id=reply.request_id) for entry in entries]

    def retrieve(self, id: str) -> Model:
        """Retrieve one model of the catalog by its name.

        Parameters
        ----------
        id : str
            The model's ``namespace``.

        Returns
        -------
        Model
            The model.

        Raises
        ------
        InputError
            If ``id`` is not a non-empty string.
        ModelNotFoundError
            If there is no model of this name.

        Examples
        --------
        >>> client.models.retrieve("gpt-5.4").namespace
        'gpt-5.4'
        """
        if not isinstance(id, str) or not id:
            raise InputError(f"id must be the name of a model, got {id!r}.")
        return parse(Model, self._transport.send("GET", f"/models/{quote(id, safe='')}"))
