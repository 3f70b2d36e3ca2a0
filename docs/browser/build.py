"""Make the part of the site that runs tutorials in the reader's browser: ``python docs/browser/build.py FOLDER``.

JupyterLite's files, this package with what it needs beside Pyodide's own packages, and two notebooks with their
recordings. The page loads Pyodide itself from its public address. ``make docs`` calls this.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
JUPYTERLITE = ROOT / ".venv-lite" / "bin" / "jupyter-lite"
"""In an environment of its own: JupyterLab would load JupyterLite's kernel too, and cannot."""
PAGE = "https://skytells.github.io/skytells-nb/tutorials"

RECORDINGS = {
    "02_replay": ROOT / "notebooks" / "02_replay.sqlite",
    "05_enrich_a_frame": HERE / "05_enrich_a_frame.sqlite",
}
INTRODUCTION = """\
**In your browser.** Run the next cell first: it installs the package into this page, which may take a minute. Nothing
is installed on your machine, no key is needed, and each answer comes from a recording made on the local Skytells. What
was not recorded raises a `ReplayMissError`. [The same lesson with its outputs]({page}/{name}.html)"""
NOT_HERE = """\
## Not in the browser

Two parts of this lesson are left out here, as they need more than a recording: rows that fail, and files in Parquet.
They are on [its page]({page}/{name}.html)."""


def notebook_for_browser(name: str) -> dict[str, Any]:
    """Return a tutorial as it runs in a page: from its recording, without outputs, after a cell that installs."""
    notebook: dict[str, Any] = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
    cells = [{**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]]
    if name == "05_enrich_a_frame":
        cells = _without_what_is_not_recorded(cells, name)
    introduction = INTRODUCTION.format(page=PAGE, name=name)
    cells[0]["source"] = f"{cells[0]['source']}\n\n{introduction}"
    cells.insert(1, {"cell_type": "code", "id": "install", "source": '%pip install -q "skytells-nb[notebook]"'})
    for cell in cells:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    kernel = {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}
    return {**notebook, "cells": cells, "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}}}


def _without_what_is_not_recorded(cells: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    left_out = ("failed-text", "failed", "failed-rows", "files-text", "files")
    kept = [cell for cell in cells if cell["id"] not in left_out]
    missing = {cell["id"] for cell in cells}.isdisjoint(left_out) or len(cells) - len(kept) != len(left_out)
    title, connect = kept[0], next(cell for cell in kept if cell["id"] == "connect")
    live = 'cache="memory"'
    if missing or live not in connect["source"] or "\n\n**You need**" not in title["source"]:
        raise ValueError(f"{name} has changed: say here again what of it runs from its recording")
    title["source"] = title["source"].partition("\n\n**You need**")[0]
    connect["source"] = connect["source"].replace(live, f'cache="replay:{name}.sqlite"')
    instead = {"cell_type": "markdown", "id": "not-here", "source": NOT_HERE.format(page=PAGE, name=name)}
    kept.insert([cell["id"] for cell in kept].index("exercises"), instead)
    return kept


def fetch_wheels(folder: Path) -> None:
    """Download what the package needs and Pyodide does not have, all of it Python throughout."""
    any_platform = [
        "--only-binary=:all:",
        "--platform=any",
        "--python-version=3.14",
        "--implementation=py",
        "--abi=none",
    ]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", f"--dest={folder}"]
    requirements = f"--requirement={HERE / 'packages.txt'}"
    subprocess.run([sys.executable, "-m", "pip", "download", *any_platform, *options, requirements], check=True)


def build(site: Path, wheels: Path) -> None:
    """Write the files of the page to ``site``, which is emptied; ``wheels`` has what ``fetch_wheels`` brings."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        contents, packages = place / "contents", place / "packages"
        contents.mkdir()
        shutil.copytree(wheels, packages)
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", packages],
            cwd=ROOT,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, recording in RECORDINGS.items():
            (contents / f"{name}.ipynb").write_text(json.dumps(notebook_for_browser(name)), "utf-8")
            shutil.copy(recording, contents / f"{name}.sqlite")
        options = {
            "LiteBuildConfig": {
                "contents": [str(contents)],
                "output_dir": str(place / "site"),
                "apps": ["notebooks"],
                "no_sourcemaps": True,
                "no_unused_shared_packages": True,
                "no_libarchive": True,
                # The page's half of widgets.
                "federated_extensions": [
                    str(found)
                    for name in ("anywidget", "jupyterlab_widgets")
                    for found in packages.glob(f"{name}-*.whl")
                ],
            },
            "PipliteAddon": {"piplite_urls": [str(packages)]},
        }
        (place / "jupyter_lite_config.json").write_text(json.dumps(options), "utf-8")
        done = subprocess.run([JUPYTERLITE, "build"], cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"JupyterLite was not built: {(done.stdout + done.stderr)[-3000:]}")
        shutil.rmtree(site, ignore_errors=True)
        shutil.copytree(place / "site", site)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path, metavar="FOLDER", help="where the page's files go; it is emptied")
    with tempfile.TemporaryDirectory() as folder:
        fetch_wheels(Path(folder))
        build(parser.parse_args().site, Path(folder))


if __name__ == "__main__":
    main()
