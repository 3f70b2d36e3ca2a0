"""The API key: found in one place, shown in none."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Generator

import httpx

from skytells_nb.errors import ConfigurationError, MissingKeyError

KEY_VARIABLE = "SKYTELLS_API_KEY"
KEYRING_SERVICE = "skytells"
KEYRING_USER = "api_key"
REDACTED_FROM = 8
"""Keys of fewer characters are left in error texts: they are placeholders, and parts of ordinary words."""


class APIKey:
    """An API key that shows in no repr, string, format or pickle.

    Where a text may be a key it becomes one at once: the frames of a traceback show what their arguments hold.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        return self.__value

    @property
    def sendable(self) -> bool:
        """Whether it may stand in a header: printable ASCII, no space."""
        return self.__value.isascii() and self.__value.isprintable() and " " not in self.__value

    def account(self) -> str:
        """A name for the account behind the key, from which the key cannot be found."""
        return hashlib.sha256(b"skytells-nb account\0" + self.__value.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return "Key(…)"

    __str__ = __repr__

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("An API key is not pickled; each process finds its own (SKYTELLS_API_KEY).")


class KeyAuth(httpx.Auth):
    """Puts the key on a request at the moment it leaves, so that no stored header holds it."""

    def __init__(self, key: APIKey) -> None:
        self._key = key

    def redact(self, content: bytes) -> bytes:
        """``content`` without the key: a proxy's error page may show the request it refused."""
        value = self._key.reveal().encode()
        return content.replace(value, b"[API key]") if len(value) >= REDACTED_FROM else content

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["x-api-key"] = self._key.reveal()
        try:
            yield request
        finally:
            request.headers.pop("x-api-key", None)


def as_api_key(given: str | APIKey | None) -> APIKey | None:
    """What was given as a key, out of sight; ``find_key`` says whether it can be one."""
    if given is None or isinstance(given, APIKey):
        return given
    return APIKey(given.strip() if isinstance(given, str) else "")


def resolve_api_key(given: str | APIKey | None) -> APIKey:
    """The key to use: the one given, else ``SKYTELLS_API_KEY``, else the system keyring (service "skytells").

    Raises MissingKeyError where there is none, ConfigurationError where it cannot be a key. Neither quotes it.
    """
    key = given = as_api_key(given)
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
            "The API key holds a space, a line break or a character that no key has; copy it again from the console."
        )
    return key


def _from_keyring() -> str | None:
    """The keyring's answer; ``None`` without the keyring package or without a usable backend."""
    if "keyring" not in sys.modules and _absent("keyring"):
        return None
    try:
        import keyring

        return keyring.get_password(KEYRING_SERVICE, KEYRING_USER)
    except Exception:
        # Each system's keyring fails in its own way (no bus, locked, refused); all of them mean: no key here.
        return None


def _absent(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is None
