"""The page of a map: search, topics, texts, selection and names, in a real browser; its size and its policy."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from map_figures import UNTRUSTED, draw

from skytells_nb.columns import from_matrix
from skytells_nb.plots import save
from skytells_nb.plots.pages.document import TEXT_LIMITS, fitting_rows
from skytells_nb.plots.pages.rows import attached_rows, page_cells

HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>" + UNTRUSTED
SUBJECTS = {
    "cats": ["kittens purr under warm sofas", "whiskers twitch near dusty windows"],
    "stocks": ["bonds rise", "funds fell"],
    "rivers": ["dams hold", "floods came"],
}


CATS = ("cats", "kittens", "purr", "warm", "sofas", "whiskers", "twitch", "dusty", "windows")


def subjects(n: int = 300, tail: str = "") -> pd.DataFrame:
    """Rows of three subjects of two parts each, with vectors that say so."""
    random = np.random.default_rng(0)
    names = [list(SUBJECTS)[row % 3] for row in range(n)]
    parts = [row // 3 % 2 for row in range(n)]
    texts = [f"{name} and {SUBJECTS[name][part]} {tail}" for name, part in zip(names, parts, strict=True)]
    matrix = 0.15 * random.normal(size=(n, 8))
    for row, part in enumerate(parts):
        matrix[row, row % 3] += 3
        matrix[row, 3 + part] += 0.7
    return pd.DataFrame({"embedding": from_matrix(matrix.astype(np.float32)), "text": texts})


@pytest.mark.browser
@pytest.mark.slow
def test_a_map_is_searched_filtered_read_selected_and_zoomed(tmp_path: Path, chromium: Path) -> None:
    """One page: what is lit, listed, read and saved, and that no text runs or loads anything."""
    from playwright.sync_api import sync_playwright

    frame = subjects()
    frame.loc[7, "text"] = '=HYPERLINK("http://evil.test") cats ' + HOSTILE
    frame.loc[10, "text"] = "unique long cats " + "words " * 100 + "the end"
    page = save(draw(frame, title=HOSTILE), tmp_path / "map.html")
    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 760})
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        tab.wait_for_selector("html[data-ready]")

        def lit() -> list[int]:
            found: list[int] | None = tab.evaluate("document.querySelector('.plot').data[0].selectedpoints ?? null")
            return list(range(300)) if found is None else found

        def names() -> set[str]:
            written = tab.locator(".annotation-text").all_text_contents()
            return {" ".join(name.split()) for name in written}

        assert len(lit()) == 300
        entries = tab.locator(".sky-topics button")
        topics = entries.all_inner_texts()
        assert len(topics) >= 3

        tab.fill("input[type=search]", "CATS purr")
        tab.wait_for_function("document.querySelector('[role=status]').textContent.includes(' of ')")
        expected = frame.index[frame["text"].str.contains("cats") & frame["text"].str.contains("purr")]
        assert lit() == expected.tolist()
        tab.get_by_role("button", name="Show all").click()
        assert len(lit()) == 300

        cats = next(at for at, topic in enumerate(topics) if any(word in topic for word in CATS))
        entries.nth(cats).click()
        assert set(lit()) < set(range(300))
        assert all(row % 3 == 0 or row in (7, 10) for row in lit())
        assert entries.nth(cats).get_attribute("aria-pressed") == "true"
        tab.get_by_role("button", name="Show all").click()

        box = tab.locator(".plot .nsewdrag").bounding_box()
        assert box is not None
        place = tab.evaluate(
            "(() => { const p = document.querySelector('.plot'); const {xaxis, yaxis} = p._fullLayout;"
            "const trace = p._fullData[0]; return [xaxis.l2p(trace.x[10]), yaxis.l2p(trace.y[10])]; })()"
        )
        # A click while the figure is drawn again meets no point.
        for _ in range(50):
            tab.mouse.move(box["x"] + place[0] - 1, box["y"] + place[1] - 1)
            tab.mouse.click(box["x"] + place[0], box["y"] + place[1])
            if tab.locator(".sky-text").is_visible():
                break
            tab.wait_for_timeout(400)
        row = int(tab.locator(".sky-text dd").first.inner_text())
        assert tab.locator(".sky-text dd").nth(1).inner_text() == frame["text"][row]

        tab.get_by_role("button", name="Lasso").click()
        tab.mouse.move(box["x"] + 2, box["y"] + 2)
        tab.mouse.down()
        for x, y in ((1, 0), (1, 1), (0, 1), (0, 0)):
            tab.mouse.move(box["x"] + 2 + x * (box["width"] - 4), box["y"] + 2 + y * (box["height"] - 4), steps=3)
        tab.mouse.up()
        tab.wait_for_function("document.querySelector('[role=status]').textContent.includes(' of ')")
        selected = lit()
        with tab.expect_download() as download:
            tab.get_by_role("button", name="Save as CSV").click()
        rows = list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
        assert rows[0] == ["row", "text", "topic"]
        assert [int(line[0]) for line in rows[1:]] == selected
        assert len(selected) > 250
        assert rows[1 + selected.index(7)][1] == "'" + frame["text"][7]
        tab.get_by_role("button", name="Show all").click()

        tab.wait_for_function("document.querySelectorAll('.annotation-text').length > 2")
        before = names()
        tab.evaluate(
            "(() => { const p = document.querySelector('.plot');"
            "const [x, y] = ['xaxis', 'yaxis'].map((axis) => p._fullLayout[axis].range);"
            "const half = ([low, high], at) => [at - (high - low) / 4, at + (high - low) / 4];"
            "const trace = p._fullData[0];"
            "return Plotly.relayout(p, {'xaxis.range': half(x, trace.x[0]), 'yaxis.range': half(y, trace.y[0])}); })()"
        )
        tab.wait_for_function(
            "[...document.querySelectorAll('.annotation-text')].some((name) => /"
            f"{'|'.join(CATS)}/.test("
            "name.textContent) && getComputedStyle(name).fontSize === '12px')"
        )
        assert names() != before
        assert tab.evaluate("window.hacked") is None
        browser.close()
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_page_of_ten_thousand_rows_is_under_6_mb_whatever_its_texts(tmp_path: Path) -> None:
    """Texts that no compression makes short are cut, and the page says to how many characters."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(random.bytes(10_000 * 800), dtype=np.uint8) % 26 + 97
    frame = subjects(10_000)
    frame["text"] = [line.tobytes().decode() for line in letters.reshape(10_000, 800)]
    figure = draw(frame, topics=False)
    page = save(figure, tmp_path / "map.html")
    assert 4_000_000 < page.stat().st_size < 6_000_000
    rows = attached_rows(figure)
    assert rows is not None
    cut = fitting_rows(rows, 2_000_000)
    assert cut["cut"] in TEXT_LIMITS
    assert max(map(len, cut["cells"][0])) == cut["cut"]


