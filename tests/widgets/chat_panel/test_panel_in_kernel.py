"""The chat panel in a real kernel: what travels to the page, and what a notebook keeps."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from panel_service import Tap
from served import KEY, served

from skytells_nb.local.server import LocalServer
from skytells_nb.widgets.live import BYTES_PER_S

PIECES = 480
WORDS = " ".join(f"*{'long' * 20}word{n}*" + ("\n\n" if n % 20 == 19 else "") for n in range(PIECES))
SHOW = "import skytells_nb as sky\npanel = sky.widgets.ChatPanel(model='gpt-5')\npanel"
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
MAKE_CELL = "panel._on_message(panel.widget, {'kind': 'cell', 'text': 'x = 1'}, [])"
WAIT_S = 90
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    """A local Skytells that a kernel started now connects to, and the mode that such a kernel has outside of pytest."""
    with served(generator=Tap()) as server:
        monkeypatch.setenv("SKYTELLS_BASE_URL", server.base_url)
        monkeypatch.setenv("SKYTELLS_API_KEY", KEY)
        monkeypatch.setenv("SKYTELLS_CACHE", "off")
        monkeypatch.setenv("SKYTELLS_NB_STREAM", "live")
        yield server


def run(client: Any, code: str) -> list[dict[str, Any]]:
    """Every message of the cell, to its end."""
    asked, found = client.execute(code), []
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            message = client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        found.append(message)
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", "\n".join(content.get("traceback", ()))
        mine = message["parent_header"].get("msg_id") == asked
        if mine and kind == "status" and content["execution_state"] == "idle":
            return found
    raise AssertionError(f"the cell did not end within {WAIT_S} s")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("server")
def test_a_long_answer_travels_in_few_messages() -> None:
    """Hundreds of pieces make a few messages, which do not repeat it over and over; its end is in the state."""
    manager, client = start_new_kernel(env=dict(os.environ))
    try:
        run(client, SHOW)
        began = time.monotonic()
        found = run(client, f"turn = panel.send({WORDS!r})")
        seconds = time.monotonic() - began
        replies = [client.execute_interactive(code, output_hook=found.append) for code in (MAKE_CELL, "1 + 1")]
        comms = [m["content"]["data"] for m in found if m["msg_type"] == "comm_msg"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    parts = [c["content"] for c in comms if c["method"] == "custom" and c["content"]["kind"] == "part"]
    states = [c["state"]["turns"] for c in comms if c["method"] == "update" and "turns" in c["state"]]
    assert len(parts) <= 8 * seconds + 10
    whole = states[-1][-1]["html"]
    # What is left open is sent again with each update, within the bytes that a page gets in a second.
    assert sum(len(part["html"]) for part in parts) <= max(3 * len(whole), len(whole) + 2 * BYTES_PER_S * seconds)
    assert [len(turns) for turns in states] == [1, 2]
    assert whole.count("<em>") == PIECES
    assert KEY not in str(found)
    made = [payload for reply in replies for payload in reply["content"]["payload"]]
    assert made == [{"source": "set_next_input", "text": "x = 1", "replace": False}]
    assert [c["content"]["note"] for c in comms if c.get("content", {}).get("kind") == "cell"] == [
        "It comes into a new cell below the next cell that you run; it is in the clipboard too."
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("server")
def test_a_notebook_run_without_a_page_keeps_the_conversation(tmp_path: Path) -> None:
    """The file has the widget and, beside it, the transcript; so has the HTML that nbconvert makes of it."""
    cells = [SHOW, "panel.send('the **first** question').text", "panel.send('and <b>more</b>'); panel.close()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=KERNEL)
    NotebookClient(notebook, timeout=WAIT_S, kernel_name="python3").execute()

    widget, transcript = notebook.cells[0].outputs
    assert set(widget.data) == {WIDGET, "text/plain"}
    assert widget.data["text/plain"] == "ChatPanel(model='gpt-5', turns=0)"
    assert set(transcript.data) == {"text/html", "text/markdown", "text/plain"}
    assert "<p>the <strong>first</strong> question</p>" in transcript.data["text/html"]
    assert transcript.data["text/plain"].count("and <b>more</b>") == 2
    assert KEY not in nbformat.writes(notebook)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    assert "<p>the <strong>first</strong> question</p>" in page
    for element in ("div", "p"):
        assert page.count(f"<{element}>and &lt;b&gt;more&lt;/b&gt;</{element}>") == 1
    assert len(str(notebook.metadata.get("widgets", ""))) < 100_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("server")
def test_a_frozen_conversation_is_a_plain_output() -> None:
    """``freeze()`` as the last line of a cell leaves HTML and text, and no widget."""
    cells = [SHOW.removesuffix("\npanel"), "panel.send('a question'); panel.freeze()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=KERNEL)
    NotebookClient(notebook, timeout=WAIT_S, kernel_name="python3").execute()

    (frozen,) = notebook.cells[1].outputs
    assert set(frozen.data) == {"text/html", "text/markdown", "text/plain"}
    assert frozen.data["text/plain"].count("a question") == 2
