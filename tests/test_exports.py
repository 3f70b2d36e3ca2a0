"""What the package promises by name."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import skytells_nb as sky


def test_public_names_are_sorted_and_there() -> None:
    """``__all__`` is the whole surface, in order, and each name can be had."""
    assert sky.__all__ == sorted(sky.__all__)
    assert [name for name in sky.__all__ if getattr(sky, name, None) is None] == []


def test_completion_offers_the_public_names() -> None:
    """``sky.<Tab>`` shows what there is and nothing else."""
    assert dir(sky) == sorted(sky.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Lazy loading does not swallow typing errors."""
    with pytest.raises(AttributeError, match="conect"):
        sky.conect  # noqa: B018


def test_star_import_gives_the_public_names() -> None:
    """Lazy names come along."""
    names: dict[str, object] = {}

    exec("from skytells_nb import *", names)

    assert set(sky.__all__) <= set(names)


def test_every_module_can_be_imported() -> None:
    """With all extras installed there is no module that cannot be loaded."""
    found = [m.name for m in pkgutil.walk_packages(sky.__path__, "skytells_nb.") if not m.name.endswith("__main__")]

    for name in found:
        importlib.import_module(name)

    assert len(found) > 50


def test_lists_of_exports_are_true() -> None:
    """Every ``__all__`` of every module names what is there, sorted."""
    for module in pkgutil.walk_packages(sky.__path__, "skytells_nb."):
        if module.name.endswith("__main__"):
            continue
        loaded = importlib.import_module(module.name)
        names = list(getattr(loaded, "__all__", ()))
        assert names == sorted(names), module.name
        assert [name for name in names if not hasattr(loaded, name)] == [], module.name


def test_the_module_runs_as_a_program() -> None:
    """``python -m skytells_nb --version`` says the version and nothing else."""
    shown = subprocess.run(
        [sys.executable, "-m", "skytells_nb", "--version"], capture_output=True, text=True, timeout=60, check=True
    )

    assert shown.stdout == f"skytells-nb {sky.__version__}\n"
