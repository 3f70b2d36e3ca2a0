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


def cache_dir() -> Path:
    """Return the folder that ``SKYTELLS_CACHE_DIR`` names, or that of the user's cache."""
    named = os.environ.get("SKYTELLS_CACHE_DIR")
    return Path(named).expanduser() if named else user_cache_dir()


def _absolute(folder: Path) -> Path:
    # Without a home folder platformdirs leaves ~ in the path, which would create a folder of that name.
    return folder.expanduser()
