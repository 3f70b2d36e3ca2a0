"""The base URL: https to any host, plain http to this machine only."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import SplitResult, urlsplit

from skytells_nb.errors import ConfigurationError

DEFAULT_BASE_URL = "https://api.skytells.ai/v1"


def resolve_base_url(value: str | None) -> str:
    """Return the base URL to use: the argument, else ``SKYTELLS_BASE_URL``, else the public gateway.

    Raises ConfigurationError for an address that the key must not be sent to. It does not quote the address, which may
    be a key in the wrong place.
    """
    url = (value or os.environ.get("SKYTELLS_BASE_URL") or DEFAULT_BASE_URL).strip().rstrip("/")
    if url.lower() == "local":
        raise ConfigurationError(
            "base_url is 'local': the embedded local Skytells is started by skytells_nb.connect(local=True), "
            "whose session has a ready .client; Skytells(...) alone takes a URL."
        )
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"The base URL must be a URL such as {DEFAULT_BASE_URL}, got something else.")
    if "@" in parts.netloc:
        raise ConfigurationError("The base URL must not contain a user name or password; pass the key as api_key.")
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"The base URL must not have a query or fragment; use a URL such as {DEFAULT_BASE_URL}."
        )
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"Plain http to {parts.hostname} would show your key and data to the network; use https. "
            "Only this machine (127.0.0.1, localhost) may be reached by http."
        )
    return url


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for an invalid port
        (parts.hostname or "").encode("idna")  # as connecting to it does
    except ValueError:
        return None
    return parts if url.isprintable() and " " not in url else None


def origin_of(url: str) -> str:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine; makes no DNS query."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
