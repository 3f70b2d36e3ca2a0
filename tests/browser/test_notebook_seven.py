"""The magics and the panel in Jupyter Notebook 7: a real browser, in front of a real kernel."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_lab import CHROMIUM_FLAGS, START_S, Lab, run_all
from panel_service import Tap
from playwright.sync_api import Page, expect, sync_playwright
from served import KEY, served

FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "IPYTHONDIR": "ipython",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
}
ANSWER = "one **two** three four five **six**"
CELLS = (
    "%load_ext skytells_nb\nimport skytells_nb as sky",
    f"%%skytells_chat\n{ANSWER}",
    "panel = sky.widgets.ChatPanel()\npanel",
)


@contextlib.contextmanager
def notebook_seven(root: Path, work: Path, environment: Mapping[str, str]) -> Iterator[Lab]:
    """``jupyter notebook`` over the notebooks in ``root``; ``work`` takes its configuration."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16))
    work.mkdir()
    env = {**os.environ, **{name: str(work / folder) for name, folder in FOLDERS.items()}, **environment}
    # Within a kernel this would choose the form of output that nbval compares.
    env.pop("PYTEST_CURRENT_TEST", None)
    command = [sys.executable, "-m", "jupyter", "notebook", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={lab.token}"]
    command += [f"--ServerApp.root_dir={root}", "--expose-app-in-browser"]
    log = work / "notebook.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{lab.url}/api/status?token={lab.token}", timeout=2).read()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Notebook 7 did not come up: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield lab
    finally:
        # Its own process group: the kernels end with it.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


@contextlib.contextmanager
def open_page(lab: Lab, name: str, chromium: Path, outside: list[str]) -> Iterator[Page]:
    """The notebook, open. Requests to anywhere else are refused and noted in ``outside``."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=CHROMIUM_FLAGS, timeout=60_000)
        context = browser.new_context(viewport={"width": 1100, "height": 1200})

        def refuse(route: Any) -> None:
            outside.append(route.request.url)
            route.abort()

        context.route(lambda url: not url.startswith((lab.url, "blob:", "data:")), refuse)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{lab.url}/notebooks/{name}?token={lab.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")
        try:
            yield page
        finally:
            browser.close()


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(180)
def test_an_answer_streams_and_the_panel_talks(tmp_path: Path, chromium: Path) -> None:
    """The first words are on the page while the service holds the rest; then all of it, and a turn of the panel."""
    root, tap, outside = tmp_path / "notebooks", Tap(), []  # type: Path, Tap, list[str]
    root.mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / "seven.ipynb")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(generator=tap))
        stack.callback(tap.flow)
        tap.shut()
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": "off"}
        settings["SKYTELLS_NB_STREAM"] = "auto"
        seven = stack.enter_context(notebook_seven(root, tmp_path / "seven", settings))
        page = stack.enter_context(open_page(seven, "seven.ipynb", chromium, outside))
        run_all(page)

        answer = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output")
        expect(answer.locator("strong", has_text="two")).to_be_visible(timeout=60_000)
        expect(answer).not_to_contain_text("six")
        tap.flow()
        expect(answer.locator("strong", has_text="six")).to_be_visible(timeout=60_000)
        assert " ".join(answer.inner_text().split()) == ANSWER.replace("*", "")

        panel = page.locator(".jp-CodeCell").nth(2).locator(".skytells-panel")
        expect(panel).to_be_visible(timeout=60_000)
        field = panel.locator(".skytells-input")
        field.fill("hello **panel**")
        field.press("Enter")
        expect(panel.locator(".skytells-answer strong")).to_have_text("panel", timeout=60_000)
        page.screenshot(path=str(Path(os.environ.get("SCREENSHOTS", tmp_path)) / "notebook-seven.png"))
        assert outside == []
