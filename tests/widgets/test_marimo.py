"""The accessor, the plots and the widgets in marimo: a notebook that marimo itself runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from local_fakes import EchoGenerator
from served import KEY, served

CELLS = (
    "import pandas as pd\nimport skytells_nb as sky",
    'frame = pd.DataFrame({"text": ["red cat", "tax form"]}).skytells.embed("text", progress=False)\n'
    'frame["embedding"].map(len).to_frame("dimensions")',
    'sky.plots.semantic_map(frame, method="pca")',
    'panel = sky.widgets.ChatPanel(model="gpt-5")\nturn = panel.send("hello **panel**")\npanel',
    "panel.freeze() if turn else None",
    'explorer = sky.widgets.Explorer(frame, method="pca")\nfound = explorer.ask("red cat", k=1)\nexplorer',
    "explorer.freeze() if len(found) else None",
    "sky.current().client.chat.completions.create(\n"
    '    model="gpt-5", messages=[{"role": "user", "content": "an **answer**"}]\n)',
)
USES = ((), ("pd",), ("frame", "sky"), ("sky",), ("panel", "turn"), ("frame", "sky"), ("explorer", "found"), ("sky",))
"""The variables of other cells that each one reads."""
MADE = ("pd, sky", "frame,", "", "panel, turn", "", "explorer, found", "", "")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("marimo") is None, reason="marimo is not installed, so nothing was run in it")
def test_a_marimo_notebook_embeds_draws_chats_and_explores(tmp_path: Path) -> None:
    """Every cell runs; the widgets are marimo's own form of anywidgets, and snapshots are their HTML."""
    notebook, exported = tmp_path / "notebook.py", tmp_path / "notebook.ipynb"
    body = "\n\n".join(
        f"@app.cell\ndef _({', '.join(uses)}):\n    " + code.replace("\n", "\n    ") + f"\n    return {made}"
        for code, uses, made in zip(CELLS, USES, MADE, strict=True)
    )
    notebook.write_text(f"import marimo\n\napp = marimo.App()\n\n\n{body}\n")
    with served(generator=EchoGenerator()) as server:
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": "off"}
        command = [sys.executable, "-m", "marimo", "export", "ipynb", str(notebook), "--include-outputs"]
        done = subprocess.run(
            [*command, "-o", str(exported)], env={**os.environ, **settings}, capture_output=True, text=True, timeout=120
        )
        requests = server.stats["chat"].requests

    assert done.returncode == 0, done.stderr
    shown = ["".join(str(output.get("data", output)) for output in cell["outputs"]) for cell in cells(exported)]
    assert requests == 2
    assert "<td>16</td>" in shown[1]
    assert "marimo-plotly" in shown[2]
    assert "marimo-anywidget" in shown[3]
    assert "<strong>panel</strong>" in shown[4]
    assert "marimo-anywidget" in shown[5]
    assert "data:image/png;base64," in shown[6]
    assert "red cat" in shown[6]
    assert "<strong>answer</strong>" in shown[7]
    assert KEY not in exported.read_text()


def cells(exported: Path) -> list[dict[str, list[dict[str, object]]]]:
    """The cells of code of the notebook that marimo wrote."""
    return [cell for cell in json.loads(exported.read_text())["cells"] if cell["cell_type"] == "code"]
