"""The cache of paid responses: bytes by key, in a file or on a server that several processes may share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from skytells_nb.cache.key import KeyMaker
from skytells_nb.cache.memory import MemoryStore, OffStore
from skytells_nb.cache.replay import ReplayStore, export
from skytells_nb.cache.shared.address import is_shared, without_password
from skytells_nb.cache.shared.store import SharedStore
from skytells_nb.cache.sqlite.database import FILE_NAME, usable_path
from skytells_nb.cache.sqlite.store import NO_LIMITS, SqliteStore
from skytells_nb.cache.store import CacheLimits, CacheStats, CacheStore
from skytells_nb.errors import CacheError, ConfigurationError

__all__ = [
    "CacheLimits",
    "CacheStats",
    "CacheStore",
    "KeyMaker",
    "MemoryStore",
    "OffStore",
    "ReplayStore",
    "SharedStore",
    "SqliteStore",
    "cache_setting",
    "export",
    "open_store",
    "without_password",
]


_EXPECTED = (
    "cache must be a path, 'off', 'memory', 'replay:<path>', or the address of a server: redis://, rediss:// or "
    "postgresql://"
)


def open_store(spec: str | Path | None, *, default_dir: Path, limits: CacheLimits = NO_LIMITS) -> CacheStore:
    """Return the store that a setting names; a file is kept within the ``limits`` by what writes to it.

    ``None`` is ``answers.sqlite`` in ``default_dir``; a path is that file, or ``answers.sqlite`` in that folder;
    ``"off"`` stores nothing, ``"memory"`` lasts as long as the process, ``"replay:<path>"`` reads a recording only;
    ``redis://…``, ``rediss://…`` and ``postgresql://…`` are servers. A file is created, and a server asked, on first
    use. Raises ConfigurationError for another kind of address, MissingExtraError if a server's client is not installed,
    and CacheError for anything else.

    >>> open_store("memory", default_dir=Path()).url
    'memory://'
    """
    if spec is None:
        return SqliteStore(default_dir / FILE_NAME, limits)
    text = cache_setting(spec).strip()
    if text == "off":
        return OffStore()
    if text in ("memory", "memory://", ":memory:"):
        return MemoryStore()
    scheme, _, rest = text.partition(":")
    if scheme == "replay" and rest:
        return ReplayStore(rest)
    if is_shared(text):
        return SharedStore(text)
    if text.startswith("sqlite:///"):
        text = _path_of(text)
    elif re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|file:", text):
        # Not quoted: there may be a password in it.
        raise ConfigurationError(f"{_EXPECTED}, got an address of the kind {scheme}:.")
    elif not text or scheme == "replay":
        raise CacheError(f"{_EXPECTED}, got {text!r}.")
    path = usable_path(text)
    return SqliteStore(path / FILE_NAME if path.is_dir() else path, limits)


def cache_setting(spec: Any) -> str:
    """Return what ``cache=`` was given as text; raises CacheError for what is no path.

    >>> cache_setting(Path("a.sqlite")), cache_setting(b"b.sqlite")
    ('a.sqlite', 'b.sqlite')
    """
    if not isinstance(spec, (str, bytes, os.PathLike)):
        raise CacheError(f"{_EXPECTED}, got {type(spec).__name__}.")
    return os.fsdecode(spec)


def _path_of(url: str) -> str:
    # sqlite:///C:/… names a drive; every other path is absolute.
    rest = url.removeprefix("sqlite:///")
    return rest if re.match(r"[A-Za-z]:", rest) else f"/{rest}"
