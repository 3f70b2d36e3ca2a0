"""The explorer as a person uses it: JupyterLab in a real browser, in front of a real kernel."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile import EVIL, PAGE_PAYLOADS
from jupyter_lab import (
    Desk,
    choose_theme,
    notebook_of,
    placeholder_contrast,
    reload,
    run_all,
    save,
    serious_barriers,
    wait_until_narrow,
)
from local_fakes import EchoGenerator
from playwright.sync_api import Locator, Page, expect
from served import KEY, served

COLUMNS, ROWS = 10, 4
GRID = f"""import pandas as pd, skytells_nb as sky
n = {COLUMNS * ROWS}
frame = pd.DataFrame({{"text": [f"row number{{i}} group{{i % 3}}" for i in range(n)], "group": [f"g{{i % 3}}" for i in
    range(n)], "x": [i % {COLUMNS} for i in range(n)], "y": [i // {COLUMNS} for i in range(n)]}})
asked = sky.current().client.embeddings.create(model="skytells-embed-3-small", input=frame["text"].tolist())
frame["embedding"] = list(asked.matrix)
explorer = sky.widgets.Explorer(frame, coordinates=("x", "y"), color="group")
explorer"""
HOSTILE = """import json, pandas as pd, skytells_nb as sky
texts = json.loads(open("texts.json").read())
frame = pd.DataFrame({"<img src=x onerror=alert(1)>": texts, "x": range(len(texts)), "y": 0,
    "embedding": [[1.0, float(i)] for i in range(len(texts))]}, index=texts)
explorer = sky.widgets.Explorer(frame, coordinates=("x", "y"), color=frame.columns[0], title=texts[0])
explorer"""
HARMFUL = (
    "script, img, iframe, svg, object, embed, form, link, meta, base, a, video, [onerror], [onload], [onmouseover]"
)


class Roomy(EchoGenerator):
    context = 100_000


@dataclass
class Explored:
    """A notebook with an explorer on the page."""

    page: Page
    explorer: Locator
    file: Path
    outside: list[str]
    shots: Path

    def marked(self, what: str, count: int) -> None:
        """Wait until the map has so many points, selected points or lit points."""
        expect(self.explorer).to_have_attribute(f"data-{what}", str(count))

    def in_kernel(self, code: str) -> str:
        """What the kernel prints for this code; messages of the page may be handled beside it, so wait for those."""
        return str(
            self.page.evaluate(
                """async (code) => {
                    const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                    const running = kernel.requestExecute({ code });
                    let said = '';
                    running.onIOPub = ({ header, content }) => {
                        if (header.msg_type === 'stream') said += content.text;
                        if (header.msg_type === 'error') said += content.traceback.join('\\n');
                    };
                    await running.done;
                    return said;
                }""",
                code,
            )
        ).strip()

    def box(self) -> dict[str, float]:
        found = self.explorer.locator(".skytells-map").bounding_box()
        assert found is not None
        return dict(found)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press at the first of these shares of the map's width and height, pass by the others, let go at the last."""
        self.explorer.locator(".skytells-map").scroll_into_view_if_needed()
        box = self.box()
        at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
        self.page.mouse.move(*at[0])
        self.page.mouse.down()
        for place in at[1:]:
            self.page.mouse.move(*place, steps=4)
        self.page.mouse.up()

    def image(self) -> str:
        """What the map shows now, once it is painted."""
        script = """async () => {
            for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame);
            return document.querySelector('.skytells-map canvas').toDataURL();
        }"""
        return str(self.page.evaluate(script))

    def saved(self) -> Any:
        """The notebook's file, once it holds what the page does."""
        save(self.page)
        return json.loads(self.file.read_text())

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(self.shots / f"explorer-{name}.png"))


@contextlib.contextmanager
def opened(tmp_path: Path, desk: Desk, cell: str) -> Iterator[Explored]:
    """JupyterLab with the explorer on the page, its kernel connected to a local Skytells of this process."""
    files = {"texts.json": json.dumps(list(PAGE_PAYLOADS.values()))}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(generator=Roomy()))
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": "memory"}
        notebook = stack.enter_context(desk.opened(notebook_of([cell, "1 + 1"]), settings, files=files))
        page = notebook.page
        run_all(page)
        explorer = page.locator(".skytells-explorer")
        expect(explorer).to_be_visible()
        shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
        yield Explored(page, explorer, notebook.file, notebook.outside, shots)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_what_is_drawn_around_and_asked_for_is_in_python_and_outlives_the_page(tmp_path: Path, desk: Desk) -> None:
    """A box, a lasso and a question; Python's own selection; a reload; a page without a kernel."""
    with opened(tmp_path, desk, GRID) as lab:
        lab.marked("points", COLUMNS * ROWS)
        expect(lab.explorer.locator(".skytells-gestures")).to_contain_text("Shift+drag selects what it goes around")
        expect(lab.page.locator(".skytells-explored")).to_be_hidden()
        expect(lab.page.locator(".jp-OutputArea-output img")).to_be_hidden()
        lab.explorer.locator(".skytells-mode-box").click()
        lab.drag((0.02, 0.02), (0.5, 0.98))
        lab.marked("selected", 20)
        left = [i for i in range(COLUMNS * ROWS) if i % COLUMNS < 5]
        assert lab.in_kernel("print(explorer.selection.index.tolist())") == str(left)
        expect(lab.explorer.locator(".skytells-what")).to_have_text("20 rows selected")
        lab.shot("box")

        lab.explorer.locator(".skytells-mode-pan").click()
        lab.page.keyboard.down("Shift")
        lab.drag((0.55, 0.02), (0.98, 0.02), (0.98, 0.98), (0.55, 0.98))
        lab.page.keyboard.up("Shift")
        lab.marked("selected", 16)
        right = [i for i in range(COLUMNS * ROWS) if i % COLUMNS > 5]
        assert lab.in_kernel("print(explorer.selected.tolist())") == str(right)

        lab.explorer.locator(".skytells-search").fill("NUMBER3")
        expect(lab.explorer.locator(".skytells-what")).to_have_text("11 rows with “NUMBER3”")
        lab.explorer.locator(".skytells-search").fill("")
        question = lab.explorer.locator(".skytells-question")
        question.fill("row number7 group1")
        question.press("Enter")
        lab.marked("highlighted", 20)
        expect(lab.explorer.locator(".skytells-rows tbody tr").first).to_contain_text("1.000")
        expect(lab.explorer.locator(".skytells-status")).to_contain_text("20 nearest rows")
        first = lab.in_kernel("print(explorer.nearest['text'].iloc[0])")
        assert first == "row number7 group1"
        expect(lab.explorer.locator(".skytells-rows tbody tr").first).to_contain_text(first)
        lab.explorer.locator(".skytells-next").click()
        expect(lab.explorer.locator(".skytells-where")).to_have_text("11\u201320 of 20")

        lab.saved()
        reload(lab.page, ".skytells-explorer")
        lab.marked("points", COLUMNS * ROWS)
        lab.marked("selected", 16)
        lab.marked("highlighted", 20)
        expect(question).to_have_value("row number7 group1")
        lab.in_kernel("explorer.selected = [0, 1, 2]")
        lab.marked("selected", 3)
        lab.explorer.locator(".skytells-name").click()
        expect(lab.explorer.locator(".skytells-group")).to_have_count(1)
        expect(lab.explorer.locator(".skytells-status")).to_contain_text("tokens in")
        expect(lab.page.locator(".skytells-explored")).to_be_hidden()
        lab.shot("named")

        outputs = lab.saved()["cells"][0]["outputs"]
        assert [sorted(output["data"]) for output in outputs[1:]] == [
            ["image/png", "text/plain"],
            ["text/html", "text/plain"],
        ]
        assert "3 rows selected" in "".join(outputs[2]["data"]["text/plain"])
        assert lab.file.stat().st_size < 60_000
        assert KEY not in lab.file.read_text()
        question.fill("typed and not asked")
        lab.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        expect(lab.explorer.get_by_role("alert")).to_contain_text(
            "The kernel was shut down. The map can still be moved"
        )
        expect(lab.explorer.locator(".skytells-ask")).to_be_disabled()
        expect(question).to_have_value("typed and not asked")
        whole = lab.image()
        lab.drag((0.2, 0.2), (0.4, 0.4))
        assert lab.image() != whole
        lab.shot("lost")
        reload(lab.page)
        expect(lab.page.locator(".skytells-explored")).to_be_visible()
        outputs_shown = lab.page.locator(".jp-Cell").first.locator(".jp-OutputArea-child:visible")
        expect(outputs_shown).to_have_count(2)
        expect(outputs_shown.first.locator("img")).to_be_visible()
        expect(lab.page.locator(".skytells-explored")).to_contain_text("3 rows selected")
        image = lab.page.locator(".jp-OutputArea-output img")
        expect(image).to_be_visible()
        assert image.evaluate("(node) => node.naturalWidth") > 0
        lab.shot("saved")
        assert lab.outside == []


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_hostile_rows_are_text_and_keys_are_the_maps_own(tmp_path: Path, desk: Desk) -> None:
    """Cells, labels, a column's name, a model's name for rows and a question: no script, no request, no element."""
    with opened(tmp_path, desk, HOSTILE) as lab:
        lab.marked("points", len(PAGE_PAYLOADS))
        lab.explorer.locator(".skytells-mode-box").click()
        lab.drag((0.02, 0.02), (0.98, 0.98))
        lab.marked("selected", len(PAGE_PAYLOADS))
        pages = -(-len(PAGE_PAYLOADS) // 10)
        for _ in range(pages - 1):
            assert lab.explorer.locator(HARMFUL).count() == 0
            lab.explorer.locator(".skytells-next").click()
        expect(lab.explorer.locator(".skytells-next")).to_be_disabled()
        lab.explorer.locator(".skytells-name").click()
        expect(lab.explorer.locator(".skytells-group")).to_have_count(1)
        question = lab.explorer.locator(".skytells-question")
        question.fill(PAGE_PAYLOADS["handlers"])
        question.press("Enter")
        expect(lab.explorer.locator(".skytells-status")).to_contain_text("has 2 dimensions and the question 16")
        box = lab.box()
        lab.page.mouse.move(box["x"] + box["width"] / 2 + 206, box["y"] + box["height"] / 2)
        expect(lab.explorer.locator(".skytells-tip")).to_be_visible()
        assert lab.explorer.locator(HARMFUL).count() == 0
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            choose_theme(lab.page, theme)
            lab.shot(f"hostile-{theme.split()[-1].lower()}")
            assert serious_barriers(lab.page, ".skytells-explorer") == []
            assert placeholder_contrast(lab.explorer.locator(".skytells-search")) >= 4.5

        over = lab.explorer.locator(".skytells-map canvas").last
        over.focus()
        whole = lab.image()
        for key in ("+", "ArrowLeft"):
            before = lab.image()
            over.press(key)
            assert lab.image() != before
        over.press("0")
        assert lab.image() == whole
        for key in ("x", "d", "d"):
            over.press(key)
        expect(lab.page.locator(".jp-Cell")).to_have_count(2)
        over.press("Escape")
        lab.marked("selected", 0)
        over.press("Control+a")
        lab.marked("selected", len(PAGE_PAYLOADS))
        entry = lab.explorer.locator(".skytells-entry").first
        entry.press("Enter")
        expect(entry).to_have_attribute("aria-pressed", "false")
        lab.drag((0.02, 0.02), (0.98, 0.98))
        lab.marked("selected", len(PAGE_PAYLOADS) - 1)
        lab.page.set_viewport_size({"width": 420, "height": 900})
        wait_until_narrow(lab.page, ".skytells-explorer")
        lab.shot("narrow")
        assert lab.page.evaluate("window.hurt") is None
        assert lab.outside == []
        assert EVIL not in lab.page.url
