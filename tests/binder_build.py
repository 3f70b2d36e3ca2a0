"""Run by ``make binder-test``: Binder's steps in an empty environment, then the first notebook as a visitor runs it.

The steps are those of repo2docker for these files: an environment, the requirements, a copy of the checkout,
postBuild, and at a launch ``binder/start`` with JupyterLab's server. Printed are the seconds of each step, and the most
memory that the server and its kernel had. Fails where a step does, where the server takes longer than 20 s, or above
1 GB.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOK = "01_quickstart.ipynb"
START_S = 20.0
MEMORY_MB = 1000
TOKEN = "only-on-this-machine"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        home, python = work / "home", work / "env" / "bin" / "python"
        home.mkdir()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SKYTELLS_", "NUMBA_"))},
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home / ".cache"),
            "PATH": f"{python.parent}:{os.environ['PATH']}",
        }
        step("environment", [sys.executable, "-m", "venv", str(work / "env")], environment, work)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        # What repo2docker itself installs.
        step("JupyterLab", [*pip, "jupyterlab", "nbclient"], environment, work)
        step("requirements", [*pip, "-r", str(ROOT / "binder" / "requirements.txt")], environment, work)
        checkout = work / "checkout"
        for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, checkout / name)
        step("postBuild", [str(checkout / "binder" / "postBuild")], environment, checkout)
        with server(checkout, environment) as (url, process):
            peak = Peak(process.pid)
            run_notebook(checkout, environment, python)
            used = peak.stop()
        print(f"memory of server and kernel: {used:.0f} MB at most ({url})")
        if used > MEMORY_MB:
            print(f"that must be at most {MEMORY_MB} MB")
            return 1
    return 0


def step(name: str, command: list[str], environment: dict[str, str], folder: Path) -> None:
    began = time.monotonic()
    subprocess.run(command, env=environment, cwd=folder, check=True)
    print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


@contextmanager
def server(checkout: Path, environment: dict[str, str]) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start JupyterLab as a launch does; its address without the token, and its process."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [str(checkout / "binder" / "start"), "jupyter", "lab", "--no-browser", f"--port={port}", "--ip=127.0.0.1"]
    root = ["--allow-root"] if os.geteuid() == 0 else []
    began = time.monotonic()
    process = subprocess.Popen(
        [*command, f"--IdentityProvider.token={TOKEN}", "--ServerApp.log_level=ERROR", *root],
        env=environment,
        cwd=checkout,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}/"
        while True:
            try:
                with urllib.request.urlopen(f"{url}api/contents/notebooks?token={TOKEN}", timeout=5) as reply:
                    names = {entry["name"] for entry in json.load(reply)["content"]}
                    break
            except OSError:
                if process.poll() is not None or time.monotonic() - began > 10 * START_S:
                    raise
                time.sleep(0.1)
        seconds = time.monotonic() - began
        print(f"server with {sum(name.endswith('.ipynb') for name in names)} notebooks: {seconds:.1f} s", flush=True)
        if seconds > START_S or NOTEBOOK not in names:
            raise SystemExit(f"It must list {NOTEBOOK} within {START_S:.0f} s.")
        yield url, process
    finally:
        process.terminate()
        process.wait(30)


def run_notebook(checkout: Path, environment: dict[str, str], python: Path) -> None:
    execute = (
        "import nbformat, sys\n"
        "from nbclient import NotebookClient\n"
        "NotebookClient(nbformat.read(sys.argv[1], 4), timeout=600).execute()\n"
    )
    command = [str(checkout / "binder" / "start"), str(python), "-c", execute, NOTEBOOK]
    step(NOTEBOOK, command, environment, checkout / "notebooks")


class Peak:
    """The most memory that a process, its children and the kernels that this process starts have at a time."""

    def __init__(self, server_pid: int) -> None:
        self._roots = {server_pid, os.getpid()}
        self._most = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        """Return it in megabytes."""
        self._stopped.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._stopped.wait(0.2):
            parents: dict[int, int] = {}
            resident: dict[int, float] = {}
            for status in Path("/proc").glob("[0-9]*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue
                parent, size = re.search(r"^PPid:\s+(\d+)", text, re.M), re.search(r"^VmRSS:\s+(\d+)", text, re.M)
                if parent and size:
                    parents[int(status.parent.name)], resident[int(status.parent.name)] = (
                        int(parent[1]),
                        int(size[1]) / 1e3,
                    )
            mine = set(self._roots)
            for _ in range(8):
                mine |= {pid for pid, parent in parents.items() if parent in mine}
            self._most = max(self._most, sum(resident.get(pid, 0.0) for pid in mine - {os.getpid()}))


if __name__ == "__main__":
    sys.exit(main())
