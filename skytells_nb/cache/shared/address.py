"""Addresses of shared stores. Passwords stay in this module: whatever is printed, pickled or logged has none."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from skytells_nb.errors import ConfigurationError

SCHEMES = {"redis": "redis", "rediss": "redis", "postgresql": "postgres", "postgres": "postgres"}
"""The scheme of an address, and the extra that its store needs."""
PASSWORD_VARIABLE = "SKYTELLS_CACHE_PASSWORD"
ADDRESS_VARIABLE = "SKYTELLS_CACHE"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a shared store, without its password.

    >>> Address.of("redis://worker:secret@cache.example:6379/0")
    Address(url='redis://worker@cache.example:6379/0')
    """

    url: str

    @classmethod
    def of(cls, text: str) -> Address:
        """Return the address in ``text`` and remember its password in this process.

        Raises ConfigurationError if it is not the address of a shared store.
        """
        url, passwords = _split(text)
        if passwords:
            _passwords[url] = passwords
        return cls(url)

    @property
    def extra(self) -> str:
        """The extra that installs the client of this store."""
        return SCHEMES[urlsplit(self.url).scheme]

    def with_password(self) -> str:
        """Return the address to connect to.

        Its password is that of the last address with one in this process, then that of the same address in
        ``SKYTELLS_CACHE``, then ``SKYTELLS_CACHE_PASSWORD``.
        """
        passwords = _passwords.get(self.url) or self._from_environment()
        if not passwords:
            return self.url
        parts = urlsplit(self.url)
        user, _, host = parts.netloc.rpartition("@")
        netloc = f"{user}:{quote(passwords[''], safe='')}@{host}" if "" in passwords else parts.netloc
        secret = {name: value for name, value in passwords.items() if name}
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), *secret.items()])
        return _unsplit(parts.scheme, netloc, parts.path, query)

    def masked(self, message: str) -> str:
        """Return a message of a client library without the passwords that it may quote."""
        for password in (_passwords.get(self.url) or self._from_environment()).values():
            for form in {password, quote(password, safe=""), quote(password)} - {""}:
                message = message.replace(form, "***")
        return message

    def _from_environment(self) -> dict[str, str]:
        set_there = os.environ.get(ADDRESS_VARIABLE, "")
        if is_shared(set_there):
            url, passwords = _split(set_there)
            if url == self.url and passwords:
                return passwords
        password = os.environ.get(PASSWORD_VARIABLE)
        return {"": password} if password else {}


_passwords: dict[str, dict[str, str]] = {}
"""Passwords by address: that of the user as "", those of the query by name."""


def is_shared(text: str) -> bool:
    """Whether a setting names a shared store.

    >>> is_shared("redis://cache.example"), is_shared("answers.sqlite")
    (True, False)
    """
    found = _URL.match(text)
    return found is not None and found[1].lower() in SCHEMES


def without_password(text: str) -> str:
    """Return what a cache setting may be shown, stored and pickled as; the password is remembered in this process.

    Raises ConfigurationError for an address that cannot be taken apart, without quoting it.
    """
    return Address.of(text.strip()).url if is_shared(text.strip()) else text


def _split(text: str) -> tuple[str, dict[str, str]]:
    """Return an address without its passwords, and these by name."""
    text = text.strip()
    shown = f"{text.partition('://')[0]}://…"
    try:
        parts = urlsplit(text)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True)
        plain = not parts.fragment and "@" not in parts.path + parts.query and parts.netloc.count("@") < 2
    except ValueError:
        plain, port = False, None
    if not plain or text.split() != [text] or port == 0:
        # Not quoted: what could not be taken apart may contain a password.
        raise ConfigurationError(
            f"cache must be an address such as redis://user:password@host:6379/0, got {shown} with characters that "
            "stand for something else there; write @ : / ? # % in a user name or password as %40 %3A %2F %3F %23 %25."
        )
    user, at, host = parts.netloc.rpartition("@")
    name, colon, password = user.partition(":")
    passwords = {"": unquote(password)} if colon and password else {}
    passwords |= {key: value for key, value in query if "pass" in key.lower()}
    kept = urlencode([(key, value) for key, value in query if key not in passwords])
    netloc = f"{name}@{host}" if at and name else host
    return _unsplit(parts.scheme.lower(), netloc, parts.path, kept), passwords


def _unsplit(scheme: str, netloc: str, path: str, query: str) -> str:
    # urlunsplit leaves out the slashes of an address without a host, which PostgreSQL's clients require.
    return f"{scheme}://{netloc}{urlunsplit(('', '', path, query, ''))}"
