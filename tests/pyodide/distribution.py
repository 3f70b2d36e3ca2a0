"""Pyodide with its packages as its public address has them, and wheels of packages of this environment.

No registry has Pyodide's builds of nh3 and rpds-py: in their places are stand-ins, in Python. Packages that are Python
throughout, or have what is not in Python too, are those of this environment.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

HERE = Path(__file__).parent
PYODIDE = HERE.parent / "page" / "node_modules" / "pyodide"
PACKAGES = HERE / "packages"
CORE = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip")
NEEDED = ("ipython", "jinja2", "jsonschema", "narwhals", "nh3", "packaging")
"""What is asked for by name, beside what ``fetch.py`` brings: each is in Pyodide's list."""

# The test's answers have no markup for it to remove, which this makes sure of.
NH3 = """
def clean(html, **options):
    assert "<script" not in html and " on" not in html.partition(">")[0]
    return html
"""
RPDS = "from pyrsistent_as_rpds.pure import HashTrieMap, HashTrieSet, List\n"


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packed(name: str, folder: Path, without: str = r"\.so$") -> Path:
    """A wheel of a package of this environment, without the files whose name matches."""
    found = importlib.metadata.distribution(name)
    wheel = folder / f"{re.sub(r'[-.]+', '_', found.metadata['Name']).lower()}-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in found.files or ():
            inside = re.sub(r"^(\.\./)+", f"{wheel.name.rsplit('-', 3)[0]}.data/data/", file.as_posix())
            kept = file.suffix != ".pyc" and "/data/bin/" not in inside and not re.search(without, inside)
            if kept and file.locate().is_file():
                archive.write(str(file.locate()), inside)
    return wheel


def _written(name: str, version: str, files: dict[str, str], folder: Path) -> Path:
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (
            files | {f"{name}-{version}.dist-info/{file}": text for file, text in about.items()}
        ).items():
            archive.writestr(path, text)
    return wheel


def _from_here(name: str) -> set[str]:
    """What a package of this environment needs here, without its extras."""
    needs = map(Requirement, importlib.metadata.requires(name) or ())
    return {normalized(need.name) for need in needs if not need.marker or need.marker.evaluate({"extra": ""})}


def lay_out(folder: Path) -> Path:
    """Fill ``folder`` with what a page loads from Pyodide's address, and return the file that it loads first."""
    for name in CORE:
        shutil.copy(PYODIDE / name, folder)
    listed = json.loads((PYODIDE / "pyodide-lock.json").read_text("utf-8"))
    known = {normalized(name): package for name, package in listed["packages"].items()}
    python = {str(file.relative_to(PACKAGES / "python")): file for file in (PACKAGES / "python").rglob("*.py")}
    fetched = {wheel.name for wheel in PACKAGES.glob("*.whl")}
    packages: dict[str, Any] = {}
    waiting = [*NEEDED, *(name for name, package in known.items() if package["file_name"] in fetched)]
    while waiting:
        name = waiting.pop()
        if name in packages:
            continue
        package = known.get(name) or {"name": name, "imports": [name], "install_dir": "site", "package_type": "package"}
        if package.get("file_name") in fetched:
            wheel, needs = Path(shutil.copy(PACKAGES / package["file_name"], folder)), package["depends"]
        elif name == "nh3":
            wheel, needs = _written(name, package["version"], {"nh3.py": NH3}, folder), ()
        elif name == "rpds-py":
            files = {path: file.read_text("utf-8") for path, file in python.items()} | {"rpds/__init__.py": RPDS}
            wheel, needs = _written("rpds_py", package["version"], files, folder), ()
        else:
            wheel, needs = packed(name, folder), _from_here(name)
        packages[name] = {
            **package,
            "file_name": wheel.name,
            "version": wheel.name.split("-")[1],
            "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
            "depends": sorted(map(normalized, needs)),
            "unvendored_tests": False,
        }
        waiting += packages[name]["depends"]
    (folder / "pyodide-lock.json").write_text(json.dumps({**listed, "packages": packages}), "utf-8")
    return folder / "pyodide.mjs"


def wheels(names: Iterable[str], folder: Path) -> None:
    """Wheels of packages of this environment, without the scripts that only other places need."""
    for name in names:
        packed(name, folder, without=r"\.so$|package_data/.*\.js$|\.map$")
