"""The environment's proxy and certificates: read once, and an error that names the variable that cannot work."""

from __future__ import annotations

import functools
import ipaddress
import os
import re
import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from skytells_nb.errors import ConfigurationError

_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.r?\d+").fullmatch
"""Names under which OpenSSL looks for a certificate in a folder."""


class ProxyRoute(NamedTuple):
    """The proxy for an address, and the variable that names it."""

    variable: str
    proxy: httpx.Proxy


def proxy_for(url: str) -> ProxyRoute | None:
    """Return the proxy that the environment names for this address, ``None`` if there is none.

    Raises ConfigurationError if it cannot work.
    """
    parts, proxies = urlsplit(url), getproxies()
    scheme = next((name for name in (parts.scheme, "all") if proxies.get(name)), None)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    if scheme is None or _bypassed(parts.hostname or "", port, proxies.get("no", "")):
        return None
    variable, address = _variable(scheme), proxies[scheme].strip()
    problem = f"must be a URL such as http://proxy.example:8080 (or https, socks5), got {_described(address)}"
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
        proxy_port = urlsplit(str(proxy.url)).port
        proxy.url.host.encode("idna")  # as connecting to it does
    except (httpx.InvalidURL, ValueError):
        proxy, proxy_port = None, 0
    has_path = proxy is not None and "://" not in address and proxy.url.path not in ("", "/")
    if proxy is None or not proxy.url.host or proxy_port == 0 or has_path or any(map(str.isspace, address)):
        raise ConfigurationError(
            f"{variable}, the proxy for {parts.netloc}, {problem}. {_ways_out(variable, parts.hostname)}"
        )
    if proxy.url.scheme.startswith("socks") and not _has_socks():
        raise ConfigurationError(
            f"{variable} names a SOCKS proxy for {parts.netloc}, which needs another package: pip install "
            f"'httpx[socks]'. {_ways_out(variable, parts.hostname)}"
        )
    return ProxyRoute(variable, proxy)


def _described(address: str) -> str:
    """Describe what a variable holds without quoting it: it may contain a password."""
    scheme, separator, _ = address.partition("://")
    return f"a URL with {scheme[:20]!r}" if separator and scheme.isalnum() else "something else"


def _ways_out(variable: str, host: str | None) -> str:
    return f"Correct or unset {variable}, or name {host} in NO_PROXY to go without a proxy."


def _variable(scheme: str) -> str:
    """Return the name of the variable, in the spelling that counts."""
    names = [name for name in (f"{scheme}_proxy", f"{scheme}_proxy".upper()) if os.environ.get(name)]
    names += [name for name in os.environ if name.lower() == f"{scheme}_proxy"]
    return names[0] if names else "The system's proxy setting"


def _bypassed(host: str, port: int | None, exceptions: str) -> bool:
    """Whether an address goes without a proxy: as the standard library reads NO_PROXY, and as other programs do."""
    try:
        if proxy_bypass(host) or (port and proxy_bypass(f"{host}:{port}")):
            return True
    except (OSError, ValueError):
        pass
    return any(_is_exception(host, port, entry.strip().lower()) for entry in exceptions.split(","))


def _is_exception(host: str, port: int | None, entry: str) -> bool:
    """Whether one entry of NO_PROXY is this host: a range of addresses, an IPv6 address in brackets, ``*.domain``."""
    if entry.startswith("*."):
        return host.endswith(entry[1:])
    if entry.startswith("["):
        entry, _, rest = entry[1:].partition("]")
        if rest and rest != f":{port}":
            return False
    try:
        return ipaddress.ip_address(host.partition("%")[0]) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


def _has_socks() -> bool:
    from importlib.util import find_spec

    return find_spec("socksio") is not None


def tls_context() -> ssl.SSLContext:
    """Return the context for https, with the certificates that the environment names, or those of the libraries.

    Raises ConfigurationError if these cannot be read. Loading them takes tens of milliseconds, so a context is kept.
    """
    return _tls_context(*(os.environ.get(name) or None for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")))


@functools.lru_cache(maxsize=8)
def _tls_context(file: str | None, folder: str | None, log: str | None) -> ssl.SSLContext:
    if file is not None:
        _check_file(file)
    elif folder is not None:
        _check_folder(folder)
    try:
        context = httpx.create_ssl_context()
    except (OSError, ValueError) as problem:
        # An SSLError is an OSError. A log of keys that cannot be opened is reported by the same call.
        reason = getattr(problem, "strerror", None) or str(problem)
        name = "SSLKEYLOGFILE" if log is not None and not _is_appendable(log) else "SSL_CERT_FILE"
        if name == "SSL_CERT_FILE" and file is None:
            raise ConfigurationError(f"The certificates of this installation cannot be read: {reason}.") from None
        what = "a file that can be written" if name == "SSLKEYLOGFILE" else "a file with certificates in PEM format"
        raise ConfigurationError(f"{name} must name {what}: {reason}. Correct or unset it.") from None
    context.set_alpn_protocols(["http/1.1"])
    return context


def _check_file(name: str) -> None:
    try:
        is_file = Path(name).is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise ConfigurationError(
            f"SSL_CERT_FILE must name a file with certificates in PEM format, got {name[:200]!r}, which is not a file. "
            "Correct or unset it."
        )


def _check_folder(name: str) -> None:
    """Check what OpenSSL does not: it looks into the folders only when it needs a certificate."""
    for part in name.split(os.pathsep):
        try:
            if any(_HASHED_NAME(entry) for entry in os.listdir(part)):
                return
        except (OSError, ValueError):
            continue
    raise ConfigurationError(
        f"SSL_CERT_DIR must name a folder of certificates with names made by openssl rehash, got {name[:200]!r}, "
        "where there is none. Correct or unset it."
    )


def _is_appendable(name: str) -> bool:
    try:
        with open(name, "ab"):
            return True
    except (OSError, ValueError):
        return False


@functools.cache
def empty_tls_context() -> ssl.SSLContext:
    """Return a context without certificates, for plain http: it trusts no host."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
