"""Addresses of shared stores: taken apart, and shown, pickled and printed without their passwords."""

from __future__ import annotations

import pickle
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.cache.shared import address as addresses
from skytells_nb.cache.shared.address import Address, is_shared, without_password
from skytells_nb.errors import ConfigurationError


@pytest.fixture(autouse=True)
def no_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "_passwords", {})


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=12),
    st.sampled_from(["redis", "rediss", "postgresql"]),
    st.sampled_from(["", "worker"]),
)
def test_any_password_is_hidden_and_used(password: str, scheme: str, user: str) -> None:
    shown = f"{scheme}://{user}@host:1234/db" if user else f"{scheme}://host:1234/db"
    found = Address.of(f"{scheme}://{user}:{quote(password, safe='')}@host:1234/db")
    assert found.url == shown
    assert found.with_password() == f"{scheme}://{user}:{quote(password, safe='')}@host:1234/db"
    assert password not in f"{found!r} {found} {pickle.dumps(found)!r}"
    assert found.masked(f"bad: {password}, {quote(password, safe='')}").count("***") == 2


def test_a_password_among_the_options_is_hidden_too() -> None:
    found = Address.of("postgresql:///db?host=/run/pg&password=secret&sslpassword=other&sslmode=require")
    assert found.url == "postgresql:///db?host=%2Frun%2Fpg&sslmode=require"
    assert found.with_password().endswith("sslmode=require&password=secret&sslpassword=other")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "redis://me:se/cret@host/0",
            "redis://me:se#cret@host",
            "redis://:se?cret@host",
            "postgresql://a:se@cret@h/d",
        ),
        *(
            "redis://me:secret@host:port/0",
            "redis://me:se cret@host",
            "redis://[:secret@host",
            "redis://:secret@host:0",
        ),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ConfigurationError, match="must be an address") as caught:
        without_password(text)
    assert "cret" not in str(caught.value)


def test_the_password_comes_from_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker, which got the address without it: from the same address there, or on its own."""
    monkeypatch.setenv("SKYTELLS_CACHE_PASSWORD", "for any")
    assert Address("redis://host/0").with_password() == "redis://:for%20any@host/0"
    monkeypatch.setenv("SKYTELLS_CACHE", "redis://:own@host/0")
    assert Address("redis://host/0").with_password() == "redis://:own@host/0"
    assert Address("redis://other/0").with_password() == "redis://:for%20any@other/0"
    assert Address.of("redis://:given@host/0").with_password() == "redis://:given@host/0"


def test_paths_and_words_are_no_addresses() -> None:
    for text in ("off", "answers.sqlite", "C:/answers.sqlite", "replay:redis.sqlite", "mysql://host"):
        assert not is_shared(text)
        assert without_password(text) == text
