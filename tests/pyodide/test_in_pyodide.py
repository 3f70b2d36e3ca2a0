"""The package in Pyodide itself: Python of a browser, here in Node.js, with its builds of numpy, pandas and pydantic.

Not here: nh3, whose build for Pyodide is on no registry. So cells with magics are left out, which
``tests/test_without_threads.py`` runs under a browser's conditions.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
from packaging.requirements import Requirement

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYODIDE = HERE.parent / "page" / "node_modules" / "pyodide"
PACKAGES = HERE / "packages"
CI = os.environ.get("CI", "").lower() in ("1", "true")
LOADED = ("numpy", "pandas", "pydantic", "httpx", "platformdirs", "threadpoolctl", "typing-extensions")
PURE = (
    *("pydantic_settings", "dotenv", "jsonschema", "jsonschema_specifications", "referencing", "attr", "attrs"),
    *("jinja2", "markupsafe", "plotly", "_plotly_utils", "narwhals", "packaging"),
)
"""Packages of this environment that are Python throughout, or have what is not in Python too."""
NEWER_HERE = {"pyarrow"}
"""What Pyodide has in an older version than an extra asks for, so that the extra cannot be had there."""


def _missing(what: str) -> None:
    message = f"{what}, so nothing was tried in Pyodide (make test fetches it where npm is installed)"
    if CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
def pyodide() -> Path:
    if not (PYODIDE / "pyodide-lock.json").exists():
        _missing("Pyodide is not there")
    return PYODIDE


def _run(pyodide: Path) -> dict[str, Any]:
    """What ``program.py`` saw in Pyodide."""
    node = shutil.which("node")
    if node is None:
        _missing("Node.js is not installed")
    if not (PACKAGES / ".installed").exists():
        # Also in CI: they come out of another project's file, which its registry may no longer have one day.
        pytest.skip("Pyodide's builds of numpy and pandas could not be fetched, so nothing was tried in Pyodide")
    site, inside = Path(sysconfig.get_path("purelib")), "/lib/python3.14/site-packages"
    folders = [site / name for name in PURE] + list(site.glob("plotly-*.dist-info"))  # plotly looks up its own version
    mounts = {f"{inside}/{folder.name}": str(folder) for folder in folders if folder.exists()}
    mounts |= {
        f"{inside}/skytells_nb": str(ROOT / "skytells_nb"),
        "/more": str(PACKAGES / "python"),
        "/notebooks": str(ROOT / "notebooks"),
        "/recordings": str(HERE),
    }
    wanted = {
        "pyodide": str(pyodide),
        "packages": str(PACKAGES),
        "load": LOADED,
        "mounts": mounts,
        "program": str(HERE / "program.py"),
    }
    done = subprocess.run(
        [str(node), str(HERE / "run.mjs"), json.dumps(wanted)],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _plain(output: Any) -> str:
    text: str = output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]
    return text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_tutorials_replay_in_pyodide(pyodide: Path) -> None:
    """Cells without a magic run from the recording, and those of the replay tutorial show what it is saved with.

    A map by PCA has a point for each message; what cannot work there ends at once and says what does.
    """
    said = _run(pyodide)
    assert said["platform"] == "emscripten"
    assert "thread" in said["thread"]
    assert said["failed"] == {}
    saved = {
        f"02_replay {cell['id']}": "".join(map(_plain, cell["outputs"]))
        for cell in nbformat.read(ROOT / "notebooks" / "02_replay.ipynb", 4).cells
        if cell["cell_type"] == "code" and not cell["source"].startswith("%")
    }
    assert {name: text for name, text in said["cells"].items() if name in saved} == saved
    enriched = said["cells"]
    assert re.search(r"cached +8\nrequests +0", enriched["05_enrich_a_frame again"])
    assert "8 distinct, 8 cached, 0 requests" in enriched["05_enrich_a_frame dry-run"]
    assert said["points"] == 19
    assert said["missed"][0] == "ReplayMissError"
    assert said["umap"][0] == "MissingExtraError"
    assert 'method="pca"' in said["umap"][1]
    assert said["local"][0] == "MissingExtraError"
    assert said["live"][0] == "ConnectError"
    assert "has no sockets; replay a recording" in said["live"][1]
    assert said["column"][0] == "SkytellsError"
    assert "replay a recording" in said["column"][1]
    assert "test-key" not in json.dumps(said)
    assert "doctor" in said["help"]


def test_required_versions_are_in_pyodide(pyodide: Path) -> None:
    """No requirement asks for more than Pyodide has, but for one extra; what it has not at all is Python to install."""
    listed = json.loads((pyodide / "pyodide-lock.json").read_text("utf-8"))["packages"]
    versions = {re.sub(r"[-_.]+", "-", name).lower(): package["version"] for name, package in listed.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [Requirement(text) for text in project["dependencies"]]
    asked = [
        *needed,
        *(Requirement(text) for name in ("notebook", "plots", "arrow", "statistics") for text in extras[name]),
    ]
    too_old = {wish.name for wish in asked if wish.name in versions and versions[wish.name] not in wish.specifier}

    assert too_old == NEWER_HERE
    assert {wish.name for wish in needed} - versions.keys() == {"pydantic-settings"}
