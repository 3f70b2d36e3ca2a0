"""Figures as files."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go
import pytest
from test_semantic_map import EVIL, draw, frame

from skytells_nb.errors import ConfigurationError, InputError
from skytells_nb.plots import save, summary
from skytells_nb.plots.export import IMAGE_FORMATS


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_is_drawn_without_any_other_file(tmp_path: Path, chromium: Path) -> None:
    """In a browser that is offline: nothing is asked for, and every row is a point."""
    from playwright.sync_api import sync_playwright

    data = frame()
    data["topic"] = EVIL + "</script><script>window.hacked = true</script>"
    page = save(draw(data, color="topic", title=EVIL), tmp_path / "map.html")
    asked: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector(".scatterlayer .point", state="attached")
        assert tab.locator(".scatterlayer .points .point").count() == 30
        assert tab.evaluate("window.hacked") is None
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_page_says_in_words_what_it_shows(tmp_path: Path) -> None:
    """Its title is the figure's, its description the summary, and no text of a row is markup."""
    figure = draw(frame(), title=EVIL)
    text = save(figure, tmp_path / "map.html").read_text(encoding="utf-8")
    assert "<title>&lt;a href=" in text
    assert f'name="description" content="{summary(figure)}"' in text


@pytest.mark.parametrize(("theme", "follows"), [(None, True), ("light", False), ("dark", False)], ids=str)
def test_a_page_follows_the_reader_unless_a_theme_was_asked_for(tmp_path: Path, theme: str, follows: bool) -> None:
    """Without a ground of its own it takes the browser's light or dark."""
    text = save(draw(frame(), theme=theme), tmp_path / "map.html").read_text(encoding="utf-8")
    head = text[: text.index("</title>")]
    assert ("color-scheme" in head) == follows
    assert bool(re.search(r"background:#", head)) != follows


@pytest.mark.skipif(find_spec("kaleido") is not None, reason="kaleido is installed")
@pytest.mark.parametrize("ending", IMAGE_FORMATS)
def test_an_image_without_kaleido_says_what_to_install(tmp_path: Path, ending: str) -> None:
    """And which format needs nothing."""
    with pytest.raises(ConfigurationError, match=r"pip install kaleido\. Or save as \.html"):
        save(go.Figure(), tmp_path / f"map.{ending}")
    assert list(tmp_path.glob("map.*")) == []


def test_an_ending_that_is_no_format_is_refused(tmp_path: Path) -> None:
    """The error lists the formats."""
    with pytest.raises(InputError, match=r"\.html, \.png, .*'map\.txt'"):
        save(go.Figure(), tmp_path / "map.txt")
