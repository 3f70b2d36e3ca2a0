"""Examples in the docstrings of charts and of their helpers."""

from __future__ import annotations

import doctest
import importlib
import sys
from typing import Any

import pytest

from skytells_nb import plots

MODULES = ("maps.clusters", "maps.progress", "maps.projection", "maps.quality", "theme")


def run_examples(documented: Any, name: str, namespace: dict[str, Any]) -> int:
    """Run the examples of a docstring and return their number; none may fail."""
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, globs=namespace)
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.failed for result in results) == 0
    return sum(result.attempted for result in results)


@pytest.mark.parametrize("name", [name for name in plots.__all__ if name != "summary"])
def test_every_chart_has_an_example_that_runs(name: str) -> None:
    """Each public function of the package."""
    chart = getattr(plots, name)
    assert run_examples(chart, name, dict(vars(sys.modules[chart.__module__]))) > 0


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_helpers_run(name: str) -> None:
    """Functions and classes that a module of the package defines."""
    module = importlib.import_module(f"skytells_nb.plots.{name}")
    defined = {k: v for k, v in vars(module).items() if getattr(v, "__module__", None) == module.__name__}
    documented = {key: member for key, member in defined.items() if getattr(member, "__doc__", None)}
    assert sum(run_examples(member, key, dict(vars(module))) for key, member in documented.items()) > 0


def test_the_explorers_example_runs() -> None:
    """It selects three rows."""
    from skytells_nb.widgets.explorer.explorer import Explorer

    assert run_examples(Explorer, "Explorer", {"Explorer": Explorer}) > 0
