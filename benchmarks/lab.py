"""JupyterLab on a loopback port, a kernel of it over the websocket that pages use, and a page of it in Chromium."""

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
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket
from playwright.sync_api import Page, sync_playwright

START_S = 120
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "IPYTHONDIR": "ipython",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
}
QUIET = '{"fetchNews": "false", "checkForUpdates": false, "doNotDisturbMode": true}'


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab over the notebooks in ``root``."""

    port: int
    token: str
    root: Path

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
            method=method,
        )
        answer = urllib.request.urlopen(request, timeout=60).read()
        return json.loads(answer) if answer else None


@dataclass(frozen=True, slots=True)
class Message:
    """What the server sent to the page: when (epoch seconds), how many bytes, and what it says."""

    when: float
    size: int
    kind: str
    content: dict[str, Any]
    display_id: str | None


@dataclass
class Kernel:
    """One kernel, behind the server's limits on message and data rates."""

    channel: websocket.WebSocket
    session: str = field(default_factory=lambda: uuid.uuid4().hex)

    def run(self, code: str) -> list[Message]:
        """Run a cell and give the messages of its output, in order; raises RuntimeError where the cell fails."""
        request = uuid.uuid4().hex
        header = {
            **{"msg_id": request, "msg_type": "execute_request", "session": self.session},
            **{"username": "", "version": "5.3", "date": ""},
        }
        content = {
            **{"code": code, "silent": False, "store_history": False, "user_expressions": {}},
            **{"allow_stdin": False, "stop_on_error": True},
        }
        asked = {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
        self.channel.send(json.dumps({**asked, "buffers": []}))
        found: list[Message] = []
        idle = replied = False
        while not (idle and replied):
            raw = self.channel.recv()
            when = time.time()
            message = json.loads(raw)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, said = message["header"]["msg_type"], message["content"]
            idle = idle or (kind == "status" and said["execution_state"] == "idle")
            replied = replied or kind == "execute_reply"
            if kind == "error":
                raise RuntimeError(f"{said['ename']}: {said['evalue']}")
            if message["channel"] == "iopub" and kind not in ("status", "execute_input"):
                size = len(raw.encode() if isinstance(raw, str) else raw)
                found.append(Message(when, size, kind, said, said.get("transient", {}).get("display_id")))
        return found


@contextlib.contextmanager
def jupyter_lab(work: Path, environment: Mapping[str, str]) -> Iterator[Lab]:
    """JupyterLab whose notebooks, settings and kernels' environment are its own."""
    root = work / "notebooks"
    for plugin, text in {
        "apputils-extension/notification": QUIET,
        "notebook-extension/tracker": '{"windowingMode": "none"}',
    }.items():
        file = work / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    root.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        lab = Lab(probe.getsockname()[1], secrets.token_hex(16), root)
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    command += [f"--port={lab.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={lab.token}"]
    command += [f"--ServerApp.root_dir={root}", "--expose-app-in-browser", "--LabApp.news_url=None"]
    environment = {**os.environ, **{name: str(work / folder) for name, folder in FOLDERS.items()}, **environment}
    log = work / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                lab.ask("GET", "/api/status")
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"JupyterLab did not come up: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield lab
    finally:
        # Its own process group: the kernels end with it.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


@contextlib.contextmanager
def kernel(lab: Lab) -> Iterator[Kernel]:
    """A kernel that ends with the block."""
    name = lab.ask("POST", "/api/kernels", {"name": "python3"})["id"]
    running = Kernel(websocket.WebSocket())
    running.channel.connect(
        f"ws://127.0.0.1:{lab.port}/api/kernels/{name}/channels?session_id={running.session}",
        header=[f"Authorization: token {lab.token}"],
        http_no_proxy=["127.0.0.1"],
    )
    try:
        yield running
    finally:
        running.channel.close()
        lab.ask("DELETE", f"/api/kernels/{name}")


@contextlib.contextmanager
def notebook_page(lab: Lab, name: str, chromium: str) -> Iterator[Page]:
    """The notebook, open, its kernel ready."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS, timeout=60_000)
        page = browser.new_context(viewport={"width": 1100, "height": 1000}).new_page()
        page.set_default_timeout(120_000)
        page.goto(f"http://127.0.0.1:{lab.port}/doc/tree/{name}?token={lab.token}")
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")
        page.evaluate("""async () => {
            await window.jupyterapp.restored;
            const session = window.jupyterapp.shell.currentWidget.sessionContext;
            await session.ready;
            await session.session.kernel.info;
        }""")
        try:
            yield page
        finally:
            browser.close()
