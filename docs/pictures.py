"""Draw the pictures of the documentation: ``python docs/pictures.py [cell | map packages.tsv]``.

Without arguments, those of the gallery: each block of code in ``gallery.md`` runs, and what it assigns to ``figure`` is
drawn. ``cell`` films a cell of JupyterLab while a completion streams into it. ``map`` draws the map of the README from
a table with the columns ``name`` and ``summary``; its own are 3,000 packages of PyPI, drawn at random. The models are
those of the local Skytells, the pictures those of Chromium.
"""

from __future__ import annotations

import io
import itertools
import re
import sys
import tempfile
import time
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
QUESTION = "Write a Python function that returns the mean of a list of numbers.\nThen explain it in two sentences."
LAST_FRAME_S = 3.0
BLOCK = re.compile(r"^## (?P<heading>.*?)$|^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


Drawing = tuple[str, str, go.Figure]
"""Name, theme and figure of a picture."""


def main(arguments: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    if arguments[:1] == ["cell"]:
        film_cell()
    elif arguments:
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


def film_cell() -> None:
    """Run a cell in JupyterLab and film it, in both themes; each frame is shown for as long as it was there."""
    sys.path.append(str(DOCS.parent / "tests" / "browser"))
    from jupyter_lab import Desk, browser, choose_theme, jupyter_lab, notebook_of, run_all

    chromium = Path(_chromium() or "chromium")
    with (
        tempfile.TemporaryDirectory() as folder,
        jupyter_lab(Path(folder)) as lab,
        browser(chromium, Path(folder) / "profile") as running,
    ):
        for theme in THEMES:
            setup = "import skytells_nb as sky\nsky.connect(local=True)\n%load_ext skytells_nb"
            notebook = notebook_of([setup, f"%%skytells_chat --temperature 0 --max-tokens 160\n{QUESTION}"])
            with Desk(lab, running).opened(notebook, {"SKYTELLS_CACHE": "off"}) as opened:
                page = opened.page
                page.set_viewport_size({"width": 1240, "height": 800})
                choose_theme(page, f"JupyterLab {theme.title()}")
                page.evaluate("window.jupyterapp.commands.execute('application:toggle-presentation-mode')")
                page.evaluate("window.jupyterapp.commands.execute('application:toggle-left-area')")
                run_all(page)
                cell = page.locator(".jp-CodeCell").nth(1)
                cell.locator(".jp-OutputArea-output").first.wait_for(timeout=120_000)
                box = cell.bounding_box() or {}
                area = {"x": box["x"], "y": box["y"], "width": box["width"] + 4, "height": 300}
                frames, ended = [], 0
                while ended < 3:
                    frames.append((time.monotonic(), page.screenshot(clip=area)))
                    ended += cell.locator(".jp-InputPrompt").inner_text() != "[*]:"
                    time.sleep(0.05)
                _write_film(frames, FOLDER / f"cell-{theme}.webp")


def _write_film(frames: list[tuple[float, bytes]], path: Path) -> None:
    images = [Image.open(io.BytesIO(data)).convert("RGB") for _, data in frames]
    times = [at for at, _ in frames]
    seconds = [later - earlier for earlier, later in itertools.pairwise(times)] + [LAST_FRAME_S]
    durations = [round(1000 * value) for value in seconds]
    images[0].save(path, save_all=True, append_images=images[1:], duration=durations, loop=0, quality=60, method=6)


def _chromium() -> str | None:
    """The system's Chromium where there is one, else the one that playwright has installed."""
    return next(
        (str(path) for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None
    )


if __name__ == "__main__":
    main(sys.argv[1:])
