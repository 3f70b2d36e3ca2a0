"""The key: where it is found, and that nothing shows it."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import httpx
import keyring
import keyring.backend
import pytest

from skytells_nb.client.transport.auth import KEY_VARIABLE, APIKey, KeyAuth, as_api_key, resolve_api_key
from skytells_nb.errors import ConfigurationError, MissingKeyError

SECRET = "sk-of-a-test-0123456789"


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring that lasts as long as the test."""

    priority = 1

    def __init__(self, password: str | None = None, problem: Exception | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._password = password
        self._problem = problem

    def get_password(self, service: str, username: str) -> str | None:
        if self._problem is not None:
            raise self._problem
        return self._password if (service, username) == ("skytells", "api_key") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        self._password = password


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    before = keyring.get_keyring()
    keyring.set_keyring(MemoryKeyring())
    yield
    keyring.set_keyring(before)


def test_the_argument_wins_over_the_environment_over_the_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.set_keyring(MemoryKeyring("sk-of-the-keyring"))
    assert resolve_api_key(None).reveal() == "sk-of-the-keyring"
    monkeypatch.setenv(KEY_VARIABLE, "sk-of-the-environment")
    assert resolve_api_key(None).reveal() == "sk-of-the-environment"
    assert resolve_api_key(SECRET).reveal() == SECRET


@pytest.mark.parametrize("value", ["", "  ", "\n"])
def test_an_empty_variable_is_no_key(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, value)
    with pytest.raises(MissingKeyError):
        resolve_api_key(None)


def test_a_missing_key_names_both_ways_out() -> None:
    with pytest.raises(MissingKeyError) as caught:
        resolve_api_key(None)
    for way in ("SKYTELLS_API_KEY", "api_key=", "connect(local=True)", "SKYTELLS_BASE_URL=local"):
        assert way in str(caught.value)


@pytest.mark.parametrize("problem", [keyring.errors.KeyringLocked("locked"), RuntimeError("no bus"), OSError("gone")])
def test_a_keyring_that_fails_holds_no_key(problem: Exception) -> None:
    keyring.set_keyring(MemoryKeyring(problem=problem))
    with pytest.raises(MissingKeyError):
        resolve_api_key(None)


def test_blanks_around_a_key_are_dropped() -> None:
    assert resolve_api_key(f" {SECRET}\n").reveal() == SECRET


@pytest.mark.parametrize(
    "key", ["sk-with a space", "sk-with\nline", "sk-with\rreturn", "sk-größe", "sk-nul\0", "“sk-quoted”", "sk-\ttab"]
)
def test_what_cannot_stand_in_a_header_is_refused_without_being_quoted(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_api_key(key)
    assert "sk-" not in str(caught.value)
    with pytest.raises(ConfigurationError):
        resolve_api_key(as_api_key(key))


def test_a_key_shows_in_no_text() -> None:
    key = APIKey(SECRET)
    for text in (repr(key), str(key), f"{key}", "%s" % key, repr([key]), repr({"key": key})):  # noqa: UP031
        assert SECRET not in text


def test_a_key_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(APIKey(SECRET))


def test_an_account_has_a_stable_name_that_is_not_the_key() -> None:
    account = APIKey(SECRET).account()
    assert account == APIKey(SECRET).account() != APIKey(SECRET + "x").account()
    assert SECRET not in account
    assert APIKey("sk-a").account() == "0602d6c7b5d6"  # it is in files, so it must not change between versions


def test_the_key_is_on_a_request_only_while_it_is_under_way() -> None:
    request = httpx.Request("GET", "https://own.example/v1/models")
    flow = KeyAuth(APIKey(SECRET)).auth_flow(request)
    assert next(flow).headers["x-api-key"] == SECRET
    flow.close()
    assert "x-api-key" not in request.headers


def test_a_page_that_shows_the_key_is_shown_without_it() -> None:
    assert KeyAuth(APIKey(SECRET)).redact(f"x-api-key: {SECRET}".encode()) == b"x-api-key: [API key]"


def test_a_placeholder_key_is_left_in_words() -> None:
    assert KeyAuth(APIKey("key")).redact(b"a monkey") == b"a monkey"
