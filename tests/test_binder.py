"""The Binder environment: files that repo2docker accepts, and the same requirements as the package."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BINDER = ROOT / "binder"


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_scripts_can_be_executed(name: str) -> None:
    """repo2docker runs both by their name: they carry the executable bit, a shebang and valid bash."""
    script = BINDER / name

    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/bash\n")
    assert subprocess.run(["bash", "-n", script], timeout=30).returncode == 0


def test_start_ends_in_the_command_it_was_given() -> None:
    """A start script that does not exec its arguments is only ever seen as a failed launch."""
    assert (BINDER / "start").read_text().rstrip().splitlines()[-1] == 'exec "$@"'


@pytest.mark.parametrize(
    ("key", "expected"), [("", "local"), ("sk-of-the-visitor", "")], ids=["without a key", "with a key"]
)
def test_start_answers_locally_only_without_a_key(key: str, expected: str, tmp_path: Path) -> None:
    """A visitor with a key never gets responses of the small models unnoticed."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "SKYTELLS_API_KEY": key}
    command = ["printenv", "SKYTELLS_BASE_URL"]

    shown = subprocess.run(
        [BINDER / "start", *command], env=environment, capture_output=True, text=True, timeout=30, check=False
    )

    assert shown.stdout.strip() == expected


def test_start_hands_its_arguments_on_unchanged(tmp_path: Path) -> None:
    """Arguments with spaces reach the command as they were."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    shown = subprocess.run(
        [BINDER / "start", "printf", "%s|", "a b", "c"], env=environment, capture_output=True, text=True, timeout=30
    )

    assert (shown.returncode, shown.stdout) == (0, "a b|c|")


def test_requirements_are_those_of_the_package() -> None:
    """The list that Binder caches is what ``pip install '.[all]'`` would ask for, version for version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    included = extras["all"][0].partition("[")[2].rstrip("]").split(",")
    wanted = {*project["dependencies"], *(line for extra in included for line in extras[extra])}

    lines = (BINDER / "requirements.txt").read_text().splitlines()

    assert {line for line in lines if line and not line.startswith("#")} == wanted


def test_the_runtime_is_a_python_the_package_supports() -> None:
    """repo2docker reads ``python-3.x``; the package needs 3.11."""
    kind, _, version = (BINDER / "runtime.txt").read_text().strip().partition("-")

    assert kind == "python"
    assert tuple(map(int, version.split("."))) >= (3, 11)


def test_there_is_one_binder_folder() -> None:
    """repo2docker refuses a repository with both ``binder`` and ``.binder``."""
    assert not (ROOT / ".binder").exists()
