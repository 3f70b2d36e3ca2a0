"""JupyterLab or Notebook 7 on a loopback port with folders of its own, and a page of headless Chromium before it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Page, sync_playwright

START_S = 90
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
LAB_SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # Cells that are scrolled away stay in the page, so that a test can see them.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


App = Literal["lab", "notebook"]
PATHS: dict[App, str] = {"lab": "doc/tree", "notebook": "notebooks"}


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab or Notebook."""

    url: str
    token: str
    app: App


@contextlib.contextmanager
def jupyter_lab(root: Path, work: Path, environment: Mapping[str, str], app: App = "lab") -> Iterator[Lab]:
    """The application over the notebooks in ``root``; ``work`` takes its configuration, which is nobody's."""
    port, token = _free_port(), secrets.token_hex(16)
    for plugin, values in LAB_SETTINGS.items():
        file = work / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    env = {**os.environ, **{name: str(work / folder) for name, folder in folders.items()}, **environment}
    # Within a kernel this would choose the form of output that nbval compares.
    env.pop("PYTEST_CURRENT_TEST", None)
    command = [sys.executable, "-m", "jupyter", app, "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={root}", "--expose-app-in-browser", "--LabApp.news_url=None"]
    log = work / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    lab = Lab(f"http://127.0.0.1:{port}", token, app)
    try:
        _wait(lab, process, log)
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
def notebook_page(lab: Lab, name: str, chromium: Path, outside: list[str]) -> Iterator[Page]:
    """The notebook, open. Requests to anywhere else are refused and noted in ``outside``."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=CHROMIUM_FLAGS, timeout=60_000)
        context = browser.new_context(viewport={"width": 1100, "height": 1400})

        def refuse(route: Any) -> None:
            outside.append(route.request.url)
            route.abort()

        context.route(lambda url: not url.startswith((lab.url, "blob:", "data:")), refuse)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{lab.url}/{PATHS[lab.app]}/{name}?token={lab.token}")
        _wait_until_open(page)
        try:
            yield page
        finally:
            browser.close()


def run_all(page: Page) -> None:
    """Start every cell; returns before they are done."""
    page.evaluate("""async () => {
        const app = window.jupyterapp;
        await app.restored;
        const session = app.shell.currentWidget.sessionContext;
        await session.ready;
        await session.session.kernel.info;
        app.commands.execute('notebook:run-all-cells');
    }""")


def save(page: Page) -> None:
    """Save until the file holds what the page does: what comes while a file is written makes it old again."""
    page.evaluate("""async () => {
        const app = window.jupyterapp, deadline = Date.now() + 30000;
        while (true) {
            await app.commands.execute('docmanager:save');
            await new Promise((resolve) => setTimeout(resolve, 100));
            if (!app.shell.currentWidget.context.model.dirty) return;
            if (Date.now() > deadline) throw new Error('the notebook does not stay saved');
        }
    }""")


def reload(page: Page) -> None:
    """Load the page again, as a person does; the kernel goes on."""
    page.reload()
    _wait_until_open(page)


def lose_kernel(page: Page) -> None:
    """End the kernel and load the page again, as when a saved notebook is opened another day."""
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
    reload(page)


def choose_theme(page: Page, name: str) -> None:
    page.evaluate(
        "async (theme) => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme}); }", name
    )
    page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def _wait_until_open(page: Page) -> None:
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")


def _wait(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Jupyter ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{lab.url}/api/status?token={lab.token}", timeout=2).read()
            return
        time.sleep(0.2)
    raise RuntimeError(f"Jupyter did not answer within {START_S} s: {log.read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
