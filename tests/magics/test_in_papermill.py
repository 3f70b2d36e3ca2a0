"""The magics in notebooks that papermill runs, as in a schedule or a pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from magic_service import KEY

from skytells_nb.local import LocalServer

LOAD = "%load_ext skytells_nb"


def papermill(
    folder: Path, server: LocalServer, cells: list[str]
) -> tuple[subprocess.CompletedProcess[str], list[Any]]:
    """Run a notebook of these cells as ``papermill before.ipynb after.ipynb``; what it saved are the code cells."""
    before, after = folder / "before.ipynb", folder / "after.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(source) for source in cells],  # type: ignore[no-untyped-call]
        metadata=kernel,
    )
    nbformat.write(notebook, before)  # type: ignore[no-untyped-call]
    settings = {"SKYTELLS_API_KEY": KEY, "SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_CACHE": "off"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "--no-progress-bar", str(before), str(after)],
        env={**environment, **settings, "IPYTHONDIR": str(folder / "ipython")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    saved = nbformat.read(after, as_version=4)  # type: ignore[no-untyped-call]
    sources = set(cells)
    return done, [cell for cell in saved.cells if cell.cell_type == "code" and cell.source in sources]


@pytest.mark.slow
def test_a_good_notebook_ends_well_and_keeps_the_answer(server: LocalServer, tmp_path: Path) -> None:
    cells = [LOAD, "%%skytells_chat -o answer\nsay **this**", "answer.finish_reason, answer.text"]

    done, saved = papermill(tmp_path, server, cells)

    assert done.returncode == 0, done.stderr
    (shown,) = saved[1].outputs
    assert shown.data["text/plain"] == "say **this**"
    assert "<strong>this</strong>" in shown.data["text/html"]
    assert saved[2].outputs[0].data["text/plain"] == "('stop', 'say **this**')"


@pytest.mark.slow
def test_a_mistake_ends_the_run_and_is_one_block(server: LocalServer, tmp_path: Path) -> None:
    cells = [LOAD, "%%skytells_chat --color red\nHi", "print('went on')"]

    done, saved = papermill(tmp_path, server, cells)

    assert done.returncode != 0
    assert "MagicUsageError" in done.stderr
    (failed,) = saved[1].outputs
    assert (failed.output_type, failed.ename) == ("error", "MagicUsageError")
    (block,) = failed.traceback
    assert "--color" in block
    assert "Traceback" not in block
    assert 'File "' not in block
    assert saved[2].outputs == []
    assert server.stats["chat"].requests == 0
