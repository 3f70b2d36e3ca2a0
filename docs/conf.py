"""The documentation site: ``make docs``. Pages are Markdown, the reference comes from the docstrings."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import skytells_nb
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).parent
ROOT = HERE.parent
SOURCE = "https://github.com/skytells/skytells-nb/blob/main"
LINK_OUT = re.compile(r"\]\((?:\.\./)+(?!docs/)([^)#]+)")
"""A Markdown link to a file of the repository that is no page of the site."""
FIGURE = "application/vnd.plotly.v1+json"
NOTEBOOK = re.compile(r"\]\((?:\.\./)+notebooks/(?!00_index)(\w+\.ipynb)")
"""A Markdown link to a notebook, which is a page."""

project = "skytells-nb"
author = "The skytells-nb authors"
copyright = "The skytells-nb authors"
release = skytells_nb.__version__
extensions = [
    "myst_nb",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_templates", "_static"]
suppress_warnings = ["mystnb.unknown_mime_type", "config.cache"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebooks are saved with the outputs that a test compares
numpydoc_show_class_members = False
autosummary_generate = True
autodoc_typehints = "none"  # the sections on parameters say the types, in words
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
# Inventories of other projects are not fetched: the site builds the same without a network.
intersphinx_mapping: dict[str, Any] = {}

html_theme = "pydata_sphinx_theme"
html_title = "skytells-nb"
html_theme_options = {
    "github_url": "https://github.com/skytells/skytells-nb",
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    # Pages of wide tables take the whole width.
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        **{page: [] for page in ("errors", "settings", "accessor", "columns", "coming_from")},
    },
}
# Pages without pages below them have no navigation of their section.
html_sidebars = {page: [] for page in ("index", "getting_started", "gallery", "decisions/*", "search", "genindex")}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
EXTRA = ROOT / "build" / "extra"
"""Notebooks that run in a page, where ``browser/build.py`` has made them: ``make docs`` does."""
html_extra_path = [str(EXTRA)] if EXTRA.is_dir() else []

REFERENCE = {
    "connecting": ("Connecting", "skytells_nb", ["connect", "current", "Session", "Skytells", "frame", "series"]),
    "plots": ("Maps and charts: `sky.plots`", "skytells_nb.plots", None),
    "widgets": ("Widgets: `sky.widgets`", "skytells_nb.widgets", None),
    "files": ("Files: `skytells_nb.files`", "skytells_nb.files", None),
    "columns": ("Columns of vectors: `skytells_nb.columns`", "skytells_nb.columns", None),
    "partition": ("One batch of rows: `skytells_nb.partition`", "skytells_nb.partition", ["enrich"]),
    "errors": ("Errors: `sky.errors`", "skytells_nb.errors", None),
}
"""Pages of the reference by file: title, module, and the names in it; ``None`` stands for the module's ``__all__``."""
ACCESSORS = {
    "dataframe": ("The accessor of a frame: `df.skytells`", FrameAccessor),
    "series": ("The accessor of a column: `series.skytells`", SeriesAccessor),
}
ENDPOINTS = {
    "skytells_nb.client.chat": ["Completions.create", "Completions.parse"],
    "skytells_nb.client.responses": ["Responses.create", "Responses.parse"],
    "skytells_nb.client.embeddings": ["Embeddings.create"],
    "skytells_nb.client.models": ["Models.list", "Models.retrieve"],
}


def write_reference() -> None:
    """Write a page of the reference for each module, from the names that it makes public."""
    folder = HERE / "api" / "_pages"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for page, (title, module, names) in REFERENCE.items():
        public = names or importlib.import_module(module).__all__
        _write(folder / f"{page}.rst", title, [(module, list(public))])
    for page, (title, accessor) in ACCESSORS.items():
        members = [f"~{accessor.__name__}.{name}" for name in dir(accessor) if not name.startswith("_")]
        _write(folder / f"{page}.rst", title, [(accessor.__module__, members)])
    present = {module: [name for name in names if _exists(module, name)] for module, names in ENDPOINTS.items()}
    _write(folder / "endpoints.rst", "Endpoints of the client: `session.client`", list(present.items()))


def _exists(module: str, name: str) -> bool:
    owner, _, member = name.partition(".")
    found = getattr(importlib.import_module(module), owner, None)
    return inspect.isclass(found) and hasattr(found, member)


def _write(page: Path, title: str, groups: list[tuple[str, list[str]]]) -> None:
    heading = title.replace("`", "``")
    lines = [heading, "=" * len(heading), ""]
    for module, names in groups:
        lines += [f".. currentmodule:: {module}", "", ".. autosummary::", "   :toctree: ../_generated", ""]
        lines += [*(f"   {name}" for name in names), ""]
    page.write_text("\n".join(lines), "utf-8")


def copy_notebooks() -> None:
    """Copy the tutorials, which stand beside the documentation, into it."""
    folder = HERE / "tutorials"
    folder.mkdir(exist_ok=True)
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        if notebook.stem == "00_index":
            continue  # tutorials.md is the index here
        content = json.loads(notebook.read_text("utf-8"))
        # Cells with magics are no Python.
        content["metadata"].setdefault("language_info", {"name": "python"})["pygments_lexer"] = "ipython3"
        draw_figures(content)
        text = json.dumps(content)
        copy = folder / notebook.name
        if not copy.exists() or copy.read_text("utf-8") != text:
            copy.write_text(text, "utf-8")


def draw_figures(notebook: dict[str, Any]) -> None:
    """Replace each figure, which a page cannot show as it is saved, by HTML that draws it with the site's plotly."""
    import plotly.graph_objects as go

    numbers = count(1)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            figure = output.get("data", {}).pop(FIGURE, None)
            if figure is not None:
                drawn = go.Figure(data=figure["data"], layout=figure["layout"]).to_html(
                    full_html=False,
                    include_plotlyjs="../_static/plotly.min.js",
                    div_id=f"figure-{next(numbers)}",
                    config={"responsive": True},
                )
                output["data"]["text/html"] = drawn


def copy_plotly(app: Sphinx, failed: Exception | None) -> None:
    """Put plotly's script, which the figures load, beside the pages."""
    import plotly

    if failed is None:
        shutil.copy(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", app.outdir / "_static")


def link_files(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links to notebooks lead to their pages, and those to files that are no pages to the repository."""
    source[0] = LINK_OUT.sub(rf"]({SOURCE}/\1", NOTEBOOK.sub(r"](/tutorials/\1", source[0]))
    if re.match(r"decisions/\d", name):
        # Reached from their list; twenty of them would fill the navigation.
        source[0] = f"---\norphan: true\n---\n{source[0]}"


def setup(app: Sphinx) -> None:
    # Now, and not at an event: autosummary makes its pages of those that it finds before the first one.
    write_reference()
    copy_notebooks()
    if EXTRA.is_dir():
        app.tags.add("browser")
    app.connect("source-read", link_files)
    app.connect("build-finished", copy_plotly)
