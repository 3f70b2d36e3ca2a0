"""The review as a person uses it: in JupyterLab, by keyboard, and again after its kernel is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hostile import PAGE_PAYLOADS
from jupyter_lab import Desk, choose_theme, notebook_of, open_again, run_all, save, wait_until_narrow
from playwright.sync_api import Locator, Page, expect

CELL = """import json, pandas as pd, skytells_nb as sky
texts = json.loads(open("texts.json").read())
labels = pd.Categorical(["HIDDEN"] * len(texts), categories=["late", "taste", "HIDDEN"])
frame = pd.DataFrame({"text": texts, "label": labels, "note for the judge": texts[::-1]}, index=texts)
review = sky.widgets.Review(frame, "label", file="judged.jsonl", annotators=["Ann", "<b>Bo</b>"], title=texts[0])
review"""
HARMFUL = "script, img, iframe, svg, object, embed, form, link, meta, base, a, video, [onerror], [onload]"

PARTS = ("review-text", "review-where", "review-key", "count", "status", "choice", "caption", "model-label")


def in_kernel(page: Page, code: str) -> str:
    script = """async (code) => {
        const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
        const running = kernel.requestExecute({ code });
        let said = '';
        running.onIOPub = ({ header, content }) => { if (header.msg_type === 'stream') said += content.text; };
        await running.done;
        return said;
    }"""
    return str(page.evaluate(script, code)).strip()


def contrast(shown: Locator) -> float:
    """The contrast of an element's text with what is behind it."""
    script = """(node) => {
        const channel = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
        const paint = (color, under) => {
            canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
            canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
            return `rgb(${r}, ${g}, ${b})`;
        };
        const light = (color) => {
            const [r, g, b] = color.match(/\\d+/g).map((each) => channel(Number(each) / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const behind = [];
        for (let each = node; each; each = each.parentElement) behind.push(getComputedStyle(each).backgroundColor);
        const ground = behind.reverse().reduce((under, color) => paint(color, under), 'rgb(255, 255, 255)');
        const [one, two] = [light(ground), light(paint(getComputedStyle(node).color, ground))].sort((a, b) => b - a);
        return (one + 0.05) / (two + 0.05);
    }"""
    return float(shown.evaluate(script))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_rows_are_judged_by_keyboard_and_nothing_is_lost_with_the_kernel(tmp_path: Path, desk: Desk) -> None:
    texts = list(PAGE_PAYLOADS.values())[:6]
    shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
    notebook = notebook_of([CELL, "review.gold.notna().sum()"])
    with desk.opened(notebook, {"SKYTELLS_CACHE": "off"}, files={"texts.json": json.dumps(texts)}) as lab:
        page = lab.page
        run_all(page)
        review = page.locator(".skytells-review")
        expect(review).to_have_attribute("data-judged", "0")
        expect(page.locator(".skytells-reviewed")).to_be_hidden()
        expect(review.locator(".skytells-review-text")).to_have_text(texts[0])
        expect(review.locator(".skytells-model-label")).to_be_hidden()
        assert "HIDDEN" not in review.locator(".skytells-review-row").inner_text()

        # The keys of a notebook in command mode: 1 makes a heading, D D deletes the cell, Z takes that back.
        review.focus()
        page.keyboard.press("1")
        expect(review).to_have_attribute("data-row", "1")
        expect(review.locator(".skytells-status")).to_contain_text("The model said HIDDEN")
        page.keyboard.press("2")
        expect(review).to_have_attribute("data-row", "2")
        page.keyboard.press("u")
        expect(review).to_have_attribute("data-row", "1")
        expect(review).to_have_attribute("data-judged", "1")
        page.keyboard.press("n")
        page.keyboard.type("1 may be late")
        page.keyboard.press("Enter")
        expect(review.locator(".skytells-status")).to_contain_text("The note on row 2 is stored")
        page.keyboard.press("2")
        expect(review).to_have_attribute("data-judged", "2")
        page.keyboard.press("ArrowLeft")
        expect(review.locator(".skytells-model-label")).to_have_text("The model said: HIDDEN")
        expect(review.locator("[aria-pressed=true]")).to_contain_text("taste")
        assert page.locator(".jp-Cell").count() == 2
        assert page.locator(".jp-MarkdownCell").count() == 0
        page.keyboard.press("j")
        expect(review).to_have_attribute("data-row", "2")

        review.locator(".skytells-annotator").select_option("<b>Bo</b>")
        expect(review).to_have_attribute("data-judged", "0")
        review.locator(".skytells-choice").nth(1).click()
        expect(review).to_have_attribute("data-judged", "1")
        assert in_kernel(page, "print(review.gold.notna().sum().tolist(), review.notes['note'].tolist())") == (
            "[2, 1] ['1 may be late']"
        )
        assert review.locator(HARMFUL).count() == 0
        assert page.evaluate("window.hurt ?? null") is None
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            choose_theme(page, theme)
            page.screenshot(path=str(shots / f"review-{theme.split()[1].lower()}.png"))
            parts = (
                ".skytells-review-text",
                ".skytells-count",
                ".skytells-status",
                ".skytells-choice",
                ".skytells-caption",
            )
            assert {part: contrast(review.locator(part).first) >= 4.5 for part in parts} == dict.fromkeys(parts, True)

        # Beside another panel, or on a small screen, nothing is cut off.
        page.set_viewport_size({"width": 480, "height": 1400})
        page.screenshot(path=str(shots / "review-narrow.png"))
        wait_until_narrow(page, ".skytells-review")

        # The kernel ends: the page says where the judgments are, and the saved notebook how far they are.
        save(page)
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        expect(review.locator(".skytells-notice")).to_contain_text("judged.jsonl")
        expect(review.locator(".skytells-choice").first).to_be_disabled()
        open_again(page)
        expect(page.locator(".skytells-reviewed")).to_contain_text("Ann: 2 of 6 judged")
        assert page.locator(".skytells-reviewed").locator(HARMFUL).count() == 0
        # The page may be starting a kernel by itself, and a second one would take the place of the one that runs cells.
        page.evaluate("""async () => {
            const session = window.jupyterapp.shell.currentWidget.sessionContext;
            await session.ready;
            if (!session.session?.kernel) await session.startKernel();
        }""")
        run_all(page)
        expect(review).to_have_attribute("data-judged", "2")
        expect(review).to_have_attribute("data-row", "2")
        assert lab.outside == []
