"""Run by the release workflow: the built wheel installed in each documented form, each in an empty environment.

``python tests/wheel_forms.py dist/*.whl [EXTRA …]``. In each environment the package is imported from the wheel, fills
a column from a server of this process, and does what the extra is for. Needs uv, pytest, psycopg, redis-server and
PostgreSQL; prints a line for each form with its seconds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

from store_servers import shared_server

COMMON = """
import os, sysconfig
import pandas as pd
import skytells_nb as sky

assert sky.__file__.startswith(sysconfig.get_paths()["purelib"]), f"{sky.__file__} is not the installed wheel"

def filled(cache="memory"):
    session = sky.connect("sk-of-this-check", base_url=os.environ["SERVICE"], cache=cache)
    frame = pd.DataFrame({"text": ["one", "three", None, "one"]}).skytells.embed("text", progress=False)
    assert frame["embedding"].isna().tolist() == [False, False, True, False]
    return session, frame
"""

FORMS = {
    "": """
session, frame = filled()
assert frame.skytells.report.answered == 3
""",
    "notebook": """
from IPython.core.interactiveshell import InteractiveShell
filled()
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "skytells_nb")
assert {"skytells_chat", "skytells_respond"} <= shell.magics_manager.magics["cell"].keys()
shell.run_line_magic("skytells", "usage")
assert sky.widgets.ChatPanel() is not None
""",
    "plots": """
session, frame = filled()
frame = pd.DataFrame({"text": [f"text {'x' * n}" for n in range(30)]}).skytells.embed("text", progress=False)
figure = sky.plots.semantic_map(frame, progress=False)
assert "UMAP" in str(figure.layout.annotations), "the map is not by UMAP"
sky.plots.save(figure, "map.html")
""",
    "arrow": """
from skytells_nb import files
session, frame = filled()
frame.to_parquet("frame.parquet")
assert files.read("frame.parquet").equals(frame)
""",
    "polars": """
import polars as pl
import skytells_nb.polars
filled()
frame = pl.DataFrame({"text": ["one", None]}).skytells.embed("text", progress=False)
assert frame["embedding"].is_null().to_list() == [False, True]
""",
    "keyring": """
import keyring, keyring.backend

class Held(keyring.backend.KeyringBackend):
    priority = 1
    def get_password(self, service, username):
        return "sk-from-the-keyring"
    def set_password(self, service, username, password): ...
    def delete_password(self, service, username): ...

filled()
keyring.set_keyring(Held())
session = sky.connect(base_url=os.environ["SERVICE"], cache="off")
assert pd.Series(["one"]).skytells.embed(progress=False).notna().all()
""",
    "redis": """
session, frame = filled(os.environ["REDIS"])
assert filled(os.environ["REDIS"])[1].skytells.report.cached == 2
""",
    "postgres": """
session, frame = filled(os.environ["POSTGRESQL"])
assert filled(os.environ["POSTGRESQL"])[1].skytells.report.cached == 2
""",
    "dask": """
import dask
import dask.dataframe as dd
import skytells_nb.dask
filled()
lazy = dd.from_pandas(pd.DataFrame({"text": ["one", "two", "four", "nine"]}), npartitions=2)
with dask.config.set(scheduler="threads"):
    assert lazy.skytells.embed("text", progress=False).compute()["embedding"].notna().all()
""",
    "local": """
session = sky.connect(local=True, cache="memory")
frame = pd.DataFrame({"text": ["a cat", None]}).skytells.embed("text", progress=False)
assert len(frame["embedding"][0]) == 512
""",
    "statistics": """
filled()
df = pd.DataFrame({"label": ["late"] * 6 + ["broken"] * 4})
gold = pd.Series({0: "late", 1: "late", 2: "broken", 6: "broken", 7: "broken"})
assert df.skytells.share("label", gold=gold)["low"].between(0, 1).all()
""",
    "all": """
from importlib.metadata import requires
from importlib.util import find_spec
filled()
for module in ("IPython", "anywidget", "plotly", "umap", "pyarrow", "starlette", "scipy", "xllamacpp"):
    assert find_spec(module), f"[all] must bring {module}"
for module in ("dask", "redis", "psycopg", "polars", "keyring"):
    assert not find_spec(module), f"[all] brings {module}, which README says is an extra of its own"
""",
    "demo": """
import sys
from skytells_nb.cli.main import main
filled()
os.environ["SKYTELLS_CACHE_DIR"] = os.getcwd()
assert main(["local", "install"]) in (0, None)
assert main(["demo", "--out", "demo"]) in (0, None)
assert os.path.getsize("demo/quickstart.html") > 100_000
""",
}


class Embeddings(BaseHTTPRequestHandler):
    """``POST …/embeddings``: vectors that depend on the lengths of the texts."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        data = [{"object": "embedding", "index": i, "embedding": [1.0, float(len(t))]} for i, t in enumerate(texts)]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        body = json.dumps({"object": "list", "model": asked["model"], "data": data, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing: the lines of the forms are what is read."""


def extras_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    return {line.removeprefix("Provides-Extra: ") for line in lines if line.startswith("Provides-Extra: ")}


def check(wheel: Path, extra: str, environment: dict[str, str], uv: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "env", "bin", "python")
        subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(python.parents[1])], check=True)
        form = f"{wheel}[{extra}]" if extra else str(wheel)
        subprocess.run([*uv, "pip", "install", "--quiet", "--python", str(python), form], check=True)
        # Isolated: neither this checkout nor the packages of a user are on the import path.
        command = [str(python), "-I", "-W", "ignore", "-c", COMMON + FORMS[extra]]
        subprocess.run(command, cwd=folder, env=environment, check=True, timeout=600, capture_output=True, text=True)


def main(wheel: Path, chosen: list[str]) -> int:
    forms = extras_of(wheel) | {""}
    if forms != FORMS.keys():
        print(f"The wheel has the extras {sorted(forms)}, and this script has {sorted(FORMS)}")
        return 1
    uv = [sys.executable, "-m", "uv"] if find_spec("uv") else [str(shutil.which("uv"))]
    service = ThreadingHTTPServer(("127.0.0.1", 0), Embeddings)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SKYTELLS_", "PYTHON"))}
    environment["SERVICE"] = f"http://127.0.0.1:{service.server_port}/v1"
    failed = []
    for extra in chosen or FORMS:
        began = time.monotonic()
        name = f'pip install "skytells-nb[{extra}]"' if extra else "pip install skytells-nb"
        if extra in ("redis", "postgres"):
            kind = {"postgres": "postgresql"}.get(extra, extra)
            environment[kind.upper()] = shared_server(kind).address()
        try:
            check(wheel, extra, environment, uv)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as problem:
            failed.append(extra)
            print(f"FAILED  {name}: {problem.stderr or 'see above'}", flush=True)
        else:
            print(f"works   {name}  ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(chosen or FORMS) - len(failed)} of {len(chosen or FORMS)} forms work")
    return len(failed) > 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
