"""The API key: where it is looked up, and how it is kept out of outputs."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Generator

import httpx

from skytells_nb.errors import ConfigurationError, MissingKeyError
from skytells_nb.sanitize import HIDDEN, SHORTEST_KEY

KEY_VARIABLE = "SKYTELLS_API_KEY"
KEYRING_SERVICE = "skytells"
KEYRING_USER = "api_key"


class APIKey:
    """An API key that does not appear in a repr, string, format or pickle.

    A string that may be a key is wrapped at once: the frames of a traceback show the values of their arguments.
    """

    __slots__ = ("__value", "__weakref__")

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        return self.__value

    @property
    def sendable(self) -> bool:
        """Whether it can be a header's value: printable ASCII without spaces."""
        return self.__value.isascii() and self.__value.isprintable() and " " not in self.__value

    def account(self) -> str:
        """Return a name for the account of the key, from which the key cannot be derived."""
        return hashlib.sha256(b"skytells-nb account\0" + self.__value.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return "APIKey(…)"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("An API key cannot be pickled; set SKYTELLS_API_KEY for each process.")


class KeyAuth(httpx.Auth):
    """Adds the key to a request when it is sent, so that no stored header contains it."""

    def __init__(self, key: APIKey) -> None:
        self._key = key

    def occurs_in(self, text: str) -> bool:
        """Whether a text contains the key."""
        return self._key.reveal() in text

    def redact(self, content: bytes) -> bytes:
        """Return ``content`` without the key: a proxy's error page may show the request that it rejected."""
        # Before it is parsed: a traceback with variables shows the frames that read it.
        value = self._key.reveal().encode()
        return content.replace(value, HIDDEN.encode()) if len(value) >= SHORTEST_KEY else content

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["x-api-key"] = self._key.reveal()
        try:
            yield request
        finally:
            request.headers.pop("x-api-key", None)


def as_api_key(value: str | APIKey | None) -> APIKey | None:
    """Wrap a value that was passed as a key; ``resolve_api_key`` checks it."""
    if value is None or isinstance(value, APIKey):
        return value
    return APIKey(value.strip() if isinstance(value, str) else "")


def resolve_api_key(value: str | APIKey | None) -> APIKey:
    """Return the key to use: the argument, else ``SKYTELLS_API_KEY``, else the system keyring (service "skytells").

    Raises MissingKeyError if there is none, ConfigurationError if it cannot be a key. Neither quotes it.
    """
    key = value = as_api_key(value)
    if key is None:
        key = as_api_key(os.environ.get(KEY_VARIABLE) or _from_keyring())
    if key is None or not key.reveal():
        raise MissingKeyError(
            "No Skytells API key was found. Either set the environment variable SKYTELLS_API_KEY (or pass "
            "api_key=) to use the service, or use small models on this machine, without a key, with "
            "skytells_nb.connect(local=True) or SKYTELLS_BASE_URL=local."
        )
    if not key.sendable:
        raise ConfigurationError(
            "The API key must be printable ASCII without spaces, got other characters; copy it again from the console."
        )
    return key


def _from_keyring() -> str | None:
    """Return the key in the system keyring; ``None`` without the keyring package or a usable backend."""
    if "keyring" not in sys.modules and _is_missing("keyring"):
        return None
    try:
        import keyring

        return keyring.get_password(KEYRING_SERVICE, KEYRING_USER)
    except Exception:
        # Each system's keyring fails in its own way (no bus, locked, access denied): all mean that there is no key.
        return None


def _is_missing(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is None
