"""What the docstrings of the charts show is what they do."""

from __future__ import annotations

import doctest
import importlib
import sys
from typing import Any

import pytest

from skytells_nb import plots

MODULES = ("clusters", "principal", "project", "quality", "stages", "theme")


def ran(documented: Any, name: str, around: dict[str, Any]) -> int:
    """The examples of a docstring that ran, all of them with the result that stands there."""
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, globs=around)
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.failed for result in results) == 0
    return sum(result.attempted for result in results)


@pytest.mark.parametrize("name", [name for name in plots.__all__ if name != "summary"])
def test_every_chart_has_an_example_that_runs(name: str) -> None:
    """A figure, or its words, from a frame of a line or two."""
    chart = getattr(plots, name)
    assert ran(chart, name, dict(vars(sys.modules[chart.__module__]))) > 0


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_what_charts_are_made_of_run(name: str) -> None:
    """Those of functions and classes that a module of the room defines."""
    module = importlib.import_module(f"skytells_nb.plots.{name}")
    own = {k: v for k, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
    documented = {key: found for key, found in own.items() if getattr(found, "__doc__", None)}
    assert sum(ran(found, key, dict(vars(module))) for key, found in documented.items()) > 0


def test_the_explorers_example_runs() -> None:
    """A selection of three rows."""
    from skytells_nb.widgets.explorer.explorer import Explorer

    assert ran(Explorer, "Explorer", {"Explorer": Explorer}) > 0
