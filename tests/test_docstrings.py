"""What users call is documented in numpydoc's sections, and the examples are true."""

from __future__ import annotations

import doctest
import importlib
import inspect
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
from skytells_nb.client.chat import Completions
from skytells_nb.client.embeddings import Embeddings
from skytells_nb.client.models import Models
from skytells_nb.client.responses import Responses
from skytells_nb.client.streaming import Stream
from skytells_nb.session import Session

CHECKS = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["tool"]["numpydoc_validation"]
ENDPOINTS = (Completions, Responses, Embeddings, Models)
"""Classes of which users have objects and make none."""
PARTS = ("plots", "widgets", "files", "columns", "errors")
INTERNAL = ("ask_price", "engine_for", "new_client", "record", "record_run", "record_safety", "revise_report")
"""Methods of a session that only the packages above it call."""


def members(kind: type) -> Iterator[tuple[str, Any]]:
    """Public functions and properties of a class that are ours."""
    for name, member in inspect.getmembers_static(kind):
        owner = member.fget if isinstance(member, property) else member
        ours = isinstance(owner, types.FunctionType) and owner.__module__.startswith("skytells_nb")
        if ours and not name.startswith("_") and not (kind is Session and name in INTERNAL):
            yield f"{kind.__name__}.{name}", member


def public() -> dict[str, Any]:
    """Everything that is documented for users, by name."""
    found: dict[str, Any] = {name: getattr(sky, name) for name in sky.__all__}
    found["AnswerStream"] = Stream
    for part in PARTS:
        module = importlib.import_module(f"skytells_nb.{part}")
        found |= {f"{part}.{name}": getattr(module, name) for name in module.__all__}
    callables = {name: value for name, value in found.items() if callable(value)}
    classes = [*ENDPOINTS, *(kind for kind in callables.values() if isinstance(kind, type))]
    return callables | {name: member for kind in classes for name, member in members(kind)}


PUBLIC = public()


def as_written(documented: Any) -> Any:
    """A function with the signature in its source, without the options that are expanded from a typed dictionary."""
    if not hasattr(documented, "__signature__") or not isinstance(documented, types.FunctionType):
        return documented
    code, around = documented.__code__, documented.__globals__
    plain = types.FunctionType(code, around, documented.__name__, documented.__defaults__, documented.__closure__)
    plain.__kwdefaults__, plain.__doc__ = documented.__kwdefaults__, documented.__doc__
    return plain


def problems(name: str) -> list[tuple[str, str]]:
    documented = PUBLIC[name]
    found = validate(get_doc_object(as_written(documented)))["errors"]
    is_error = isinstance(documented, type) and issubclass(
        documented, (BaseException, errors.Retryable, errors.AccountError)
    )
    method = name.partition(".")[0][:1].isupper() and "." in name
    checks = set(CHECKS["checks"]) - ({"EX01"} if is_error or method else set())
    if is_error and "__init__" not in vars(documented):
        checks -= {"PR01"}  # as its base class says
    return [(code, message) for code, message in found if code in checks]


@pytest.mark.parametrize("name", PUBLIC)
def test_sections_are_complete(name: str) -> None:
    assert problems(name) == []


def test_sections_that_are_missing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def undocumented(frame: object) -> int:
        """Return a number."""
        return 1

    monkeypatch.setitem(PUBLIC, "undocumented", undocumented)
    assert {code for code, _ in problems("undocumented")} == {"PR01", "RT01", "EX01"}


def test_the_names_are_those_of_the_design() -> None:
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
"""Those that no other test runs."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_true(name: str, session: Session, chat_weights: Path) -> None:
    documented = PUBLIC[name]
    module = inspect.getmodule(documented.fget if isinstance(documented, property) else documented)
    around = {**vars(module or sys.modules[__name__]), "client": session.client, "session": session}
    tests = doctest.DocTestFinder(recurse=False).find(documented, name, globs=around)
    results = [doctest.DocTestRunner().run(test) for test in tests]
    assert sum(result.failed for result in results) == 0
