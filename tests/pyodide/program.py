"""Runs in Pyodide: notebooks from their recordings, a figure, errors, the command line. Prints what it saw as JSON."""

import ast
import contextlib
import io
import json
import os
import sys
import threading
import traceback
from pathlib import Path

sys.dont_write_bytecode = True  # the folders of packages are those of this machine
sys.path.append("/more")

import pyrsistent_as_rpds.pure  # noqa: E402

sys.modules["rpds"] = pyrsistent_as_rpds.pure

import pandas as pd  # noqa: E402

import skytells_nb as sky  # noqa: E402

said = {"platform": sys.platform, "pandas": pd.__version__, "cells": {}, "failed": {}}
os.chdir("/notebooks")

try:
    threading.Thread(target=print).start()
except RuntimeError as refused:
    said["thread"] = str(refused)


def cells_of(name, replaced=(), last=None):
    """Run the cells of a notebook that have no magics and return their variables; keep what each would show."""
    space = {"__name__": "__main__"}
    for cell in json.loads(Path(f"{name}.ipynb").read_text("utf-8"))["cells"]:
        source = "".join(cell["source"]).replace("%load_ext skytells_nb\n", "").replace(*(replaced or ("", "")))
        if cell["cell_type"] != "code" or source.startswith("%"):
            continue
        if cell["id"] == last:
            break
        try:
            tree = ast.parse(source)
            printed = io.StringIO()
            shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
            with contextlib.redirect_stdout(printed):
                exec(compile(tree, cell["id"], "exec"), space)
                value = None if shown is None else eval(compile(ast.Expression(shown.value), cell["id"], "eval"), space)
            said["cells"][f"{name} {cell['id']}"] = printed.getvalue() + ("" if value is None else repr(value))
        except Exception:
            said["failed"][f"{name} {cell['id']}"] = traceback.format_exc()
    return space


def told(name, call):
    """Keep the class and the message of the error that a call must raise."""
    try:
        call()
    except sky.SkytellsError as error:
        said[name] = [type(error).__name__, str(error)]
    else:
        said[name] = ["none", ""]


replay = cells_of("02_replay")
tickets = replay["tickets"]
tickets = tickets.skytells.cluster(n=3, name="words", text="message")
figure = sky.plots.semantic_map(tickets, color="label", method="pca", progress=False)
said["points"] = sum(len(trace.x) for trace in figure.data if "scatter" in trace.type and trace.mode == "markers")
told("missed", lambda: tickets.skytells.embed("day", progress=False))
told("umap", lambda: sky.plots.semantic_map(tickets, method="umap", progress=False))

cells_of("05_enrich_a_frame", ('cache="memory"', 'cache="replay:/recordings/05_enrich_a_frame.sqlite"'), last="failed")

told("local", lambda: sky.connect(local=True, cache="memory").client.models.list())
live = sky.connect("test-key", base_url="http://127.0.0.1:9/v1", cache="memory")
told("live", lambda: live.client.models.list())
told("column", lambda: pd.Series(["one", "two"]).skytells.embed(session=live, on_error="raise", progress=False))

from skytells_nb.cli.main import main  # noqa: E402

with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
    main(["--help"])
said["help"] = printed.getvalue()
print(json.dumps(said))
