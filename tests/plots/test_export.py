"""Saving figures as files."""

from __future__ import annotations

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from map_figures import UNTRUSTED, draw, frame
from PIL import Image

from skytells_nb.errors import ConfigurationError, InputError
from skytells_nb.plots import save, summary
from skytells_nb.plots.export import IMAGE_FORMATS


@pytest.mark.browser
@pytest.mark.slow
def test_a_page_is_self_contained(tmp_path: Path, chromium: Path) -> None:
    """In an offline browser: the page sends no requests, and every row is a point."""
    from playwright.sync_api import sync_playwright

    data = frame()
    data["topic"] = UNTRUSTED + "</script><script>window.hacked = true</script>"
    page = save(draw(data, color="topic", title=UNTRUSTED), tmp_path / "map.html")
    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector(".scatterlayer .point", state="attached")
        assert tab.locator(".scatterlayer .points .point").count() == 30
        assert tab.evaluate("window.hacked") is None
        browser.close()
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_page_has_a_title_and_a_description(tmp_path: Path) -> None:
    """They are the title and the summary of the figure, and texts are escaped."""
    figure = draw(frame(), title=UNTRUSTED)
    text = save(figure, tmp_path / "map.html").read_text(encoding="utf-8")
    assert "<title>&lt;a href=" in text
    assert f'name="description" content="{summary(figure)}"' in text


@pytest.mark.parametrize(("theme", "follows"), [(None, True), ("light", False), ("dark", False)], ids=str)
def test_a_page_without_a_theme_follows_the_reader(tmp_path: Path, theme: str, follows: bool) -> None:
    """It has no background, so the browser's light or dark setting applies."""
    text = save(draw(frame(), theme=theme), tmp_path / "map.html").read_text(encoding="utf-8")
    head = text[: text.index("</title>")]
    assert ("color-scheme" in head) == follows
    assert bool(re.search(r"background:#", head)) != follows


@pytest.mark.parametrize("extension", IMAGE_FORMATS)
def test_an_image_without_kaleido_raises(tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, and that a page needs nothing."""
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ConfigurationError, match=r"pip install kaleido\. Or save as \.html"):
        save(go.Figure(), tmp_path / f"map.{extension}")
    assert list(tmp_path.glob("map.*")) == []


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_images_show_the_figure(tmp_path: Path, chromium: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pixels, 300 dots per inch for print, as drawing with the names as text, and as page."""
    if find_spec("kaleido") is None and os.environ.get("CI") != "true":
        pytest.skip("kaleido is not installed, so no image was saved (pip install kaleido)")
    monkeypatch.setenv("BROWSER_PATH", str(chromium))
    figure = draw(frame(), color="topic", theme="print", title="A map of thirty rows", width=400, height=300)
    with Image.open(save(figure, tmp_path / "map.png")) as image:
        assert image.size == (1250, 937)
        shown = image.convert("RGB").getcolors(1 << 22) or []
    topic = np.array([0, 114, 178])
    assert min(int(np.abs(topic - color).max()) for _, color in shown) <= 8, "no point in the color of the first topic"
    drawing = save(figure, tmp_path / "map.svg").read_text(encoding="utf-8")
    assert drawing.startswith("<svg")
    assert "A map of thirty rows" in drawing
    assert save(figure, tmp_path / "map.pdf").read_bytes().startswith(b"%PDF-")


def test_an_unknown_extension_raises(tmp_path: Path) -> None:
    """The error lists the formats."""
    with pytest.raises(InputError, match=r"must be \.html, \.png, .*got 'map\.txt'"):
        save(go.Figure(), tmp_path / "map.txt")
