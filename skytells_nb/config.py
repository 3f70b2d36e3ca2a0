"""Settings, in this order of precedence:

1. the argument of the call itself (``df.skytells.embed(..., model=…)``)
2. the argument of ``connect(...)``
3. the environment: ``SKYTELLS_BASE_URL``, ``SKYTELLS_MODEL``, ``SKYTELLS_EMBEDDING_MODEL``, ``SKYTELLS_CACHE``,
   ``SKYTELLS_CACHE_DIR``, ``SKYTELLS_CACHE_MAX_MB``, ``SKYTELLS_CACHE_MAX_DAYS``, ``SKYTELLS_MAX_IN_FLIGHT``,
   ``SKYTELLS_REQUESTS_PER_MINUTE``,
   ``SKYTELLS_TOKENS_PER_MINUTE``, ``SKYTELLS_MAX_RETRIES``, ``SKYTELLS_INPUTS_PER_REQUEST``, ``SKYTELLS_TIMEOUT``,
   ``SKYTELLS_MAX_ANSWER_MB``
4. the file ``config.toml`` in the user's configuration folder (``SKYTELLS_CONFIG`` names another)
5. the defaults below

The API key is not a setting: ``client/transport/auth.py`` looks it up where it is used, and no file contains it.
Nor is the password of a shared cache: ``cache/shared/address.py`` takes it out of the address.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from skytells_nb.cache.shared.address import without_password
from skytells_nb.client.transport.auth import KEY_VARIABLE
from skytells_nb.client.transport.request_options import DEFAULT_MAX_ANSWER_MB
from skytells_nb.errors import ConfigurationError
from skytells_nb.types.models import DEFAULT_EMBEDDING_MODEL, DEFAULT_MODEL
from skytells_nb.user_dirs import user_cache_dir, user_config_dir

BASE_URL_VARIABLE = "SKYTELLS_BASE_URL"
PARENT_VARIABLE = "_SKYTELLS_NB_PARENT"
"""Where a process writes for those it starts where it is connected to. Not a setting."""


class Settings(BaseSettings):
    """Everything that can be set; frozen, read once a session."""

    model_config = SettingsConfigDict(env_prefix="SKYTELLS_", frozen=True, extra="forbid", env_ignore_empty=True)

    base_url: str | None = Field(None, description="A URL, or 'local' for the embedded local Skytells.")
    model: str = Field(DEFAULT_MODEL, description="Model for completions.")
    embedding_model: str = Field(DEFAULT_EMBEDDING_MODEL, description="Model for embeddings.")
    cache: str | None = Field(None, description="A path, 'off', 'memory', 'replay:<path>' or an address.")
    cache_dir: Path = Field(default_factory=user_cache_dir, description="Folder of the user's cache.")
    cache_max_mb: float | None = Field(
        None, gt=0, description="Megabytes of responses that the cache file keeps at most; the oldest are removed."
    )
    cache_max_days: float | None = Field(None, gt=0, description="Days that the cache file keeps a response at most.")
    max_in_flight: int = Field(64, ge=1, le=1024, description="Maximum number of requests in flight.")
    requests_per_minute: float | None = Field(None, gt=0, description="A limit lower than the service's own.")
    tokens_per_minute: float | None = Field(None, gt=0, description="A limit lower than the service's own.")
    max_retries: int = Field(5, ge=0, le=100, description="Times a failed request is sent again.")
    inputs_per_request: int = Field(
        2048, ge=1, le=2048, description="Maximum number of texts in one embedding request."
    )
    timeout: float = Field(
        600.0, gt=0, description="Seconds that the service may stay silent; a whole response may take three times that."
    )
    max_answer_mb: float = Field(
        DEFAULT_MAX_ANSWER_MB, gt=0, description="Largest response that is read, in megabytes."
    )

    @field_validator("cache")
    @classmethod
    def _without_password(cls, cache: str | None) -> str | None:
        return None if cache is None else without_password(cache)

    @field_validator("cache_dir")
    @classmethod
    def _at_home(cls, folder: Path) -> Path:
        return folder.expanduser()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = TomlConfigSettingsSource(settings_cls, toml_file=config_file())
        return init_settings, env_settings, file


class SettingOptions(TypedDict, total=False):
    """Settings that ``connect`` accepts beside its own keywords; ``None`` counts as not passed."""

    cache_dir: str | Path | None
    cache_max_mb: float | None
    cache_max_days: float | None
    max_in_flight: int | None
    requests_per_minute: float | None
    tokens_per_minute: float | None
    max_retries: int | None
    inputs_per_request: int | None
    timeout: float | None
    max_answer_mb: float | None


_KNOWN = f"Known: {', '.join(Settings.model_fields)}."


def read_settings(**given: Any) -> Settings:
    """Read the current settings; arguments that are ``None`` count as not passed."""
    unknown = sorted(set(given) - set(Settings.model_fields))
    if unknown:
        raise ConfigurationError(f"Unknown setting {', '.join(unknown)}. {_KNOWN}")
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as problem:
        message = _describe(problem)
    except (OSError, ValueError) as problem:
        message = f"{config_file()} cannot be read: {problem}"
    # Raised outside the handler: the validation error contains the values, and a misplaced one may be a key.
    raise ConfigurationError(message)


def _describe(problem: ValidationError) -> str:
    clauses = []
    for error in problem.errors(include_url=False, include_context=False, include_input=False):
        name = ".".join(map(str, error["loc"])) or "settings"
        if error["type"] != "extra_forbidden":
            clauses.append(f"{name}: {error['msg']}.")
        elif name == "api_key":
            clauses.append(f"The API key must not be in the settings file; remove it and set {KEY_VARIABLE}.")
        else:
            clauses.append(f"{name} is unknown. {_KNOWN}")
    return f"A setting cannot be used (argument, SKYTELLS_… variable or {config_file()}). {' '.join(clauses)}"


def config_file() -> Path:
    named = os.environ.get("SKYTELLS_CONFIG")
    return Path(named).expanduser() if named else user_config_dir() / "config.toml"


@dataclass(frozen=True, slots=True)
class InheritedConnection:
    """Where the process that started this one was connected to."""

    base_url: str
    """An address, or ``"local"``."""
    cache: str | None
    """A recording, in replay mode."""
    own_key: bool
    """Whether it was connected with a key of its own, which does not travel."""


def share_connection(connection: InheritedConnection | None) -> None:
    """Tell processes that this one starts where it is connected to; ``None`` tells them nothing.

    They inherit the environment, whether they are workers of multiprocessing, of joblib or other programs. No key is in
    it.
    """
    if connection is None:
        os.environ.pop(PARENT_VARIABLE, None)
        return
    record = {**asdict(connection), "pid": os.getpid(), "variable": os.environ.get(BASE_URL_VARIABLE)}
    os.environ[PARENT_VARIABLE] = json.dumps(record)


def inherited_connection() -> InheritedConnection | None:
    """Return the connection of the process that started this one; ``None`` if there is none, or its address changed."""
    try:
        record = json.loads(os.environ.get(PARENT_VARIABLE, "null"))
        if record is None or record["pid"] == os.getpid() or record["variable"] != os.environ.get(BASE_URL_VARIABLE):
            return None
        cache = record["cache"]
        cache = None if cache is None else str(cache)
        return InheritedConnection(str(record["base_url"]), cache, bool(record["own_key"]))
    except (ValueError, KeyError, TypeError):
        return None
