"""The folders of the user's cache and configuration on this platform."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "skytells-nb"


def user_cache_dir() -> Path:
    """Return the folder of the user's cache: responses, maps, compiled code, weights.

    Raises RuntimeError if the user has no home folder.
    """
    return _absolute(platformdirs.user_cache_path(APP, appauthor=False))


def user_config_dir() -> Path:
    """Return the folder of the settings file; raises RuntimeError like ``user_cache_dir``."""
    return _absolute(platformdirs.user_config_path(APP, appauthor=False))


def without_home(path: str) -> str:
    """Return a path or a URL with ``~`` for the user's home folder: what a notebook shows fits other machines.

    >>> without_home("/elsewhere/cache.sqlite")
    '/elsewhere/cache.sqlite'
    """
    try:
        home = str(Path.home())
    except RuntimeError:
        return path
    return path.replace(f"{home}{os.sep}", f"~{os.sep}") if len(home) > 1 else path


_chosen: Path | None = None
_off = False


def choose_cache(folder: Path | None, *, off: bool = False) -> None:
    """Keep what this process computes in this folder from now on, or nowhere; ``None`` is what the environment says."""
    global _chosen, _off
    _chosen, _off = folder, off


def cache_is_off() -> bool:
    """Whether nothing is to be kept: the connection's cache is off, or that of the environment before there is one."""
    return _off if _chosen is not None else os.environ.get("SKYTELLS_CACHE", "").strip().lower() == "off"


def cache_dir() -> Path:
    """Return the folder of the connection's cache; before there is one, that of the environment or the user."""
    if _chosen is not None:
        return _chosen
    named = os.environ.get("SKYTELLS_CACHE_DIR")
    return Path(named).expanduser() if named else user_cache_dir()


def _absolute(folder: Path) -> Path:
    # Without a home folder platformdirs leaves ~ in the path, which would create a folder of that name.
    return folder.expanduser()
