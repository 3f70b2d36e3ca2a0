"""Select the tests that cover a module by the names of folders and files and by imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

EXAMPLES = "tests/test_docstrings.py::test_examples_of_a_module_run"
NEAREST = 2
"""Files before the examples, which take longer to collect."""


def tests_for(root: Path, path: str, names: Sequence[str]) -> list[str]:
    """Test files for a module, best first: those with its name, those that import it or a module that does, those in
    the mirrored folder; after the first files the examples in the docstrings of the module.

    Among those with its name and those that import it, files that name one of ``names`` come before others.
    """
    module = Path(path)
    tests = root / "tests"
    parts = list(module.with_suffix("").parts)
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    stem = parts[-1] if parts[-1] != "__init__" else parts[-2]
    folder = tests.joinpath(*parts[1:-1])
    while not folder.is_dir():
        folder = folder.parent
    all_tests = _tests(tests)
    candidates = [file for file in all_tests if (file.parent == tests if folder == tests else folder in file.parents)]
    importing = [file for file in all_tests if name in _imports(file)]
    same_name = [file for file in candidates if stem.strip("_") in file.stem]
    # Tests of the command line, documents and packages import no module: they come last.
    mirrored = sorted(candidates, key=lambda file: -_text(file).count(stem.strip("_s"))) if folder != tests else []
    users = [file for file in all_tests if any(one.startswith(f"{name}.") for one in _imports(file))]
    near = [*same_name, *importing]
    named = [file for each in names for file in near if re.search(rf"\b{re.escape(each)}\b", _text(file))]
    importers = _importers(root, name)
    own = {
        tests.joinpath(*each.split(".")[1:-1], f"test_{each.rpartition('.')[2].strip('_')}.py") for each in importers
    }
    through = [file for file in all_tests if file in own or not _imports(file).isdisjoint(importers)]
    through.sort(key=lambda file: file not in own)
    order = [*same_name[:1], *named, *near, *through, *mirrored, *users] or candidates
    files = [file.relative_to(root).as_posix() for file in dict.fromkeys(order)]
    examples = [f"{EXAMPLES}[{name}]"] if ">>>" in _text(root / path) else []
    return [*dict.fromkeys([*files[:NEAREST], *examples, *files[NEAREST:]])]


@cache
def _importers(root: Path, name: str) -> list[str]:
    """The modules of the package that import this one."""
    package, _, _ = name.partition(".")
    files = [file for file in sorted((root / package).rglob("*.py")) if name in _imports(file)]
    return [".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files]


@cache
def _tests(folder: Path) -> list[Path]:
    return sorted(folder.rglob("test_*.py"))


@cache
def _text(file: Path) -> str:
    return file.read_text("utf-8")


@cache
def _imports(file: Path) -> frozenset[str]:
    """Modules that a file imports, and the names that it imports from them, as dotted names."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(_text(file))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)
