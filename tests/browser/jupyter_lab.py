"""JupyterLab and Notebook 7 on a loopback port with folders of their own, and pages of headless Chromium before it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import nbformat
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Request, expect, sync_playwright

START_S = 90
expect.set_options(timeout=60_000)
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Requests to anywhere else fail. A route that refuses them would turn off the cache, and each of the hundreds of
    # requests of a page would go through this process.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
TALL_PX = 4_200
"""A window that shows all that a test looks at, without scrolling."""
OF_A_PAGE = "cookies,local_storage,indexeddb,service_workers,cache_storage"
"""What a page stores, without the scripts of JupyterLab that the browser caches."""
LAB_SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    # Cells that are scrolled away stay in the page, so that a test can see them.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


AXE = Path(__file__).parents[1] / "page" / "node_modules" / "axe-core" / "axe.min.js"
App = Literal["lab", "notebook"]
PATHS: dict[App, str] = {"lab": "doc/tree", "notebook": "notebooks"}
OF_A_TEST = ("SKYTELLS_", "XDG_", "IPYTHONDIR")
"""What the variables begin with that each test has values of its own for."""


@dataclass(frozen=True)
class Lab:
    """A running server of JupyterLab and Notebook 7; ``folder`` has its notebooks and its configuration."""

    url: str
    token: str
    folder: Path


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[Lab]:
    """Both applications on one server, with a neutral configuration and without settings of a test."""
    port, token = _free_port(), secrets.token_hex(16)
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith(OF_A_TEST)}
    env.update({name: str(folder / place) for name, place in folders.items()})
    # Within a kernel this would choose the form of output that nbval compares.
    env.pop("PYTEST_CURRENT_TEST", None)
    notebooks, log = folder / "notebooks", folder / "lab.log"
    notebooks.mkdir()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    command += [f"--ServerApp.root_dir={notebooks}", "--LabApp.news_url=None"]
    command += [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
    with log.open("w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    lab = Lab(f"http://127.0.0.1:{port}", token, folder)
    try:
        _wait(lab, process, log)
        yield lab
    finally:
        # Its own process group: the kernels end with it.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


@contextlib.contextmanager
def browser(chromium: Path, profile: Path) -> Iterator[BrowserContext]:
    """Headless Chromium with the scripts that an earlier one has cached in ``profile``.

    While it is open, nothing else in this thread can run an event loop.
    """
    with sync_playwright() as playwright:
        running = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=str(chromium),
            args=CHROMIUM_FLAGS,
            timeout=60_000,
            viewport={"width": 1100, "height": 1400},
        )
        try:
            yield running
        finally:
            running.close()


@dataclass(frozen=True)
class Desk:
    """Where a test works: a server and a browser that others use too, with settings and stored data of its own."""

    lab: Lab
    browser: BrowserContext

    @contextlib.contextmanager
    def opened(
        self, notebook: Any, environment: Mapping[str, str], *, files: Mapping[str, str] | None = None, app: App = "lab"
    ) -> Iterator[Opened]:
        """The notebook in a folder of its own with these files, and its page; its kernel has this environment."""
        name = secrets.token_hex(8)
        folder = self.lab.folder / "notebooks" / name
        folder.mkdir()
        for file, text in (files or {}).items():
            (folder / file).write_text(text)
        _default_settings(self.lab)
        notebook.metadata["kernelspec"] = _kernel(self.lab, name, environment)
        nbformat.write(notebook, folder / "opened.ipynb")
        outside: list[str] = []

        def note(request: Request) -> None:
            if not request.url.startswith((self.lab.url, "blob:", "data:")):
                outside.append(request.url)

        page = self.browser.new_page()
        self.browser.on("request", note)
        try:
            page.context.new_cdp_session(page).send(
                "Storage.clearDataForOrigin", {"origin": self.lab.url, "storageTypes": OF_A_PAGE}
            )
            page.set_default_timeout(60_000)
            page.goto(f"{self.lab.url}/{PATHS[app]}/{name}/opened.ipynb?token={self.lab.token}")
            _wait_until_open(page)
            yield Opened(page, folder / "opened.ipynb", outside)
        finally:
            self.browser.remove_listener("request", note)
            self.browser.unroute_all()
            for left in self.browser.pages:
                left.close()
            _end_kernels(self.lab)


@dataclass(frozen=True)
class Opened:
    """An open notebook. Requests of its page to anywhere else fail and are noted in ``outside``."""

    page: Page
    file: Path
    outside: list[str]


def notebook_of(cells: Iterable[str]) -> Any:
    """A notebook of these cells of code."""
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])


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


def reload(page: Page, shows: str = ".jp-Cell") -> None:
    """Load the page again until it shows this, as a person does; the kernel goes on.

    JupyterLab waits for the models of widgets for two seconds: on a busy machine a page may come without them.
    """
    for _ in range(5):
        page.reload()
        _wait_until_open(page)
        found = page.wait_for_function(
            """(shows) => document.querySelector(shows) ? 'shown'
                : document.body.textContent.includes('Error displaying widget') && 'not shown'""",
            arg=shows,
        )
        if found.json_value() == "shown":
            return
    raise AssertionError(f"{shows} is not shown, however often the page is loaded")


def lose_kernel(page: Page) -> None:
    """End the kernel and load the page again, as when a saved notebook is opened another day."""
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
    reload(page)


def open_again(page: Page) -> None:
    """End the kernel, close the notebook and open its file; in half the time of a page that is loaded again."""
    page.evaluate("""async () => {
        const app = window.jupyterapp, open = app.shell.currentWidget, path = open.context.path;
        await open.sessionContext.shutdown();
        open.dispose();
        const again = await app.commands.execute('docmanager:open', { path });
        await again.context.ready;
    }""")
    _wait_until_open(page)


def choose_theme(page: Page, name: str) -> None:
    page.evaluate(
        "async (theme) => { await window.jupyterapp.commands.execute('apputils:change-theme', {theme}); }", name
    )
    page.wait_for_selector(f"body[data-jp-theme-name='{name}']", state="attached")
    page.wait_for_selector("#jupyterlab-splash", state="detached")


def serious_barriers(page: Page, selector: str) -> list[str]:
    """What axe-core finds in these elements that is serious for people with disabilities: rule, element, explanation.

    Skips the test, outside of CI, where axe-core is not installed.
    """
    if not AXE.exists():
        why = f"axe-core is not installed, so barriers were not looked for (npm --prefix {AXE.parents[2]} ci)"
        (pytest.fail if os.environ.get("CI", "").lower() in ("1", "true") else pytest.skip)(why)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    size = page.viewport_size
    assert size is not None
    # axe-core cannot measure the contrast of what is scrolled out of sight.
    page.set_viewport_size({"width": size["width"], "height": max(size["height"], TALL_PX)})
    found = page.evaluate(
        """async (selector) => {
            const places = () => JSON.stringify([innerHeight, ...[...document.querySelectorAll(selector)].map((node) =>
                node.getBoundingClientRect())]);
            // Until the page has taken its new size: what moves meanwhile cannot be measured.
            for (let before = '', same = 0; same < 5; before = places()) {
                await new Promise((resolve) => setTimeout(resolve, 100));
                await new Promise(requestAnimationFrame);
                same = places() === before ? same + 1 : 0;
            }
            // The body of JupyterLab is 0 px high and hides what overflows, so axe-core takes all of it for hidden.
            document.body.style.height = '100vh';
            const { violations, passes, incomplete } = await axe.run(selector);
            document.body.style.height = '';
            const serious = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
            const said = (id) => ({ html, failureSummary }) => `${id}: ${html}: ${failureSummary}`;
            // Links in outputs of cells have the color that JupyterLab gives them, without a line.
            const others = ({ target }) => document.querySelector(target.at(-1))?.closest('.skytells-chat');
            const each = serious.flatMap(({ id, nodes }) =>
                nodes.filter((node) => id !== 'link-in-text-block' || !others(node)).map(said(id)));
            // A rule that fails with an error has no result but this one.
            const broken = incomplete.flatMap(({ nodes }) => nodes.flatMap(({ none }) => none));
            const errors = broken.map(({ data, message }) => data ?? message);
            const texts = passes.find(({ id }) => id === 'color-contrast')?.nodes ?? [];
            const read = texts.filter(({ any }) => any.some(({ message }) => /contrast of [\\d.]+/.test(message)));
            return { each, errors, read: read.length };
        }""",
        selector,
    )
    assert found["read"] > 5, f"the contrast of no text in {selector} was measured: {found}"
    return list(found["each"])


def wait_until_narrow(page: Page, selector: str) -> None:
    """Wait until an element and all of its content are as narrow as the window, which has just got another size."""
    page.wait_for_function(
        """(selector) => {
            const node = document.querySelector(selector);
            return node.clientWidth <= innerWidth && node.scrollWidth <= node.clientWidth;
        }""",
        arg=selector,
    )


def placeholder_contrast(field: Locator) -> float:
    """The ratio of WCAG 2 between a placeholder and its field, as a canvas paints one over the other."""
    script = """(node) => {
        const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const grounds = [];
        for (let at = node; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
        const paint = (color) => { canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); };
        const read = () => `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join(', ')})`;
        grounds.forEach(paint);
        const ground = read();
        const { color, opacity } = getComputedStyle(node, '::placeholder');
        canvas.globalAlpha = Number(opacity);
        paint(color);
        return [read(), ground];
    }"""
    return contrast(*field.evaluate(script))


def contrast(color: str, ground: str) -> float:
    """The ratio of WCAG 2 between two opaque or almost opaque CSS colors."""
    light = []
    for css in (color, ground):
        parts = [float(part) / 255 for part in css[css.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def _default_settings(lab: Lab) -> None:
    """Reset what an earlier test has chosen, such as a theme; the next page that loads has these settings."""
    for chosen in ("settings", "workspaces"):
        shutil.rmtree(lab.folder / chosen, ignore_errors=True)
    for plugin, values in LAB_SETTINGS.items():
        file = lab.folder / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))


def _kernel(lab: Lab, name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Register a kernel with the settings of this test and this environment, and give what a notebook says of it."""
    of_test = {name: value for name, value in os.environ.items() if name.startswith(OF_A_TEST)}
    described = {"display_name": "Python 3", "language": "python"}
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    file = lab.folder / "data" / "kernels" / name / "kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**described, "argv": command, "env": {**of_test, **environment}}))
    return {**described, "name": name}


def _end_kernels(lab: Lab) -> None:
    """End all kernels, also one that a page has just begun to start.

    Jupyter answers 500 while a kernel starts: it lists it before it has set when it was last active.
    """
    deadline = time.monotonic() + START_S
    while True:
        try:
            with _asked(lab, "/api/kernels") as answer:
                kernels = json.load(answer)
            for kernel in kernels:
                _asked(lab, f"/api/kernels/{kernel['id']}", "DELETE").close()
        except urllib.error.HTTPError as problem:
            problem.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            if not kernels:
                return


def _asked(lab: Lab, path: str, method: str = "GET") -> Any:
    headers = {"Authorization": f"token {lab.token}"}
    return urllib.request.urlopen(urllib.request.Request(lab.url + path, headers=headers, method=method), timeout=30)


def _wait_until_open(page: Page) -> None:
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")


def _wait(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Jupyter ended: {log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            _asked(lab, "/api/status").close()
            return
        time.sleep(0.2)
    raise RuntimeError(f"Jupyter did not answer within {START_S} s: {log.read_text()[-2000:]}")


def _free_port() -> int:
    """Below those that the system gives out, so that no test beside this one is given it before Jupyter binds it."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
