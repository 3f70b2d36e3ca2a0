"""Notebooks that are shown with their outputs; some run again from a recording beside them.

``python tests/tutorial.py notebooks/02_replay.ipynb`` records one: it runs live on the local Skytells, its responses
go into the recording, and it is saved with the outputs of a replay. A notebook without a recording is saved with the
outputs of a live run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

CELL_TIMEOUT_S = 300
MOST_MEMORY_MB = 1_000
"""Of a kernel that runs a notebook, as a small machine or container has."""
PEAK = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:], timeout=870)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
with open(sys.argv[1], "w") as file:
    file.write(str(peak * (1 if sys.platform == "darwin" else 1024) / 1e6))
sys.exit(code)
"""


def read(notebook: Path) -> Any:
    return nbformat.read(notebook, as_version=4)


def recording_of(notebook: Path) -> Path:
    """The file beside a notebook that its answers are replayed from."""
    return notebook.with_suffix(".sqlite")


def run(document: Any, folder: Path, environment: Mapping[str, str]) -> Any:
    """The document as a fresh kernel in ``folder`` leaves it; ``document`` stays as it is."""
    executed = nbformat.from_dict(document)  # type: ignore[no-untyped-call]
    for cell in executed.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        executed,
        # The kernel warns of its transport, which stays on this machine.
        extra_arguments=["--log-level=ERROR"],
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    with client.setup_kernel(env=dict(environment)):
        for index, cell in enumerate(executed.cells):
            client.execute_cell(cell, index)
        client.set_widgets_metadata()
    for output in (output for cell in executed.cells for output in cell.get("outputs", ())):
        text = output.get("data", {}).get("text/plain")
        if text is not None:
            # Where an object is in memory differs each time.
            output["data"]["text/plain"] = re.sub(r" at 0x[0-9a-f]+>", ">", text)
    return executed


def run_in_little_memory(
    command: Sequence[str], folder: Path, *, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What a command prints, none of whose processes may have more memory than a small machine.

    Measured and not limited: libraries reserve twice as much as they use, which a limit of the system would count.
    """
    peak = folder / "peak_memory"
    measured = [] if sys.platform == "win32" else [sys.executable, "-c", PEAK, str(peak)]
    done = subprocess.run(
        [*measured, *command], env=environment, capture_output=True, text=True, timeout=880, check=False, **options
    )
    if measured:
        assert 20 < float(peak.read_text()) < MOST_MEMORY_MB
    return done


def replayed(notebook: Path, folder: Path, environment: Mapping[str, str]) -> Any:
    """The notebook as it runs in ``folder``, which gets nothing but its recording."""
    shutil.copy(recording_of(notebook), folder)
    return run(read(notebook), folder, environment)


def live(document: Any, recording: str) -> Any:
    """The document with its answers asked for, and written to ``recording`` at its end."""
    asking = nbformat.from_dict(document)  # type: ignore[no-untyped-call]
    replay, ask = f'cache="replay:{recording}"', 'cache="memory"'
    connecting = [cell for cell in asking.cells if replay in cell.source]
    if len(connecting) != 1:
        raise ValueError(f"one cell has to connect with {replay}; found {len(connecting)}")
    connecting[0].source = connecting[0].source.replace(replay, ask)
    # A row that failed would be missing in every replay.
    asking.cells.append(nbformat.v4.new_code_cell(f"assert not sky.current().export({recording!r}).missing"))
    return asking


def record(notebook: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYTELLS_")}
    recording = recording_of(notebook)
    with tempfile.TemporaryDirectory() as folder:
        run(live(read(notebook), recording.name), Path(folder), environment)
        os.replace(shutil.copy(Path(folder) / recording.name, f"{recording}.part"), recording)
    with tempfile.TemporaryDirectory() as folder:
        shown = replayed(notebook, Path(folder), environment)
    nbformat.write(shown, notebook)


def save(notebook: Path) -> None:
    """Run a notebook without a recording, live on the local Skytells, and save it with its outputs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SKYTELLS_")}
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        shown = run(read(notebook), Path(folder), {**environment, "SKYTELLS_CACHE_DIR": cache})
    nbformat.write(shown, notebook)


if __name__ == "__main__":
    for chosen in map(Path, sys.argv[1:]):
        (record if recording_of(chosen).exists() else save)(chosen)
