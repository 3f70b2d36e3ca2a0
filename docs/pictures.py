"""Draw the map of the README from a table of names and summaries: ``python docs/pictures.py packages.tsv``.

The table has the columns ``name`` and ``summary``; the README's are 3,000 packages of PyPI, drawn at random. The
embeddings are those of the local Skytells, the pictures those of Chromium.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
from PIL import Image
from playwright.sync_api import sync_playwright

import skytells_nb as sky

FOLDER = Path(__file__).parent / "images"
SIZE = {"width": 900, "height": 620}


def main(table: str) -> None:
    packages = pd.read_csv(table, sep="\t", usecols=["name", "summary"], dtype=str).dropna().drop_duplicates("summary")
    packages = packages[packages["summary"].str.len() > 15].sample(3000, random_state=2, ignore_index=True)
    sky.connect(local=True)
    packages = packages.skytells.embed("summary", progress=False)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as browsers:
        browser = browsers.chromium.launch(args=["--no-sandbox"], executable_path=_chromium())
        for theme in ("light", "dark"):
            figure = sky.plots.semantic_map(packages, theme=theme, title="3,000 Python packages by what they do")
            # A copy has no rows: its page is the picture alone.
            page = sky.plots.save(go.Figure(figure), Path(folder) / f"{theme}.html", **SIZE)
            view = browser.new_page(viewport=SIZE, device_scale_factor=1.5)
            view.goto(page.as_uri())
            view.wait_for_timeout(3000)
            shown = Path(folder) / f"{theme}.png"
            view.screenshot(path=shown)
            Image.open(shown).convert("RGB").save(FOLDER / f"map-{theme}.webp", quality=82, method=6)


def _chromium() -> str | None:
    """The system's Chromium where there is one, else the one that playwright has installed."""
    return next(
        (str(path) for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None
    )


if __name__ == "__main__":
    main(sys.argv[1])
