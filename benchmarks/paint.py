"""How long a browser takes to show a semantic map: ``python -m benchmarks.paint``.

The figure is saved as a page and opened in headless Chromium without a graphics card: WebGL is drawn by software on the
processor, so a machine with a card is faster. ``first_paint_s`` runs from the navigation to the frame after plotly says
that it drew every trace, ``zoom_s`` from a zoom to the frame after it. The places of the points are given, so that no
layout is in ``figure_s``. ``max_points`` is raised above its default where there are more points. ``load`` is that of
the machine: distrust the seconds where it is above the cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from playwright.sync_api import Browser, sync_playwright

from benchmarks.lab import CHROMIUM_FLAGS
from skytells_nb.columns import from_matrix
from skytells_nb.plots import save, semantic_map

POINTS = (10_000, 100_000, 500_000)
GROUPS = 12
OUT = Path(__file__).parent / "results" / "paint.jsonl"
TIMEOUT_MS = 120_000

# Plotly's promise is kept once every trace is drawn. The first callback comes before the paint of its frame, so two.
WATCH = """
let plotly;
window.painted = new Promise((resolve) => {
  const now = () => resolve(performance.now() / 1000);
  Object.defineProperty(window, 'Plotly', {
    configurable: true,
    get: () => plotly,
    set: (library) => {
      const draw = library.newPlot;
      library.newPlot = (...given) => draw(...given).then((plot) => {
        requestAnimationFrame(() => requestAnimationFrame(now));
        return plot;
      });
      plotly = library;
    },
  });
});
"""
# How many points plotly drew, and the share of the WebGL canvas that they cover, before anything is zoomed.
DRAWN = """() => {
  const plot = document.querySelector('.js-plotly-plot');
  const points = plot._fullData.reduce((sum, trace) => sum + trace._length, 0);
  const canvas = plot.querySelector('canvas.gl-canvas-context');
  const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height });
  const context = copy.getContext('2d');
  context.drawImage(canvas, 0, 0);
  const pixels = context.getImageData(0, 0, copy.width, copy.height).data;
  let covered = 0;
  for (let i = 3; i < pixels.length; i += 4) covered += pixels[i] > 0;
  return [points, covered / (pixels.length / 4)];
}"""
ZOOM = """async () => {
  const plot = document.querySelector('.js-plotly-plot');
  const [low, high] = plot._fullLayout.xaxis.range;
  const quarter = (high - low) / 4;
  const start = performance.now();
  await Plotly.relayout(plot, { 'xaxis.range': [low + quarter, high - quarter] });
  await new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  return (performance.now() - start) / 1000;
}"""
RENDERER = """() => {
  const gl = document.createElement('canvas').getContext('webgl');
  const info = gl?.getExtension('WEBGL_debug_renderer_info');
  return info ? gl.getParameter(info.UNMASKED_RENDERER_WEBGL) : 'none';
}"""


def frame(points: int) -> pd.DataFrame:
    """Rows in a dozen groups, with places of their own."""
    random = np.random.default_rng(0)
    group = random.integers(GROUPS, size=points)
    at = 5 * random.normal(size=(GROUPS, 2))[group] + random.normal(size=(points, 2))
    columns = {"x": at[:, 0], "y": at[:, 1], "group": [f"group {name}" for name in group]}
    return pd.DataFrame({**columns, "embedding": from_matrix(at.astype(np.float32))})


def painted(browser: Browser, page: Path, shot: Path | None) -> dict[str, Any]:
    """One page, opened in a context of its own."""
    context = browser.new_context(viewport={"width": 1_000, "height": 640})
    tab = context.new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    tab.add_init_script(WATCH)
    tab.goto(page.as_uri(), wait_until="commit")
    first = tab.evaluate("() => window.painted")
    if shot is not None:
        tab.screenshot(path=str(shot))
    drawn, covered = tab.evaluate(DRAWN)
    if not covered:
        raise RuntimeError(f"{page.name}: nothing was drawn")
    found = {"first_paint_s": first, "zoom_s": tab.evaluate(ZOOM), "drawn": drawn, "covered": covered}
    found["renderer"] = tab.evaluate(RENDERER)
    context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, nargs="+", default=POINTS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--shots", type=Path, help="a folder for a picture of each page")
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        asked.out.open("w", encoding="utf-8") as file,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=asked.chromium, args=CHROMIUM_FLAGS)
        for points in asked.points:
            rows = frame(points)
            start = time.perf_counter()
            figure = semantic_map(rows, color="group", hover=[], coordinates=("x", "y"), max_points=points)
            made = time.perf_counter() - start
            page = save(figure, Path(folder) / "map.html")
            about = {"points": points, "figure_s": made, "page_bytes": page.stat().st_size}
            for repeat in range(asked.repeats):
                shot = asked.shots / f"paint-{points}.png" if asked.shots and not repeat else None
                found = {**about, "repeat": repeat, **painted(browser, page, shot), "browser": browser.version}
                found |= {"cores": os.cpu_count(), "load": os.getloadavg()[0]}
                line = json.dumps({**found, "when": datetime.now(UTC).isoformat(timespec="seconds")})
                print(line, file=file, flush=True)
                print(line, flush=True)
        browser.close()


if __name__ == "__main__":
    main()
