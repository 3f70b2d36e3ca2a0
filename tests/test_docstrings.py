"""Docstrings of the public API have the sections of numpydoc, and their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import skytells_nb as sky
from skytells_nb import errors
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.client.chat import Completions
from skytells_nb.client.embeddings import Embeddings
from skytells_nb.client.models import Models
from skytells_nb.client.responses import Responses
from skytells_nb.client.streaming import Stream
from skytells_nb.session import Session

CHECKS = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]
UNEXPORTED = (Completions, Responses, Embeddings, Models, FrameAccessor, SeriesAccessor)
"""Classes whose instances users receive but do not create."""
PARTS = ("plots", "widgets", "files", "columns", "errors")
INTERNAL = ("fetch_price", "engine_for", "new_client", "record", "record_run", "record_safety", "revise_report")
"""Methods of a session for the packages above it, not for users."""


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public functions and properties of a class that this package defines."""
    for name, member in inspect.getmembers_static(kind):
        owner = member.fget if isinstance(member, property) else member
        is_own = isinstance(owner, types.FunctionType) and owner.__module__.startswith("skytells_nb")
        if is_own and not name.startswith("_") and not (kind is Session and name in INTERNAL):
            yield f"{kind.__name__}.{name}", member


def public() -> dict[str, Any]:
    """All documented public objects by name."""
    objects: dict[str, Any] = {name: getattr(sky, name) for name in sky.__all__}
    objects["AnswerStream"] = Stream
    for module_name in PARTS:
        module = importlib.import_module(f"skytells_nb.{module_name}")
        objects |= {f"{module_name}.{name}": getattr(module, name) for name in module.__all__}
    callables = {name: value for name, value in objects.items() if callable(value)}
    classes = [*UNEXPORTED, *(kind for kind in callables.values() if isinstance(kind, type))]
    return callables | {name: member for kind in classes for name, member in members(kind)}


PUBLIC = public()


def with_source_signature(documented: Any) -> Any:
    """A function with the signature of its source, where its docstring does not list the expanded options."""
    expanded = hasattr(documented, "__signature__") and not hasattr(documented, "__options__")
    if not expanded or not isinstance(documented, types.FunctionType):
        return documented
    code, namespace = documented.__code__, documented.__globals__
    plain = types.FunctionType(code, namespace, documented.__name__, documented.__defaults__, documented.__closure__)
    plain.__kwdefaults__, plain.__doc__ = documented.__kwdefaults__, documented.__doc__
    return plain


def problems(name: str) -> list[tuple[str, str]]:
    documented = PUBLIC[name]
    violations = validate(get_doc_object(with_source_signature(documented)))["errors"]
    is_error = isinstance(documented, type) and issubclass(
        documented, (BaseException, errors.Retryable, errors.AccountError)
    )
    method = name.partition(".")[0][:1].isupper() and "." in name
    checks = set(CHECKS["checks"]) - ({"EX01"} if is_error or method else set())
    if is_error and "__init__" not in vars(documented):
        checks -= {"PR01"}  # documented by its base class
    return [(code, message) for code, message in violations if code in checks]


@pytest.mark.parametrize("name", PUBLIC)
def test_sections_are_complete(name: str) -> None:
    assert problems(name) == []


def test_missing_sections_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def undocumented(frame: object) -> int:
        """Return a number."""
        return 1

    monkeypatch.setitem(PUBLIC, "undocumented", undocumented)
    assert {code for code, _ in problems("undocumented")} == {"PR01", "RT01", "EX01"}


def test_public_names_are_complete() -> None:
    assert {"connect", "Skytells", "Completions.create", "plots.semantic_map", "ChatPanel.send", "files.read"} <= set(
        PUBLIC
    )
    assert len(PUBLIC) > 100


EXAMPLES = [
    *("connect", "current", "Session", "frame", "series", "errors.api_error", "plots.summary"),
    *(name for name in PUBLIC if name.startswith(("Session.", "ChatPanel.", "columns."))),
    *("widgets.ChatPanel", "Completions.create", "Responses.create", "Embeddings.create", "AnswerStream"),
    *("Models.list", "Models.retrieve"),
]
"""Examples that no other test runs."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run(name: str, session: Session, chat_weights: Path) -> None:
    documented = PUBLIC[name]
    module = inspect.getmodule(documented.fget if isinstance(documented, property) else documented)
    namespace = {**vars(module or sys.modules[__name__]), "client": session.client, "session": session}
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, globs=namespace)
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.failed for result in results) == 0


MODULES = [info.name for info in pkgutil.walk_packages(sky.__path__, "skytells_nb.") if "__main__" not in info.name]
WITH_MODELS = ("local.embedder", "local.generation.generator", "local.moderation.moderator")
MODULES = [pytest.param(name, marks=pytest.mark.slow) if name.endswith(WITH_MODELS) else name for name in MODULES]


@pytest.mark.parametrize("module_name", MODULES)
def test_examples_of_a_module_run(module_name: str, session: Session) -> None:
    """Those of what is not public; they are what other developers read first."""
    owners = [getattr(each, "fget", each) for each in PUBLIC.values()]
    public_names = {f"{getattr(each, '__module__', '')}.{getattr(each, '__qualname__', '')}" for each in owners}
    examples = doctest.DocTestFinder().find(importlib.import_module(module_name), module_name)
    report: list[str] = []
    for example in examples:
        if example.name not in public_names:
            doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)
