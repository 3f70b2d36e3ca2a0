"""The quickstart as a person sees it: JupyterLab in a real browser, on the real local models."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_lab import Desk, run_all, save
from playwright.sync_api import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "01_quickstart.ipynb"

WATCH = """() => {
    window.seen = [];
    new MutationObserver(() => {
        for (const cell of document.querySelectorAll('.jp-CodeCell')) {
            if (!cell.textContent.includes('long story')) continue;
            const answer = cell.querySelector('.skytells-md');
            const length = answer ? answer.textContent.length : 0;
            if (length && window.seen.at(-1) !== length) window.seen.push(length);
        }
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""


def with_a_long_answer(source: Path) -> Any:
    """The notebook, with one more cell before its last of code: an answer of seconds, whose growth a busy browser can
    see."""
    notebook = nbformat.read(source, as_version=4)
    story = "%%skytells_chat --temperature 0 --max-tokens 300\nTell me a very long story about a fox."
    last = max(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    notebook.cells.insert(last, nbformat.v4.new_code_cell(story))
    return notebook


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("chat_weights")
def test_the_quickstart_streams_maps_and_charts_in_jupyterlab(tmp_path: Path, desk: Desk) -> None:
    """Text streams in, map and chart are drawn, nothing is fetched from elsewhere, and the file keeps the answer."""
    shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
    settings = {"SKYTELLS_CACHE": str(tmp_path / "answers.sqlite")}
    with desk.opened(with_a_long_answer(NOTEBOOK), settings) as opened:
        page = opened.page
        page.evaluate(WATCH)
        run_all(page)
        status = page.locator(".jp-CodeCell").last
        expect(status.locator(".skytells-table").first).to_be_visible(timeout=300_000)
        figures = page.locator(".js-plotly-plot")
        expect(figures).to_have_count(2)
        expect(figures.nth(0).locator(".scatterlayer .point").nth(50)).to_be_attached()
        expect(figures.nth(1).locator(".barlayer .point").nth(3)).to_be_attached()
        seen = page.evaluate("window.seen")
        assert len(seen) >= 3, f"the answer did not stream: lengths seen {seen}"
        assert seen == sorted(seen)
        answer = page.locator(".jp-CodeCell", has_text="draw charts of their data").locator(".skytells-md")
        expect(answer).to_be_visible()
        complaints = page.locator("[data-mime-type='application/vnd.jupyter.stderr']").all_inner_texts()
        assert [text for text in complaints if "SkytellsWarning" not in text] == []
        page.screenshot(path=str(shots / "lab-end.png"))
        figures.nth(0).scroll_into_view_if_needed()
        page.screenshot(path=str(shots / "lab-map.png"))
        save(page)
        shown = answer.inner_text()
    assert opened.outside == []
    saved = json.loads(opened.file.read_text())
    chat = next(cell for cell in saved["cells"] if "%%skytells_chat" in "".join(cell["source"]))
    assert len(chat["outputs"]) == 1
    kept = "".join(chat["outputs"][0]["data"]["text/plain"])
    assert kept.split()[:5] == shown.split()[:5]
