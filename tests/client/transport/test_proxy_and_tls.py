"""Variables of the environment that cannot work are named before anything is sent, without what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import KEY, Exchange, certificates, serving

from skytells_nb.client.client import Skytells
from skytells_nb.client.transport.proxy_and_tls import proxy_for
from skytells_nb.errors import ConfigurationError, ConnectError

FAR = "https://api.example.com/v1"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name.title(), raising=False)


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "Https_Proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "ftp://user:secret@proxy.example:21",
        "socks4://user:secret@proxy.example:1080",
        "http://proxy.example:port",
        "http://proxy.example:99999",
        "http://",
        "://secret",
        "http://proxy example:8080",
        "http://[::1:8080",
        "proxy.example:eighty",
        f"http://{'a' * 64}.example:8080",
        "http://proxy..example:8080",
    ],
)
def test_a_proxy_that_is_none_is_named(variable: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"{variable}, the proxy for api.example.com, must be a URL") as caught:
        Skytells(KEY, base_url=FAR)
    assert "secret" not in str(caught.value)
    assert "NO_PROXY" in str(caught.value)


def test_a_socks_proxy_without_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("httpx")
    try:
        import socksio  # noqa: F401
    except ImportError:
        monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@127.0.0.1:1080")
        with pytest.raises(ConfigurationError, match=r"ALL_PROXY names a SOCKS proxy.*pip install 'httpx\[socks\]'"):
            Skytells(KEY, base_url=FAR)
    else:
        pytest.skip("the package for SOCKS proxies is installed")


def test_a_variable_that_does_not_concern_the_address_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "nonsense://x")
    Skytells(KEY, base_url=FAR)
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    Skytells(KEY, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(ConfigurationError):
        Skytells(KEY, base_url=FAR)
    for bypass in ("example.com", ".example.com", "api.example.com", "*", "other.org, api.example.com"):
        monkeypatch.setenv("NO_PROXY", bypass)
        assert proxy_for(FAR) is None
        Skytells(KEY, base_url=FAR)


@pytest.mark.parametrize(
    ("url", "exception", "direct"),
    [
        ("https://api.example.com/v1", "api.example.com:443", True),
        ("https://api.example.com/v1", "api.example.com:80", False),
        ("https://api.example.com/v1", "other.com, *.example.com", True),
        ("https://notexample.com/v1", "*.example.com", False),
        ("https://10.1.2.3:8000/v1", "10.0.0.0/8", True),
        ("https://10.1.2.3:8000/v1", "192.168.0.0/16,10.1.2.3/32", True),
        ("https://11.1.2.3/v1", "10.0.0.0/8", False),
        ("https://[fd00::1]:8000/v1", "[fd00::1]", True),
        ("https://[fd00::1]:8000/v1", "[fd00::1]:8000", True),
        ("https://[fd00::1]:8000/v1", "[fd00::1]:8001", False),
        ("https://[fd00::1]/v1", "fd00::/8", True),
        ("https://[fe80::1]/v1", "fd00::/8, 10.0.0.0/8, nonsense/8, [", False),
    ],
)
def test_addresses_that_go_without_a_proxy(
    url: str, exception: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", exception)
    assert (proxy_for(url) is None) == direct


def test_a_proxy_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@127.0.0.1:9")
    with pytest.raises(ConnectError, match="through the proxy in HTTPS_PROXY") as caught:
        Skytells(KEY, base_url=FAR, timeout=5).models.list()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses_is_named(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda exchange: exchange.reply("no", status)) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{server.port}")
        with pytest.raises(ConnectError, match=f"The proxy in HTTPS_PROXY did not connect.*{status}"):
            Skytells(KEY, base_url=FAR, timeout=5).models.list()
    assert KEY not in str(server.exchanges[0].headers)


@pytest.mark.parametrize("content", [None, b"", b"no certificate", "folder"])
def test_certificates_that_are_none_are_named(
    content: bytes | str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "certificates.pem"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE must name a file with certificates"):
        Skytells(KEY, base_url=FAR)
    Skytells(KEY, base_url="http://127.0.0.1:9/v1")


def test_a_folder_without_certificates_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        monkeypatch.setenv("SSL_CERT_DIR", str(folder))
        with pytest.raises(ConfigurationError, match="SSL_CERT_DIR must name a folder of certificates"):
            Skytells(KEY, base_url=FAR)
    certificates(tmp_path)
    (tmp_path / "0a1b2c3d.0").write_bytes((tmp_path / "certificate.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    Skytells(KEY, base_url=FAR)


def test_a_log_of_keys_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "none" / "keys.log"))
    with pytest.raises(ConfigurationError, match="SSLKEYLOGFILE must name a file that can be written"):
        Skytells(KEY, base_url=FAR)


def test_a_proxy_that_works_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """For http, which only this machine may be reached by, none is: so the request to the proxy itself is seen."""

    def tunnel(exchange: Exchange) -> None:
        exchange.reply("no", 503)

    with serving(tunnel) as server:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{server.port}")
        with pytest.raises(ConnectError):
            Skytells(KEY, base_url=FAR, timeout=5).models.list()
    assert (server.exchanges[0].method, server.exchanges[0].path) == ("CONNECT", "api.example.com:443")
