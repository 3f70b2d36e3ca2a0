"""Fetch the packages that Python in Pyodide needs into ``packages``; run by ``make test``, once.

Wheels that Pyodide lists are taken only with the hash of its list, which comes with its npm package.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
PACKAGES = HERE / "packages"
PYODIDE = HERE.parent / "page" / "node_modules" / "pyodide"
WANTED = ("micropip", "numpy", "pandas", "pydantic", "httpx", "platformdirs", "threadpoolctl", "typing-extensions")


def listed() -> dict[str, dict[str, object]]:
    """Pyodide's list of its packages: file, hash and version of each, by name."""
    packages: dict[str, dict[str, object]] = json.loads((PYODIDE / "pyodide-lock.json").read_text("utf-8"))["packages"]
    return {normalized(name): package for name, package in packages.items()}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def wheels_of(names: tuple[str, ...]) -> dict[str, str]:
    """The wheels of packages and of what they depend on, each with its hash."""
    packages, found, waiting = listed(), {}, list(names)
    while waiting:
        package = packages[normalized(waiting.pop())]
        if package["file_name"] not in found:
            found[package["file_name"]] = package["sha256"]
            waiting += package["depends"]  # type: ignore[operator]
    return found  # type: ignore[return-value]


def main() -> int:
    if not PYODIDE.is_dir():
        print("Pyodide is not fetched: npm is not installed.")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        any_platform = ["--only-binary=:all:", "--platform=any", "--python-version=3.12", "--implementation=py"]
        options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--abi=none", f"--dest={folder}"]
        pip = [sys.executable, "-m", "pip", "download", *any_platform, *options]
        subprocess.run([*pip, "--require-hashes", f"--requirement={HERE / 'packages.txt'}"], check=True)
        shutil.rmtree(PACKAGES, ignore_errors=True)
        PACKAGES.mkdir()
        expected = wheels_of(WANTED)
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                inside = {Path(name).name: name for name in archive.namelist() if name.endswith(".whl")}
                if not inside:
                    archive.extractall(PACKAGES / "python")
                for name in inside.keys() & expected.keys():
                    content = archive.read(inside[name])
                    if hashlib.sha256(content).hexdigest() != expected[name]:
                        print(f"{name} is not the one that Pyodide lists.")
                        return 1
                    (PACKAGES / name).write_bytes(content)
        missing = [name for name in expected if not (PACKAGES / name).exists()]
        if missing:
            print(f"Not among what was fetched: {', '.join(missing)}; another version of Pyodide lists other wheels.")
            return 1
    (PACKAGES / ".installed").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
