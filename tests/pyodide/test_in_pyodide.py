"""Tutorials in the reader's browser: what ``docs/browser/build.py`` makes, in Chromium, with Pyodide from this machine.

Pyodide, numpy, pandas and pydantic are the builds that its public address serves; ``distribution.py`` says what is not.
"""

from __future__ import annotations

import functools
import http.server
import importlib.util
import json
import os
import re
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from distribution import PACKAGES, PYODIDE, lay_out, wheels
from jupyter_lab import browser
from packaging.requirements import Requirement

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CI = os.environ.get("CI", "").lower() in ("1", "true")
NEWER_HERE = {"pyarrow"}
"""What Pyodide has in an older version than an extra asks for, so that the extra cannot be had there."""
LESSONS = ("02_replay", "05_enrich_a_frame")
KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel"

MORE = '''
%pip install -q plotly
import contextlib, io, json, sys, threading

import pandas as pd

said = {"platform": sys.platform}
try:
    threading.Thread(target=print).start()
except RuntimeError as refused:
    said["thread"] = str(refused)


def told(name, call):
    """Keep the class and the message of the error that a call must raise."""
    try:
        call()
    except sky.SkytellsError as error:
        said[name] = [type(error).__name__, str(error)]
    else:
        said[name] = ["none", ""]


clustered = tickets.skytells.cluster(n=3, name="words", text="message", session=replayed)
figure = sky.plots.semantic_map(clustered, color="label", method="pca", progress=False)
said["points"] = sum(len(trace.x) for trace in figure.data if "scatter" in trace.type and trace.mode == "markers")
told("missed", lambda: clustered.skytells.embed("day", session=replayed, progress=False))
told("umap", lambda: sky.plots.semantic_map(clustered, method="umap", progress=False))
told("local", lambda: sky.connect(local=True, cache="memory").client.models.list())
live = sky.connect("test-key", base_url="http://127.0.0.1:9/v1", cache="memory")
told("live", lambda: live.client.models.list())
told("column", lambda: pd.Series(["one", "two"]).skytells.embed(session=live, on_error="raise", progress=False))

from skytells_nb.cli.main import main

with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
    main(["--help"])
said["help"] = printed.getvalue()
print(json.dumps(said))
'''
"""Runs after both lessons: a map, clusters, errors, the command line."""


def _missing(what: str) -> None:
    message = f"{what}, so nothing was tried in Pyodide (make test fetches it where npm is installed)"
    if CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="module")
def builder() -> Any:
    """The module that makes the page."""
    spec = importlib.util.spec_from_file_location("browser_build", ROOT / "docs" / "browser" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_required_versions_are_in_pyodide() -> None:
    """No requirement asks for more than Pyodide has, but for one extra; what it has not at all is Python to install."""
    if not (PYODIDE / "pyodide-lock.json").exists():
        _missing("Pyodide is not there")
    listed = json.loads((PYODIDE / "pyodide-lock.json").read_text("utf-8"))["packages"]
    versions = {re.sub(r"[-_.]+", "-", name).lower(): package["version"] for name, package in listed.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [Requirement(text) for text in project["dependencies"]]
    asked = [
        *needed,
        *(Requirement(text) for name in ("notebook", "plots", "arrow", "statistics") for text in extras[name]),
    ]
    too_old = {wish.name for wish in asked if wish.name in versions and versions[wish.name] not in wish.specifier}
    beside = {Requirement(line.partition(" --")[0]).name for line in _beside()}

    assert too_old == NEWER_HERE
    assert {wish.name for wish in needed} - versions.keys() == {"pydantic-settings"}
    assert {wish.name for wish in [*needed, *map(Requirement, extras["notebook"])]} - versions.keys() <= beside


def _beside() -> list[str]:
    lines = (ROOT / "docs" / "browser" / "packages.txt").read_text("utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_lesson_that_changed_is_not_built_unseen(builder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What of it runs from its recording is chosen by the cells that it has."""
    cells = [{"cell_type": "code", "id": "connect", "source": "sky.connect()", "metadata": {}}]
    monkeypatch.setattr(builder.json, "loads", lambda text: {"cells": cells})
    with pytest.raises(ValueError, match="05_enrich_a_frame has changed"):
        builder.notebook_for_browser("05_enrich_a_frame")


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".wasm": "application/wasm",
        ".mjs": "text/javascript",
    }

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def page_of_lessons(builder: Any, tmp_path: Path) -> Iterator[str]:
    """The address of the built page, which loads Pyodide from here, and has a notebook of both lessons and more."""
    if not (PYODIDE / "pyodide-lock.json").exists():
        _missing("Pyodide is not there")
    # Also in CI: what a registry does not have one day is no fault of the package.
    if not builder.JUPYTERLITE.exists():
        pytest.skip("JupyterLite could not be installed, so no page was made and nothing was tried in Pyodide")
    if not (PACKAGES / ".installed").exists():
        # They come out of another project's file.
        pytest.skip("Pyodide's builds of numpy and pandas could not be fetched, so nothing was tried in Pyodide")
    beside, site = tmp_path / "wheels", tmp_path / "site"
    beside.mkdir()
    wheels([*(line.partition("==")[0] for line in _beside()), "plotly"], beside)
    builder.build(site, beside)
    (site / "pyodide").mkdir()
    lay_out(site / "pyodide")

    first, second = (json.loads((site / "files" / f"{name}.ipynb").read_text("utf-8")) for name in LESSONS)
    for name, lesson in zip(LESSONS, (first, second), strict=True):
        for cell in lesson["cells"]:
            cell["id"] = f"{name[:2]}-{cell['id']}"
    kept = {"cell_type": "code", "id": "keep", "source": "replayed = session", "metadata": {}, "outputs": []}
    more = {"cell_type": "code", "id": "more", "source": MORE, "metadata": {}, "outputs": []}
    for cell in (kept, more):
        cell["execution_count"] = None  # type: ignore[assignment]
    first["cells"] += [kept, *second["cells"], more]
    (site / "files" / "02_replay.ipynb").write_text(json.dumps(first), "utf-8")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(site)))
    address = f"http://127.0.0.1:{server.server_port}"
    config = site / "jupyter-lite.json"
    settings = json.loads(config.read_text("utf-8"))
    options = settings["jupyter-config-data"]
    # Cells that are scrolled away stay in the page.
    tracker = {"@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"}}
    options.update(exposeAppInBrowser=True, settingsOverrides=tracker)
    assert "pyodideUrl" not in options["litePluginSettings"][KERNEL]
    options["litePluginSettings"][KERNEL]["pyodideUrl"] = f"{address}/pyodide/pyodide.mjs"
    config.write_text(json.dumps(settings), "utf-8")
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield address
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


