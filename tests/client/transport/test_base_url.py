"""Where requests may go."""

from __future__ import annotations

import pytest

from skytells_nb.client.transport.base_url import DEFAULT_BASE_URL, is_loopback, origin_of, resolve_base_url
from skytells_nb.errors import ConfigurationError

SECRET = "sk-in-the-wrong-place"


def test_the_argument_wins_over_the_environment_over_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYTELLS_BASE_URL", raising=False)
    assert resolve_base_url(None) == DEFAULT_BASE_URL
    monkeypatch.setenv("SKYTELLS_BASE_URL", "https://edge.skytells.ai/v1/")
    assert resolve_base_url(None) == "https://edge.skytells.ai/v1"
    assert resolve_base_url(" https://own.example/v1 ") == "https://own.example/v1"


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost/v1", "http://[::1]:8000/v1"])
def test_plain_http_may_reach_this_machine(url: str) -> None:
    assert resolve_base_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.skytells.ai/v1",
        "http://10.0.0.1/v1",
        "http://0.0.0.0/v1",
        "http://127.0.0.1.example.org/v1",
        "http://localhost.example.org/v1",
        "HTTP://Example.org",
    ],
)
def test_plain_http_may_reach_nothing_else(url: str) -> None:
    with pytest.raises(ConfigurationError, match="use https"):
        resolve_base_url(url)


@pytest.mark.parametrize(
    "url", [f"https://user:{SECRET}@own.example/v1", f"https://{SECRET}@own.example", "https://@own.example"]
)
def test_a_user_name_in_the_address_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="user name or password") as caught:
        resolve_base_url(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        SECRET,
        f"https://own.example/v1?key={SECRET}",
        f"https://own.example/v1#{SECRET}",
        f"ftp://own.example/{SECRET}",
        "https://",
        "https:///v1",
        "https://own.example:none/v1",
        "https://own.example:99999/v1",
        "https://[::1/v1",
        "https://own.example/a b",
        "https://own.exa\nmple/v1",
        "//own.example",
    ],
)
def test_what_is_no_base_url_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_base_url(url)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_local_is_not_an_address_and_the_error_says_who_takes_it() -> None:
    with pytest.raises(ConfigurationError, match="connect\\(local=True\\)"):
        resolve_base_url("LOCAL")


def test_the_origin_is_scheme_host_and_port() -> None:
    assert origin_of("https://own.example:8443/v1") == "https://own.example:8443"


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("LocalHost", True), ("10.0.0.1", False), ("", False)],
)
def test_loopback_is_told_without_a_name_server(host: str, here: bool) -> None:
    assert is_loopback(host) is here
