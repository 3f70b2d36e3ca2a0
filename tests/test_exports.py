"""What the package promises by name."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys

import pandas as pd
import polars
import pytest

import skytells_nb as sky
from skytells_nb.session import Session


def test_public_names_are_sorted_and_there() -> None:
    """``__all__`` is the whole surface, in order, and each name can be had."""
    assert sky.__all__ == sorted(sky.__all__)
    assert [name for name in sky.__all__ if getattr(sky, name, None) is None] == []


def test_completion_offers_the_public_names() -> None:
    """``sky.<Tab>`` shows what there is and nothing else."""
    assert dir(sky) == sorted(sky.__all__)


@pytest.mark.parametrize("name", ["plots", "widgets", "files", "columns"])
def test_completion_of_a_part_offers_its_public_names(name: str) -> None:
    """``sky.plots.<Tab>`` too."""
    part = importlib.import_module(f"skytells_nb.{name}")

    assert dir(part) == part.__all__
    assert len(part.__all__) > 1


def test_the_base_of_all_errors_is_at_the_top() -> None:
    """``except sky.SkytellsError`` needs no other import."""
    assert sky.SkytellsError is sky.errors.SkytellsError


def test_the_typed_accessor_is_the_accessor(session: Session) -> None:
    """``sky.frame(df)`` is what ``df.skytells`` is, with a type."""
    frame = pd.DataFrame({"text": ["a", None]})

    assert type(sky.frame(frame)) is type(frame.skytells)
    assert type(sky.series(frame["text"])) is type(frame["text"].skytells)
    assert sky.frame(frame).estimate("{text}").distinct == 1


@pytest.mark.parametrize("name", ["frame", "series"])
def test_the_examples_of_the_typed_accessor_run(session: Session, name: str) -> None:
    """Each with the result in its docstring."""
    (found,) = doctest.DocTestFinder(recurse=False).find(getattr(sky, name), name, globs=dict(vars(sky)))

    assert doctest.DocTestRunner().run(found) == doctest.TestResults(0, 2)


@pytest.mark.parametrize(
    ("function", "value", "reason"),
    [
        ("frame", pd.Series(["a"]), "df must be a pandas DataFrame, got pandas.Series."),
        ("frame", polars.DataFrame({"a": [1]}), "df must be a pandas DataFrame, got polars.DataFrame."),
        ("frame", [1], "df must be a pandas DataFrame, got list."),
        ("series", pd.DataFrame(), "s must be a pandas Series, got pandas.DataFrame."),
        ("series", None, "s must be a pandas Series, got NoneType."),
    ],
)
def test_the_typed_accessor_takes_pandas_only(function: str, value: object, reason: str) -> None:
    with pytest.raises(sky.errors.InputError, match=f"^{re.escape(reason)}$"):
        getattr(sky, function)(value)


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
    """With all extras installed every module can be imported."""
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
