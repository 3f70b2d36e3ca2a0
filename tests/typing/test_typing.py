"""Type checkers read the package as a user's editor does: correct use passes, mistakes are found where they stand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import skytells_nb as sky
from skytells_nb import columns, files, plots, widgets
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
USES = HERE / "uses.py"
MISUSES = HERE / "misuses.py"
MARKED = {number for number, line in enumerate(MISUSES.read_text().splitlines(), 1) if line.endswith("# E")}
PARTS: dict[str, Any] = {"sky": sky, "plots": plots, "widgets": widgets, "files": files, "columns": columns}
CHECKERS = ("mypy", "pyright")

Found = Mapping[Path, Mapping[int, str]]
"""What a checker says of each file, by line."""


def run(*command: str | Path) -> str:
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=540, check=False)
    assert shown.returncode == 1, f"{command[0]} should have found the mistakes:\n{shown.stdout}\n{shown.stderr}"
    return shown.stdout


def mypy(cache: Path) -> Found:
    """mypy --strict, with a cache that no other process writes at the same time."""
    found: dict[Path, dict[int, str]] = {USES: {}, MISUSES: {}}
    shown = run(
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--hide-error-context",
        "--cache-dir",
        cache,
        USES,
        MISUSES,
    )
    for line in shown.splitlines():
        place = re.match(r"(.+?):(\d+): error: (.*)", line)
        if place:
            found.setdefault(ROOT / place[1], {})[int(place[2])] = place[3]
    return found


def pyright() -> Found:
    """Pyright in strict mode, from the package that brings its own node."""
    found: dict[Path, dict[int, str]] = {USES: {}, MISUSES: {}}
    program = Path(sys.executable).with_name("basedpyright")
    shown = run(program, "--project", HERE, "--pythonpath", sys.executable, "--outputjson")
    report: dict[str, Any] = json.loads(shown)
    for entry in report["generalDiagnostics"]:
        if entry["severity"] == "error":
            found.setdefault(Path(entry["file"]), {})[entry["range"]["start"]["line"] + 1] = entry["message"]
    return found


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """What each checker found, asked once."""
    return {"mypy": mypy(tmp_path_factory.mktemp("mypy")), "pyright": pyright()}


# One worker: the checkers are asked once, and the tests that wait for them do not take the place of others.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("typing")]


@pytest.mark.parametrize("checker", CHECKERS)
def test_correct_use_of_every_public_name_passes(checked: dict[str, Found], checker: str) -> None:
    assert checked[checker][USES] == {}


@pytest.mark.parametrize("checker", CHECKERS)
def test_every_mistake_is_found_where_it_stands(checked: dict[str, Found], checker: str) -> None:
    found = checked[checker][MISUSES]
    assert {number: found[number] for number in found.keys() - MARKED} == {}
    assert MARKED - found.keys() == set()


@pytest.mark.parametrize("checker", CHECKERS)
def test_no_other_file_is_complained_about(checked: dict[str, Found], checker: str) -> None:
    assert set(checked[checker]) == {USES, MISUSES}


@pytest.mark.parametrize("part", PARTS)
def test_the_script_uses_every_public_name(part: str) -> None:
    """A name that is added is added there."""
    text, module = USES.read_text(), PARTS[part]
    used = {name for name in module.__all__ if re.search(rf"\b(sky|{part})(\.\w+)*\.{name}\b", text)}
    assert set(module.__all__) - used == set()


@pytest.mark.parametrize("accessor", [FrameAccessor, SeriesAccessor])
def test_the_script_uses_every_method_of_the_accessor(accessor: type) -> None:
    text = USES.read_text()
    assert [name for name in dir(accessor) if name[0] != "_" and not re.search(rf"\.{name}\b", text)] == []
