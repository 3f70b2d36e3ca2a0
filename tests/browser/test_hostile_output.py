"""Hostile answers shown by the magic: in JupyterLab, in the notebook it saves, and in a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import EVERYTHING, PAYLOADS, HostileModel, Watch
from jupyter_lab import Desk, notebook_of, reload, save
from local_fakes import HashEmbedder, WordModerator
from playwright.sync_api import Page, expect

from skytells_nb.local import LocalServer

KEY = "sk-for-tests-hostile"
SCROLL_TO = """(cell) => {
    const box = cell.getBoundingClientRect();
    const shown = box.top >= 0 && box.bottom <= innerHeight - 40;
    if (!shown) cell.scrollIntoView({block: 'start'});
    return !shown;
}"""
"""Gives whether the cell was not whole in the window, above the status bar."""
CONTROL = """from IPython.display import HTML, display
display(HTML('''<img src="http://evil.test/x.png" onerror="(top.hurt=top.hurt||[]).push(1)"><form><input></form>
<div style="position:fixed;inset:0">over everything</div><a href="javascript:0">x</a>'''))"""


@contextlib.contextmanager
def service(seconds: float) -> Iterator[dict[str, str]]:
    """A service whose hostile answers take so long each, and the environment that leads to it."""
    model = HostileModel(seconds)
    with LocalServer(api_key=KEY, generator=model, embedder=HashEmbedder(), moderator=WordModerator()) as server:
        yield {
            **{"SKYTELLS_API_KEY": KEY, "SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_CACHE": "off"},
            "SKYTELLS_NB_STREAM": "auto",
        }


def every_payload() -> Any:
    """One cell for each payload, three for all of them together, and at the end one that does show HTML as it is."""
    asked = [f"%%skytells_chat\nsay {name}" for name in PAYLOADS]
    asked += [f"%%skytells_chat {options}\nsay {EVERYTHING}" for options in ("--no-stream", "-f text", "-f code")]
    return notebook_of(["%load_ext skytells_nb", *asked, "print('all', 'said')", CONTROL])


def run(page: Page, command: str) -> None:
    """Run a command of the notebook with its last cell active."""
    page.evaluate(
        """async (command) => {
            const app = window.jupyterapp;
            await app.restored;
            const panel = app.shell.currentWidget;
            await panel.sessionContext.ready;
            await panel.sessionContext.session.kernel.info;
            panel.content.activeCellIndex = panel.content.widgets.length - 1;
            app.commands.execute(command);
        }""",
        command,
    )


def look_at_all(page: Page, watch: Watch) -> list[str]:
    """The harm found with each cell scrolled into view, a window full of them at a time."""
    found = watch.covers()
    for cell in page.locator(".jp-CodeCell").all():
        if cell.evaluate(SCROLL_TO):
            found += watch.covers()
    return [*found, *watch.harm()]


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(900)
def test_no_answer_hurts_jupyterlab(desk: Desk) -> None:
    """Nothing runs, leaves, covers or asks, while answers stream and after the saved notebook is opened again."""
    with service(seconds=0.25) as environment, desk.opened(every_payload(), environment) as opened:
        page, outside = opened.page, opened.outside
        watch = Watch(page)
        run(page, "notebook:run-all-above")
        said = page.locator(".jp-OutputArea-output", has_text=re.compile("^all said"))
        expect(said).to_be_attached(timeout=240_000)
        expect(page.locator("mjx-container").first).to_be_attached(timeout=60_000)
        assert look_at_all(page, watch) == []
        assert outside == []
        expect(page.locator(".jp-OutputArea-output", has_text="onerror=").first).to_be_attached()
        save(page)

        reload(page)
        page.wait_for_selector(".jp-OutputArea-output .skytells-md")
        again = Watch(page)
        assert look_at_all(page, again) == []
        assert outside == []

        # The same watch sees it all where a page shows an answer's HTML as it is.
        run(page, "notebook:run-cell")
        page.wait_for_selector(".jp-OutputArea-output form", state="attached")
        page.wait_for_function("() => window.hurt")
        harm = again.harm()
        kinds = {line.partition(":")[0] for line in harm}
        assert {"ran", "element", "placed", "covers", "link", "handler", "request"} <= kinds, harm
        assert outside != []
    cells = json.loads(opened.file.read_text())["cells"]
    shown = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "display_data"]
    assert len(shown) >= len(PAYLOADS)
    kinds = {tuple(sorted(output["data"])) for output in shown}
    assert kinds == {("text/html", "text/plain"), ("text/html", "text/markdown", "text/plain")}
    assert {name for output in shown for name in output["metadata"]} <= {"skytells"}


TERMINAL = """
from IPython import get_ipython
shell = get_ipython()
shell.run_line_magic("load_ext", "skytells_nb")
for name in {names!r}:
    print("\\n<<" + name + ">>")
    shell.run_cell_magic("skytells_chat", "", "say " + name)
print("<<end>>")
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are a matter of POSIX")
def test_no_answer_acts_on_a_terminal(tmp_path: Path) -> None:
    """What IPython writes to a real terminal holds no control characters beside line ends and tabs; the words stay."""
    script = tmp_path / "session.ipy"
    script.write_text(TERMINAL.format(names=list(PAYLOADS)))
    main, terminal = pty.openpty()
    written = bytearray()
    with service(seconds=0) as settings:
        environment = {**os.environ, **settings, "TERM": "xterm-256color"}
        environment.pop("PYTEST_CURRENT_TEST", None)
        command = [sys.executable, "-m", "IPython", "--colors=NoColor", "--no-banner"]
        process = subprocess.Popen(
            [*command, "--HistoryManager.enabled=False", str(script)],
            **{"stdin": terminal, "stdout": terminal, "stderr": terminal},
            env=environment,
            start_new_session=True,
        )
        os.close(terminal)
        try:
            while piece := read(main):
                written += piece
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            os.close(main)
    text = written.decode().replace("\r\n", "\n")
    answers = text[text.index("<<script>>") : text.index("<<end>>")]
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", answers) == []
    assert re.findall("[\u202a-\u202e\u2066-\u2069]", answers) == []
    assert answers.count("<<") == len(PAYLOADS)
    for name in PAYLOADS:
        if name.startswith("terminal "):
            assert name.removeprefix("terminal ") in answers.partition(f"<<{name}>>")[2].partition("<<")[0]


def read(terminal: int) -> bytes:
    """What is there to read; nothing where the other side is closed, which Linux reports as an error."""
    try:
        return os.read(terminal, 65_536)
    except OSError:
        return b""
