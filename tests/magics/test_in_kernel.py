"""The magics in a real kernel, as a notebook is run without a browser."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import nbformat
import pytest
from magic_service import KEY, Echo
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from skytells_nb.local import LocalServer

ANSWER = " ".join(f"word{i} **bold{i}**" for i in range(400))
CELLS = (
    "import os\n%load_ext skytells_nb\nprint(os.getpid())",
    f"%%skytells_chat -o first --max-tokens 5000\n{ANSWER}",
    "first.finish_reason, str(first) == " + repr(ANSWER),
    "%%capture kept\n%%skytells_chat\nHello there",
    "len(kept.outputs), kept.outputs[0].data['text/plain']",
    "%%skytells_chat -o part\none two three four five six",
    "part.finish_reason, 'one two three '.startswith(part.text), 'two' in part.text",
    "%reload_ext skytells_nb\n%unload_ext skytells_nb\n%skytells",
)


GOOD = {
    "load": "%load_ext skytells_nb\n%load_ext skytells_nb",
    "await": "import asyncio\nawait asyncio.sleep(0)\n"
    "get_ipython().run_cell_magic('skytells_chat', '-o inner', 'Hello there')\nawait asyncio.sleep(0)\nstr(inner)",
    "code": "%%skytells_chat --code\n```python\n1 + 1\n```",
    "first": "%%skytells_respond --conversation talk\none",
    "second": "%%skytells_respond --conversation talk -o second\ntwo",
    "chained": "second.previous_response_id is not None, str(second)",
}
BAD = {
    "a wrong option": ("%%skytells_chat --color red\nHi", "MagicUsageError"),
    "a wrong word": ("%skytells modles", "MagicUsageError"),
    "a missing variable": ("%%skytells_respond -v nothing\n{{nothing}}", "MagicUsageError"),
    "no object": ("%%skytells_chat --json\nno object", "InvalidResponseError"),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notebook_awaits_proposes_goes_on_and_stops_at_a_mistake(server: LocalServer) -> None:
    """Cells with a running event loop, code for the next cell, a chained conversation; any mistake ends Run all."""
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    sources = [*GOOD.values(), *(source for source, _ in BAD.values())]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]  # type: ignore[no-untyped-call]
    payloads: dict[int, list[dict[str, Any]]] = {}

    def executed(cell: Any, cell_index: int, execute_reply: Any) -> None:
        payloads[cell_index] = execute_reply["content"].get("payload", [])

    client = NotebookClient(notebook, timeout=90, kernel_name="python3", on_cell_executed=executed)
    with client.setup_kernel(env={**os.environ, **settings(server)}):
        for index in range(len(GOOD)):
            client.execute_cell(notebook.cells[index], index)
        for index in range(len(GOOD), len(sources)):
            with pytest.raises(CellExecutionError):
                client.execute_cell(notebook.cells[index], index)
    outputs = dict(zip([*GOOD, *BAD], (cell.outputs for cell in notebook.cells), strict=True))

    assert [o.data["text/plain"] for o in outputs["await"]] == ["Hello there", "'Hello there'"]
    assert [(p["source"], p["text"], p["replace"]) for p in payloads[2]] == [("set_next_input", "1 + 1", False)]
    assert outputs["chained"][0].data["text/plain"] == "(True, 'two')"
    for name, (_, kind) in BAD.items():
        failed = outputs[name][-1]
        assert (failed.output_type, failed.ename, len(failed.traceback)) == ("error", kind, 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_notebook_streams_interrupts_and_captures(echo: Echo, server: LocalServer) -> None:
    """One saved output for a streamed answer, the partial text of an interrupted one, one captured output."""
    notebook: Any = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=90, allow_errors=True, kernel_name="python3")
    environment = {**os.environ, **settings(server)}
    # nbclient hands this variable on, and under it the mode would be final.
    environment.pop("PYTEST_CURRENT_TEST", None)
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(notebook.cells):
            if index == 5:
                echo.hold_after = 3
                pid = int(notebook.cells[0].outputs[0].text)
                threading.Thread(target=_interrupt, args=(cell, pid), daemon=True).start()
            client.execute_cell(cell, index)
    outputs = [cell.outputs for cell in notebook.cells]

    assert len(outputs[1]) == 1
    assert outputs[1][0].output_type == "display_data"
    assert outputs[1][0].data["text/plain"] == ANSWER
    assert "<strong>bold399</strong>" in outputs[1][0].data["text/html"]
    assert outputs[1][0].metadata["skytells"]["finish_reason"] == "stop"
    assert outputs[2][0].data["text/plain"] == "('stop', True)"
    assert outputs[4][0].data["text/plain"] == "(1, 'Hello there')"

    shown, failed = outputs[5]
    assert shown.data["text/plain"].endswith("[interrupted: what arrived is above]")
    assert failed.output_type == "error"
    assert failed.ename == "Interrupted"
    assert len(failed.traceback) == 1
    assert outputs[6][0].data["text/plain"] == "('interrupted', True, True)"
    assert "not found" in str(outputs[7])


def settings(server: LocalServer) -> dict[str, str]:
    """The environment that connects a kernel."""
    return {
        "SKYTELLS_API_KEY": KEY,
        "SKYTELLS_BASE_URL": server.base_url,
        "SKYTELLS_CACHE": "off",
        "SKYTELLS_NB_STREAM": "auto",
    }


def _interrupt(cell: Any, pid: int) -> None:
    """Ctrl-C once the page shows the last word before the hold: only the watch for stalls can have shown it."""
    pause = threading.Event()
    for _ in range(6_000):
        if cell.outputs and "two" in cell.outputs[0].data["text/html"]:
            os.kill(pid, signal.SIGINT)
            return
        pause.wait(0.01)
