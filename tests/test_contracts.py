"""The floors of the house hold, and nothing stands outside them."""

from __future__ import annotations

import ast
import configparser
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "skytells_nb"
ONLY = {
    "wiring": {"session", "config", "local"},
    "figures": {"plots", "demo"},
    "network": {"transport", "client"},
}
"""Contracts of the kind "only these may": everyone else must be named as one who may not."""


def contracts() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def rooms() -> set[str]:
    """The folders and modules right below the package."""
    return {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()} - {
        "__init__"
    }


def test_imports_keep_the_contracts() -> None:
    """import-linter, as ``make check`` runs it."""
    shown = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert shown.returncode == 0, shown.stdout


def test_every_room_has_a_floor() -> None:
    """A new folder or module is put on a floor before anything else."""
    layers = contracts()["importlinter:contract:floors"]["layers"].replace("|", " ").split()

    assert set(layers) == rooms()


@pytest.mark.parametrize("contract", ONLY)
def test_a_contract_for_the_few_names_everyone_else(contract: str) -> None:
    """A room that is missing from the list could do what only the few may."""
    sources = contracts()[f"importlinter:contract:{contract}"]["source_modules"].split()

    assert {name.removeprefix("skytells_nb.") for name in sources} == rooms() - ONLY[contract]


def test_the_local_skytells_may_know_two_rooms_only() -> None:
    """Everything but ``wire`` and ``errors`` is named as forbidden to it."""
    forbidden = contracts()["importlinter:contract:local"]["forbidden_modules"].split()

    assert {name.removeprefix("skytells_nb.") for name in forbidden} == rooms() - {"local", "wire", "errors"}


def code_lines(path: Path) -> int:
    """Lines of a module apart from its docstrings, whose sections are as long as a signature is."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    return len(path.read_text().splitlines()) - sum((node.end_lineno or 0) - node.lineno + 1 for node in first)


def test_a_module_is_short_enough_to_be_one_concept() -> None:
    """Past 400 lines of code there is a second concept in it."""
    lengths = {path.relative_to(ROOT): code_lines(path) for path in PACKAGE.rglob("*.py")}

    assert lengths[Path("skytells_nb/session.py")] > 250
    assert {str(path): length for path, length in lengths.items() if length > 400} == {}


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
