"""The magics and the panel in Jupyter Notebook 7: a real browser, in front of a real kernel."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from jupyter_lab import Desk, notebook_of, run_all
from panel_service import Tap
from playwright.sync_api import expect
from served import KEY, served

ANSWER = "one **two** three four five **six**"
CELLS = (
    "%load_ext skytells_nb\nimport skytells_nb as sky",
    f"%%skytells_chat\n{ANSWER}",
    "panel = sky.widgets.ChatPanel()\npanel",
)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_an_answer_streams_and_the_panel_talks(tmp_path: Path, desk: Desk) -> None:
    """The first words are on the page while the service holds the rest; then all of it, and a turn of the panel."""
    tap = Tap()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(generator=tap))
        stack.callback(tap.flow)
        tap.shut()
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": "off"}
        settings["SKYTELLS_NB_STREAM"] = "auto"
        opened = stack.enter_context(desk.opened(notebook_of(CELLS), settings, app="notebook"))
        page = opened.page
        run_all(page)

        answer = page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output")
        expect(answer.locator("strong", has_text="two")).to_be_visible(timeout=60_000)
        expect(answer).not_to_contain_text("six")
        tap.flow()
        expect(answer.locator("strong", has_text="six")).to_be_visible(timeout=60_000)
        assert " ".join(answer.inner_text().split()) == ANSWER.replace("*", "")

        panel = page.locator(".jp-CodeCell").nth(2).locator(".skytells-panel")
        expect(panel).to_be_visible(timeout=60_000)
        field = panel.locator(".skytells-input")
        field.fill("hello **panel**")
        field.press("Enter")
        expect(panel.locator(".skytells-answer strong")).to_have_text("panel", timeout=60_000)
        page.screenshot(path=str(Path(os.environ.get("SCREENSHOTS", tmp_path)) / "notebook-seven.png"))
        assert opened.outside == []