RUN_ALL = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const notebook = app.shell.currentWidget;
    await notebook.sessionContext.ready;
    await app.commands.execute('notebook:run-all-cells');
    return notebook.context.model.toJSON();
}"""


def _plain(outputs: list[Any]) -> str:
    texts = [
        output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"] for output in outputs
    ]
    return "".join("".join(text) for text in texts)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(900)
def test_lessons_run_in_a_page(page_of_lessons: str, chromium: Path, tmp_path: Path) -> None:
    """Each cell runs from the recording, magics too, and those of the replay tutorial show what it is saved with.

    A map by PCA has a point for each message; what cannot work there ends at once and says what does. The page asks no
    other address.
    """
    outside: list[str] = []
    here = (page_of_lessons, "blob:", "data:")

    def note(request: Any) -> None:
        if not request.url.startswith(here):
            outside.append(request.url)

    with browser(chromium, tmp_path / "profile") as running:
        running.on("request", note)
        page = running.new_page()
        page.set_default_timeout(600_000)
        page.goto(f"{page_of_lessons}/notebooks/index.html?path=02_replay.ipynb")
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.sessionContext")
        document = page.evaluate(RUN_ALL)
        answer = page.locator(".skytells-md").first.inner_text()

    cells = {cell["id"]: cell for cell in document["cells"] if cell["cell_type"] == "code"}
    failed = {
        name: cell["outputs"]
        for name, cell in cells.items()
        if any(o["output_type"] == "error" for o in cell["outputs"])
    }
    assert failed == {}
    assert [cell["execution_count"] for cell in cells.values()] == list(range(1, len(cells) + 1))
    shown = {name: _plain(cell["outputs"]) for name, cell in cells.items()}
    saved = {
        f"02-{cell['id']}": _plain(cell["outputs"])
        for cell in nbformat.read(ROOT / "notebooks" / "02_replay.ipynb", 4).cells
        if cell["cell_type"] == "code"
    }
    assert {name: text for name, text in shown.items() if name in saved} == saved
    assert len(answer) > 40
    assert answer in saved["02-chat"]
    assert re.search(r"cached +8\nrequests +0", shown["05-again"])
    assert "8 distinct, 8 cached, 0 requests" in shown["05-dry-run"]
    assert "failed" not in {name.partition("-")[2] for name in cells}

    said = json.loads(shown["more"].splitlines()[-1])
    assert said["platform"] == "emscripten"
    assert "thread" in said["thread"]
    assert said["points"] == 19
    assert said["missed"][0] == "ReplayMissError"
    assert said["umap"][0] == "MissingExtraError"
    assert 'method="pca"' in said["umap"][1]
    assert said["local"][0] == "MissingExtraError"
    assert said["live"][0] == "ConnectError"
    assert "has no sockets; replay a recording" in said["live"][1]
    assert said["column"][0] == "SkytellsError"
    assert "replay a recording" in said["column"][1]
    assert "test-key" not in json.dumps(document["cells"][:-1]) + shown["more"]
    assert "doctor" in said["help"]
    assert outside == []
