"""A notebook that runs twice is saved the same: a diff shows what its author changed, and ``pytest --nbval`` passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from magic_service import KEY, Echo
from nbclient import NotebookClient

from skytells_nb.local import LocalServer

CELLS = (
    "%load_ext skytells_nb\nimport pandas as pd\nimport skytells_nb as sky",
    "%%skytells_chat --cache\nSay **hi** for $5 or $6 and $x^2$",
    "%%skytells_chat --cache --safety -o kept\n<think>Hm, *well*.</think>\n\n```python\nx = 1\n```",
    "kept",
    "%skytells_chat --cache what is it?",
    "frame = pd.DataFrame({'text': ['red cat', 'tax form', 'red cat']})\n"
    "frame = frame.skytells.embed('text').skytells.complete('Say {text}')",
    "panel = sky.widgets.ChatPanel()\npanel",
    "panel.send('Why **so**?').text",
    "panel.freeze()",
    "explorer = sky.widgets.Explorer(frame, method='pca')\nexplorer",
    "explorer.selected = [0]\nexplorer.freeze()",
    "%skytells",
    "%skytells models",
    "sky.current(), sky.current().cache, sky.current().client",
    "%skytells config",
)


def settings(server: LocalServer, cache: Path) -> dict[str, str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST" and not k.startswith("SKYTELLS_")}
    return {
        **environment,
        **{"SKYTELLS_API_KEY": KEY, "SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_CACHE": str(cache)},
        **{"SKYTELLS_NB_STREAM": "auto", "SKYTELLS_MODEL": "gpt-5", "HOME": str(cache.parent)},
    }


def run(server: LocalServer, cache: Path, cells: tuple[str, ...] = CELLS) -> Any:
    """Run the cells in a new kernel; return the notebook."""
    new: Any = nbformat.v4
    notebook = new.new_notebook(cells=[new.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", record_timing=False, store_widget_state=False)
    with client.setup_kernel(env=settings(server, cache), cwd=str(cache.parent)):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
            cell.id = f"cell-{index}"
    return notebook


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_runs_are_saved_the_same(echo: Echo, server: LocalServer, tmp_path: Path) -> None:
    """Byte for byte, with the first run's answers in the cache; no home folder and no secret is saved."""
    first, second = (run(server, tmp_path / "cache.sqlite") for _ in range(2))
    for one, two in zip(first.cells, second.cells, strict=True):
        assert json.dumps(one.outputs, sort_keys=True) == json.dumps(two.outputs, sort_keys=True), one.source
    text = nbformat.writes(second)  # type: ignore[no-untyped-call]
    assert str(tmp_path) not in text
    assert KEY not in text
    assert "Shown from the cache" not in text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nbval_finds_no_difference(echo: Echo, server: LocalServer, tmp_path: Path) -> None:
    """A notebook saved by a run in a notebook server passes in the kernel of nbval, which ignores updates."""
    # A cell that changes the output of an earlier one sends an update, which nbval ignores.
    cells = tuple(source for source in CELLS if "panel" not in source and "selected" not in source)
    saved = run(server, tmp_path / "cache.sqlite", cells)
    for number, cell in enumerate(saved.cells, 1):
        cell.execution_count = number
    file = tmp_path / "saved.ipynb"
    nbformat.write(saved, file)  # type: ignore[no-untyped-call]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--nbval",
            "-p",
            "no:xdist",
            "-p",
            "no:randomly",
            "-p",
            "no:cacheprovider",
            str(file),
        ],
        env=settings(server, tmp_path / "cache.sqlite"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:]
