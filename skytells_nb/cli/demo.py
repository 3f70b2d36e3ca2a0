"""Run the quickstart notebook on the local Skytells, without a browser, and summarize the run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from skytells_nb.errors import ConfigurationError, InputError, MissingExtraError, SkytellsError

CELL_TIMEOUT_S = 600
_SUMMARY = """
import json, skytells_nb
session = skytells_nb.current()
print(json.dumps({
    "rows": sum(report.rows for report in session.reports),
    "distinct": sum(report.distinct for report in session.reports),
    "cached": sum(report.cached for report in session.reports),
    "requests": session.totals.requests,
    "tokens": session.totals.input_tokens + session.totals.output_tokens,
    "cost": session.totals.cost or 0.0,
}))
"""


@dataclass(frozen=True, slots=True)
class Demo:
    """Totals of a run of the notebook, over all of its calls, and the paths of its two files."""

    rows: int
    distinct: int
    requests: int
    cached: int
    tokens: int
    cost: float
    seconds: float
    notebook: Path
    page: Path

    def __str__(self) -> str:
        return "\n".join(
            [
                f"rows      {self.rows:,}",
                f"distinct  {self.distinct:,}",
                f"requests  {self.requests:,}",
                f"cached    {self.cached:,}",
                f"tokens    {self.tokens:,}",
                f"cost      ${self.cost:.2f} (the local Skytells is free)",
                f"seconds   {self.seconds:.1f}",
                f"notebook  {self.notebook}",
                f"page      {self.page}",
            ]
        )


def quickstart() -> Path:
    """Return the path of the quickstart notebook: in the package, else in the source checkout."""
    packaged = Path(str(files("skytells_nb"))) / "quickstart.ipynb"
    source = Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb"
    for place in (packaged, source):
        if place.exists():
            return place
    raise ConfigurationError(
        "The quickstart notebook is not installed; pass another one: python -m skytells_nb demo NOTEBOOK"
    )


def run(notebook: Path | None = None, out_dir: Path = Path("build/demo")) -> Demo:
    """Execute the notebook and write it and an HTML page to ``out_dir``.

    Raises MissingExtraError without nbclient and nbconvert, InputError for a file that is not a notebook, SkytellsError
    if a cell fails.
    """
    try:
        import nbclient
        import nbformat
        from nbconvert import HTMLExporter
    except ModuleNotFoundError as missing:
        raise MissingExtraError(f"The demo ({missing.name} is missing)", "demo") from None

    source = notebook or quickstart()
    try:
        document = nbformat.read(source, as_version=4)
    except (OSError, ValueError, AttributeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise InputError(f"{source} cannot be read as a notebook: {reason}") from None
    out_dir.mkdir(parents=True, exist_ok=True)
    # Not within the package, whose modules would hide those of Python that have the same names.
    folder = out_dir if notebook is None else source.parent
    summary = nbformat.v4.new_code_cell(_SUMMARY)
    document.cells.append(summary)
    started = time.monotonic()
    with _environment({"SKYTELLS_BASE_URL": "local", "SKYTELLS_NB_STREAM": "final"}):
        client = nbclient.NotebookClient(
            document,
            # The kernel warns about its transport, which does not leave this machine.
            extra_arguments=["--log-level=ERROR"],
            timeout=CELL_TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.execute()
        except nbclient.exceptions.CellExecutionError as failure:
            raise SkytellsError(f"A cell of {source.name} failed: {failure}") from None
        except (nbclient.exceptions.CellTimeoutError, nbclient.exceptions.DeadKernelError) as failure:
            raise SkytellsError(f"{source.name} did not run to completion: {failure}") from None
    seconds = time.monotonic() - started
    document.cells.remove(summary)
    figures = json.loads("".join(output.get("text", "") for output in summary.outputs))

    executed, page = out_dir / source.name, out_dir / f"{source.stem}.html"
    nbformat.write(document, executed)
    _embed_figures(document)
    body, _ = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(document)
    page.write_text(body, encoding="utf-8")
    return Demo(**figures, seconds=seconds, notebook=executed.resolve(), page=page.resolve())


def _embed_figures(document: Any) -> None:
    """Replace each plotly output by HTML that needs no network; the first figure includes the script."""
    import plotly.graph_objects as go

    script: bool | str = True
    for cell in document.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            figure = data.get("application/vnd.plotly.v1+json")
            if figure is not None:
                chart = go.Figure(data=figure["data"], layout=figure["layout"])
                data.clear()
                data["text/html"] = chart.to_html(full_html=False, include_plotlyjs=script)
                script = False


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set these variables for the kernel, which inherits them, and restore them afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
