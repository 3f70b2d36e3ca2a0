"""The main job, from the command to the page: the quickstart on the real local models, twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tutorial import run_in_little_memory

from skytells_nb.cli import demo
from skytells_nb.errors import InputError


def run_demo(out: Path) -> dict[str, str]:
    """What ``python -m skytells_nb demo`` prints, by name."""
    command = [sys.executable, "-m", "skytells_nb", "demo", "--out", str(out)]
    done = run_in_little_memory(command, out.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = [line.split(maxsplit=1) for line in done.stdout.splitlines() if len(line.split(maxsplit=1)) == 2]
    return dict(pairs)


@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.usefixtures("chat_weights")
def test_the_demo_says_what_it_did_and_a_second_run_sends_nothing(tmp_path: Path) -> None:
    first = run_demo(tmp_path / "one")
    second = run_demo(tmp_path / "two")
    assert int(first["rows"].replace(",", "")) > 50
    assert int(first["requests"]) > 10
    assert int(first["tokens"].replace(",", "")) > 100
    assert second["requests"] == "0"
    assert second["tokens"] == "0"
    assert second["rows"] == first["rows"]
    assert second["distinct"] == second["cached"]

    page = Path(first["page"]).read_text(encoding="utf-8")
    assert page.count('class="plotly-graph-div"') == 2
    assert 'class="skytells-md"' in page

    executed = json.loads(Path(first["notebook"]).read_text(encoding="utf-8"))
    outputs = [output for cell in executed["cells"] for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output["output_type"] == "error"]
    figures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    assert len(figures) == 2
    assert len(json.dumps(executed)) < 300_000


@pytest.mark.parametrize("content", [None, "{", "[1]"], ids=["missing", "not JSON", "another JSON"])
def test_a_file_that_is_no_notebook_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    notebook = tmp_path / "x.ipynb"
    if content is not None:
        notebook.write_text(content)
    with pytest.raises(InputError, match=r"x\.ipynb cannot be read as a notebook"):
        demo.run(notebook, tmp_path / "out")
