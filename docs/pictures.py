"""Draw the pictures of the documentation: ``python docs/pictures.py [readme packages.tsv]``.

Without arguments, those of the gallery: each block of code in ``gallery.md`` runs, and what it assigns to ``figure`` is
drawn. ``readme`` draws the map of the README from a table with the columns ``name`` and ``summary``; its own are 3,000
packages of PyPI, drawn at random. The models are those of the local Skytells, the pictures those of Chromium.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from playwright.sync_api import sync_playwright

import skytells_nb as sky

DOCS = Path(__file__).parent
FOLDER = DOCS / "images"
WIDTH, HEIGHT = 900, 620
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
BLOCK = re.compile(r"^## (?P<heading>.*?)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


Drawing = tuple[str, str, go.Figure]
"""Name, theme and figure of a picture."""


def main(arguments: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    if arguments:
        sky.connect(local=True)
        _, table = arguments
        draw(readme_map(table))
    else:
        draw(gallery())


def readme_map(table: str) -> Iterator[Drawing]:
    packages = pd.read_csv(table, sep="\t", usecols=["name", "summary"], dtype=str).dropna().drop_duplicates("summary")
    packages = packages[packages["summary"].str.len() > 15].sample(3000, random_state=2, ignore_index=True)
    packages = packages.skytells.embed("summary", progress=False)
    for theme in THEMES:
        yield "map", theme, sky.plots.semantic_map(packages, theme=theme, title="3,000 Python packages by what they do")


def gallery() -> Iterator[Drawing]:
    """Run the page and yield each figure in both themes, named by the heading above it."""
    namespace: dict[str, Any] = {}
    heading = ""
    for block in BLOCK.finditer((DOCS / "gallery.md").read_text(encoding="utf-8")):
        heading = block["heading"] or heading
        code = block["code"] or ""
        if "figure = " not in code:
            exec(code, namespace)
            continue
        for theme in THEMES:
            # On the page a figure follows the notebook; a picture has to have its theme.
            exec(code.replace(", title=", f", theme={theme!r}, title="), namespace)
            yield picture_name(heading), theme, namespace.pop("figure")


def picture_name(heading: str) -> str:
    return "gallery-" + re.sub(r"\W+", "-", heading.lower()).strip("-")


def draw(drawings: Iterator[Drawing]) -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        browser = browsers.chromium.launch(args=["--no-sandbox"], executable_path=_chromium())
        for name, theme, figure in drawings:
            size = {"width": WIDTH, "height": int(figure.layout.height or HEIGHT)}
            # A copy has no rows: its page is the picture alone.
            page = sky.plots.save(go.Figure(figure), Path(folder) / "page.html", **size)
            view = browser.new_page(viewport=size, device_scale_factor=1.5)
            view.goto(page.as_uri())
            view.wait_for_timeout(3000)
            shown = Path(folder) / "page.png"
            view.screenshot(path=shown)
            view.close()
            Image.open(shown).convert("RGB").save(FOLDER / f"{name}-{theme}.webp", quality=82, method=6)


def _chromium() -> str | None:
    """The system's Chromium where there is one, else the one that playwright has installed."""
    return next(
        (str(path) for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None
    )


if __name__ == "__main__":
    main(sys.argv[1:])
