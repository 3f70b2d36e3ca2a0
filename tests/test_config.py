"""Settings: who wins, what is refused, and that no value is quoted."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from skytells_nb.config import SettingOptions, Settings, config_file, read_settings
from skytells_nb.errors import ConfigurationError
from skytells_nb.session import connect
from skytells_nb.types.models import DEFAULT_EMBEDDING_MODEL, DEFAULT_MODEL
from skytells_nb.user_dirs import cache_dir, user_cache_dir

SECRET = "sk-in-the-wrong-place"


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No setting but those of the test; the file is not there until it is written."""
    for name in list(os.environ):
        if name.startswith("SKYTELLS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SKYTELLS_CONFIG", str(tmp_path / "own.toml"))
    return tmp_path / "own.toml"


def test_connect_names_every_setting_in_its_signature() -> None:
    """As its own keyword or as one of the typed options."""
    shown = inspect.signature(connect).parameters
    assert set(Settings.model_fields) <= set(shown)
    assert set(SettingOptions.__annotations__) < set(Settings.model_fields)


def test_the_defaults() -> None:
    settings = read_settings()
    assert (settings.model, settings.embedding_model) == (DEFAULT_MODEL, DEFAULT_EMBEDDING_MODEL)
    assert (settings.base_url, settings.cache) == (None, None)
    assert settings.max_in_flight == 64


def test_argument_over_environment_over_file_over_default(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file.write_text('model = "of the file"\nmax_retries = 7\n')
    assert (read_settings().model, read_settings().max_retries) == ("of the file", 7)
    monkeypatch.setenv("SKYTELLS_MODEL", "of the environment")
    assert read_settings().model == "of the environment"
    assert read_settings(model="of the argument").model == "of the argument"
    assert read_settings(model="of the argument").max_retries == 7


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_can_come_from_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"SKYTELLS_{name.upper()}", "3")
    assert str(getattr(read_settings(), name)) in ("3", "3.0")


def test_none_and_an_empty_variable_count_as_not_given(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_file.write_text('model = "of the file"\n')
    monkeypatch.setenv("SKYTELLS_MODEL", "")
    assert read_settings(model=None).model == "of the file"


def test_an_unknown_argument_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"Unknown setting max_workers\. Known: .*max_in_flight") as caught:
        read_settings(max_workers=SECRET)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_in_flight", 0),
        ("max_in_flight", 2000),
        ("max_in_flight", SECRET),
        ("max_retries", -1),
        ("inputs_per_request", 4096),
        ("timeout", 0),
        ("timeout", SECRET),
        ("model", 5),
    ],
)
def test_a_value_that_cannot_be_used_is_named_and_not_quoted(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name) as caught:
        read_settings(**{name: value})
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_bad_variable_is_named_and_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_MAX_RETRIES", SECRET)
    with pytest.raises(ConfigurationError, match="max_retries") as caught:
        read_settings()
    assert SECRET not in str(caught.value)


def test_a_key_in_the_file_is_refused_without_quoting_it(own_file: Path) -> None:
    own_file.write_text(f'api_key = "{SECRET}"\n')
    with pytest.raises(
        ConfigurationError, match=r"must not be in the settings file; remove it and set SKYTELLS_API_KEY"
    ) as caught:
        read_settings()
    assert SECRET not in str(caught.value)
    assert str(own_file) in str(caught.value)
    assert caught.value.__context__ is None


def test_an_unknown_name_in_the_file_is_refused_with_the_known_ones(own_file: Path) -> None:
    own_file.write_text("max_workers = 3\n")
    with pytest.raises(ConfigurationError, match=r"max_workers is unknown\. Known: .*max_in_flight"):
        read_settings()


@pytest.mark.parametrize("content", [b"model = ", b"\xff\xfe", b"[[["])
def test_a_file_that_cannot_be_read_is_named(content: bytes, own_file: Path) -> None:
    own_file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        read_settings()
    assert str(own_file) in str(caught.value)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().model = "other"


def test_the_key_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYTELLS_API_KEY", SECRET)
    assert SECRET not in repr(read_settings())
    with pytest.raises(ConfigurationError, match="Unknown setting api_key"):
        read_settings(api_key=SECRET)


def test_a_folder_may_be_in_the_home_folder() -> None:
    assert read_settings(cache_dir="~/answers").cache_dir == Path.home() / "answers"
    assert read_settings(cache_dir=Path("~/answers")).cache_dir == Path.home() / "answers"


def test_the_file_and_the_cache_have_a_place_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SKYTELLS_CONFIG")
    assert config_file().name == "config.toml"
    assert config_file().parent.name == user_cache_dir().name == "skytells-nb"
    assert config_file().parent != user_cache_dir()


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these are the folders of XDG")
def test_the_folders_are_those_of_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SKYTELLS_CONFIG")
    monkeypatch.delenv("SKYTELLS_CACHE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    assert user_cache_dir() == cache_dir() == read_settings().cache_dir == tmp_path / "caches" / "skytells-nb"
    assert config_file() == tmp_path / "settings" / "skytells-nb" / "config.toml"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert user_cache_dir() == cache_dir() == read_settings().cache_dir == tmp_path / "home" / ".cache" / "skytells-nb"
    assert config_file() == tmp_path / "home" / ".config" / "skytells-nb" / "config.toml"
    monkeypatch.setenv("SKYTELLS_CACHE_DIR", "~/answers")
    assert cache_dir() == read_settings().cache_dir == tmp_path / "home" / "answers"
    assert user_cache_dir() == tmp_path / "home" / ".cache" / "skytells-nb"


def test_the_docstring_names_every_variable() -> None:
    """The list of precedence is the documentation."""
    import skytells_nb.config as module

    for name in (*Settings.model_fields, "config"):
        assert f"SKYTELLS_{name.upper()}" in (module.__doc__ or "")
