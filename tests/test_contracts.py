"""The layers, names and sizes that ARCHITECTURE.md promises of the package."""

from __future__ import annotations

import ast
import configparser
import re
import socket
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "skytells_nb"
EXCEPTIONS = {
    "wiring": {"session", "config", "local"},
    "network": {"client"},
    "notebook": {"__main__", "accessor", "cli", "dask", "magics", "partition", "polars", "widgets"},
    "frames": {
        *(
            "__main__",
            "accessor",
            "cli",
            "columns",
            "dask",
            "embedding_columns",
            "files",
            "magics",
            "partition",
            "plots",
            "polars",
            "widgets",
        )
    },
}
"""Contracts of the kind "only these may": every other part must be named as one that may not."""
LOCAL_MAY_IMPORT = {"local", "types", "errors", "error_bodies", "sanitize", "user_dirs"}
MAX_ENTRIES = 16
MAX_LINES = 500


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def layer_contracts() -> dict[str, configparser.SectionProxy]:
    """The contracts of layers, by the package whose inside they order."""
    sections = (section for section in contracts().values() if section.get("type") == "layers")
    return {container: section for section in sections for container in section["containers"].split()}


def names_in(layers: str) -> list[str]:
    """The modules of a contract's layers."""
    return layers.replace("|", " ").replace(":", " ").split()


def parts_of(folder: Path) -> set[str]:
    """The modules and packages in a package's folder."""
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    return modules | {path.parent.name for path in folder.glob("*/__init__.py")}


def packages() -> list[Path]:
    """The folders of the package and of every package in it."""
    return sorted(path.parent for path in PACKAGE.rglob("__init__.py"))


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Each module's path in the repository, and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def test_imports_keep_the_contracts() -> None:
    """import-linter, as ``make check`` runs it."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_package_has_layers() -> None:
    """A package with modules has a contract that orders all of them."""
    ordered = layer_contracts()
    expected = {".".join(folder.relative_to(ROOT).parts): parts_of(folder) for folder in packages()}
    expected = {name: parts for name, parts in expected.items() if len(parts) > 1}

    assert {name: set(names_in(section["layers"])) for name, section in ordered.items()} == expected
    assert {name: section["exhaustive"] for name, section in ordered.items()} == dict.fromkeys(expected, "True")


def test_the_layers_are_those_of_the_architecture() -> None:
    """ARCHITECTURE.md lists each part of the package once, in the order of the contract's layers."""
    table = (ROOT / "ARCHITECTURE.md").read_text().split("## Layers", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    documented = [name for _, cell, *_ in rows[2:] for name in re.findall(r"`(\w+)`", cell)]
    layers = layer_contracts()["skytells_nb"]["layers"].split("\n")
    depth = {name: number for number, layer in enumerate(layers) for name in names_in(layer)}

    assert sorted(documented) == sorted(parts_of(PACKAGE))
    assert [depth[name] for name in documented] == sorted(depth.values())


@pytest.mark.parametrize("contract", EXCEPTIONS)
def test_a_contract_for_some_names_all_others(contract: str) -> None:
    """A part that is missing from the list could do what only the exceptions may."""
    sources = contracts()[f"importlinter:contract:{contract}"]["source_modules"].split()

    assert {name.removeprefix("skytells_nb.") for name in sources} == parts_of(PACKAGE) - EXCEPTIONS[contract]


def test_only_the_plots_and_the_demo_import_plotly() -> None:
    """Of ``cli`` every module but the demo is named, of the rest every part but ``plots``."""
    sources = contracts()["importlinter:contract:figures"]["source_modules"].split()
    parts = parts_of(PACKAGE) - {"plots", "cli"} | {f"cli.{name}" for name in parts_of(PACKAGE / "cli") - {"demo"}}

    assert {name.removeprefix("skytells_nb.") for name in sources} == parts


def test_the_local_skytells_imports_types_and_errors_only() -> None:
    """Everything else is named as forbidden to it."""
    forbidden = contracts()["importlinter:contract:local-alone"]["forbidden_modules"].split()

    assert {name.removeprefix("skytells_nb.") for name in forbidden} == parts_of(PACKAGE) - LOCAL_MAY_IMPORT


def test_a_public_class_name_occurs_once() -> None:
    """A reader who searches for a class finds one."""
    places = defaultdict(list)
    for path, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(path)

    assert len(places) > 100
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_no_module_is_hidden_by_a_name_of_its_package() -> None:
    """A function ``save`` in a package's ``__init__`` would take the place of its module ``save``."""
    hidden = []
    for folder in packages():
        parts = parts_of(folder)
        package = ".".join(folder.relative_to(ROOT).parts)
        for node in ast.parse((folder / "__init__.py").read_text()).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names = {node.name}
            elif isinstance(node, ast.ImportFrom) and node.module != package:
                names = {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.Import):
                names = {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            else:
                continue
            hidden += [f"{package}.{name}" for name in names & parts]

    assert hidden == []


def test_a_folder_is_short_enough_to_read() -> None:
    """The listing of a sub-package is its table of contents."""
    entries = {
        folder.relative_to(ROOT).as_posix(): sorted(path.name for path in folder.iterdir() if path.name[:2] != "__")
        for folder in packages()
        if folder != PACKAGE
    }

    assert len(entries) > 20
    assert {folder: names for folder, names in entries.items() if len(names) + 1 > MAX_ENTRIES} == {}


def code_lines(text: str) -> int:
    """Lines of a module apart from its docstrings, whose sections are as long as a signature is."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, documented) and ast.get_docstring(node)]
    docstrings = [node.body[0] for node in nodes]
    return len(text.splitlines()) - sum((node.end_lineno or 0) - node.lineno + 1 for node in docstrings)


def test_docstrings_do_not_count_as_code() -> None:
    assert code_lines('"""Two\nlines."""\n\n\ndef f():\n    """One."""\n    return 1\n') == 4


def test_a_module_is_short_enough_to_be_one_concept() -> None:
    """Past 500 lines of code there is a second concept in it."""
    lengths = {path.relative_to(ROOT).as_posix(): code_lines(path.read_text()) for path in PACKAGE.rglob("*.py")}

    assert lengths["skytells_nb/session.py"] > 250
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_a_connection_that_leaves_this_machine_fails(blocked_connections: list[str]) -> None:
    """The guard of the tests: no request reaches the network, not even by accident."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as plug,
        pytest.raises(BaseException, match="only this machine"),
    ):
        plug.connect(("192.0.2.1", 80))

    assert blocked_connections == ["192.0.2.1:80"]
    blocked_connections.clear()


def test_a_datagram_that_leaves_this_machine_fails(blocked_connections: list[str]) -> None:
    """UDP too."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plug,
        pytest.raises(BaseException, match="only this machine"),
    ):
        plug.sendto(b"x", ("192.0.2.1", 9))

    blocked_connections.clear()


def test_the_makefile_names_tests_that_exist() -> None:
    named = set(re.findall(r"\btests/[\w/]+\.py", (ROOT / "Makefile").read_text("utf-8")))
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []
