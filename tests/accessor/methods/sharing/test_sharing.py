"""A frame as a report page and as a workbook."""

from __future__ import annotations

import base64
import gzip
import json
import re
import zipfile
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.accessor.methods.sharing.workbook import workbook
from skytells_nb.columns import from_matrix
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.local.server import LocalServer
from skytells_nb.session import Session

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"
NAMESPACE = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def sheet(content: bytes | Path, number: int = 1) -> list[list[tuple[str, str, str]]]:
    """The cells of a sheet: type, style and text."""
    import io

    with zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content) as archive:
        root = ElementTree.fromstring(archive.read(f"xl/worksheets/sheet{number}.xml"))
    return [
        [(cell.get("t", "n"), cell.get("s", "0"), "".join(cell.itertext())) for cell in row]
        for row in root.iter(f"{NAMESPACE}row")
    ]


def data_of(page: str) -> dict[str, Any]:
    """What a page's script reads."""
    (packed,) = re.findall(r'id="sky-data">([^<]*)<', page)
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed)))
    return found


@pytest.mark.browser
@pytest.mark.slow
def test_a_report_has_all_of_a_frame_and_runs_nothing_of_its_texts(
    session: Session, local_server: LocalServer, tmp_path: Path, chromium: Path
) -> None:
    """Rows to search and sort, a map, safety, costs, how it was made and errors; no key and no request."""
    from playwright.sync_api import sync_playwright

    texts = ["a cat", "a dog", HOSTILE, None, "z" * 400_000]
    frame = pd.DataFrame({"text": texts, HOSTILE[:50]: [3, 20, 1, None, 2]})
    frame = frame.skytells.embed("text", into="vector", on_error="null", progress=False)
    with pytest.warns(SkytellsWarning, match="1 of 5 rows failed"):
        frame = frame.skytells.complete("Say {text}", system=HOSTILE, max_tokens=3, progress=False)
    path = frame.skytells.html_report(tmp_path / "report.html", title=HOSTILE, method="pca", progress=False)
    page = path.read_text(encoding="utf-8")
    data = data_of(page)
    assert local_server.api_key not in page + json.dumps(data)
    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]")
        sections = tab.locator("h2").all_text_contents()
        assert sections == ["Rows", "Map", "Safety", "Costs", "How it was made", "Errors"]
        lines = tab.locator(".sky-table tbody tr")
        assert lines.count() == 5
        assert "vector of 512 numbers in each row" in tab.locator("#rows").inner_text()
        tab.get_by_role("button", name=HOSTILE[:50]).click()
        assert [line.split("\t")[0].strip() for line in lines.all_inner_texts()] == ["2", "4", "0", "1", "3"]
        tab.locator("#rows input").fill("DOG a")
        tab.wait_for_function("document.querySelectorAll('.sky-table tbody tr').length === 1")
        assert tab.locator("#map .scatterlayer .point").count() >= 3
        made = tab.locator("#how-it-was-made").inner_text()
        assert all(word in made for word in ("vector", "embed", "complete", HOSTILE))
        assert "$" in tab.locator("#costs").inner_text()
        assert "ContextLengthError" in tab.locator("#errors").inner_text()
        assert tab.evaluate("window.hacked") is None
        browser.close()
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_a_report_of_a_frame_without_calls_has_its_rows_alone(tmp_path: Path) -> None:
    """No plotly, so the page is small; a frame without rows has a page too."""
    for frame in (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": []}), pd.DataFrame()):
        path = frame.skytells.html_report(tmp_path / "report.html", progress=False)
        page = path.read_text(encoding="utf-8")
        assert re.findall("<h2>(.*?)</h2>", page) == ["Rows"]
        assert len(page) < 60_000
        assert data_of(page)["tables"]["rows"]["labels"] == frame.index.tolist()


@pytest.mark.parametrize("method", ["html_report", "to_excel"])
@pytest.mark.parametrize("path", ["rows.txt", "rows", "missing/rows{suffix}", 3], ids=str)
def test_a_wrong_path_is_refused(tmp_path: Path, method: str, path: Any) -> None:
    """Before anything is drawn or written."""
    suffix = ".html" if method == "html_report" else ".xlsx"
    target = tmp_path / path.format(suffix=suffix) if isinstance(path, str) else path
    with pytest.raises(InputError, match="path must be"):
        getattr(pd.DataFrame({"a": [1]}).skytells, method)(target)
    with pytest.raises(InputError, match="embedding must be a column of vectors"):
        pd.DataFrame({"a": [1]}).skytells.html_report(tmp_path / "a.html", embedding="a")
    assert list(tmp_path.iterdir()) == []


def test_a_workbook_has_no_formula_and_no_vector(tmp_path: Path) -> None:
    """Texts are marked as such, vectors are named, numbers keep their digits or are text."""
    frame = pd.DataFrame(
        {
            "text": ["=1+1", " @SUM(A1)", "plain"],
            "vector": from_matrix(np.zeros((3, 4), dtype=np.float32), index=["-a", "b", "c"]),
            "list": [[0.5, 0.25], None, ["a"]],
            "long": [12345678901234567890, 7, -1],
            "real": [0.1, float("nan"), float("inf")],
            "flag": [True, False, True],
            "day": pd.to_datetime(["2026-01-02 12:00", None, "1899-01-01"], format="ISO8601"),
            "zone": pd.to_datetime(["2026-01-02"] * 3, utc=True),
        },
        index=pd.Index(["-a", "b", "c"], name="key"),
    )
    rows = sheet(frame.skytells.to_excel(tmp_path / "rows.xlsx"))
    assert [text for _, _, text in rows[0]] == ["key", *frame.columns]
    assert rows[1][:6] == [
        ("inlineStr", "2", "-a"),
        ("inlineStr", "2", "=1+1"),
        ("inlineStr", "0", "vector of 4 numbers"),
        ("inlineStr", "0", "vector of 2 numbers"),
        ("inlineStr", "0", "12345678901234567890"),
        ("n", "0", "0.1"),
    ]
    assert rows[1][6:8] == [("b", "0", "1"), ("n", "3", "46024.5")]
    assert rows[2][1][:2] == ("inlineStr", "2")
    assert [text for _, _, text in rows[2][3:6]] == ["", "7", ""]
    assert [text for _, _, text in rows[3][5:9]] == ["inf", "1", "1899-01-01 00:00:00", "2026-01-02 00:00:00+00:00"]


def test_a_workbook_says_how_its_columns_were_made(session: Session, local_server: LocalServer, tmp_path: Path) -> None:
    """On a second sheet, where there is something to say."""
    frame = pd.DataFrame({"text": ["a", "b"]}).skytells.embed("text", progress=False)
    head, made = sheet(frame.skytells.to_excel(tmp_path / "rows.xlsx"), 2)
    found = dict(zip([text for _, _, text in head], [text for _, _, text in made], strict=True))
    assert (found["column"], found["method"]) == ("embedding", "embed")
    assert local_server.api_key not in str(made)


@given(st.lists(st.one_of(st.text(), st.integers(), st.floats(), st.datetimes(), st.none(), st.booleans()), min_size=1))
def test_any_value_is_a_cell_that_a_reader_understands(values: list[Any]) -> None:
    """The sheet is well-formed, texts are their characters where XML allows these, and no cell is a formula."""
    frame = pd.DataFrame({"value": pd.Series(values, dtype=object)})
    content = workbook({"rows": frame})
    rows = sheet(content)[1:]
    assert len(rows) == len(values)
    for value, (_, (kind, _, text)) in zip(values, rows, strict=True):
        if isinstance(value, str):
            expected = re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", value)
            assert text == expected.replace("\r\n", "\n").replace("\r", "\n")
        elif isinstance(value, datetime) and kind == "n":
            assert abs(datetime(1899, 12, 30) + timedelta(days=float(text)) - value) < timedelta(milliseconds=1)
        elif isinstance(value, int) and not isinstance(value, bool):
            assert int(text) == value