def test_only_the_scripts_of_the_page_may_run(tmp_path: Path) -> None:
    """The policy names one nonce, and allows no address; texts of rows are in no readable part of the page."""
    frame = subjects(60)
    frame["text"] = HOSTILE
    text = save(draw(frame, topics=False), tmp_path / "map.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    (nonce,) = re.findall(r"'nonce-(\w+)'", policy)
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert re.findall(r"<script (?!type=.text/plain)[^>]*>", text) == [f'<script nonce="{nonce}">']
    assert "hacked" not in text


@pytest.mark.parametrize(
    "columns", [{"color": "kind"}, {"label": "kind"}, {"size": "amount", "hover": ["kind"]}], ids=str
)
def test_a_page_has_the_columns_that_the_map_shows(columns: dict[str, Any]) -> None:
    """In full, with the labels of the rows and their positions in the frame."""
    frame = subjects(12).assign(kind=["a", "b", None] * 4, amount=range(12)).set_axis(list("abcdefghijkl"))
    frame.loc["b", "embedding"] = None
    rows = attached_rows(draw(frame, **columns))
    assert rows is not None
    assert rows.positions.tolist() == [0, *range(2, 12)]
    assert rows.table.index.tolist() == list("acdefghijkl")
    for name in columns.values():
        for column in [name] if isinstance(name, str) else name:
            assert rows.table[column].equals(frame[column].drop("b"))


def test_a_copy_of_a_figure_and_other_figures_have_a_plain_page(tmp_path: Path) -> None:
    """Rows are beside a figure, not in it: a notebook does not store texts twice."""
    figure = draw(subjects(60, "and so on, " * 20 + "until the last word"))
    assert "sky-map" in save(figure, tmp_path / "map.html").read_text(encoding="utf-8")
    for other in (go.Figure(figure), draw(subjects(60), dimensions=3), go.Figure(go.Bar(y=[1, 2]))):
        assert '<div class="sky-plain"' in save(other, tmp_path / "other.html").read_text(encoding="utf-8")
    assert "last word" not in figure.to_json()


def test_cells_keep_their_digits_and_have_no_nan() -> None:
    """JSON knows neither NaN nor infinity, and a page's numbers have 53 bits."""
    numbers = [2**53 + 1, 7, np.int64(7), 0.1, np.nan, np.inf, pd.NA, pd.NaT]
    assert page_cells(numbers) == ["9007199254740993", 7, 7, 0.1, None, "inf", None, None]
    others = [True, pd.Timestamp("2026-01-02"), np.ones(3), b"x"]
    assert page_cells(others) == ["True", "2026-01-02 00:00:00", "vector of 3 numbers", "b'x'"]
