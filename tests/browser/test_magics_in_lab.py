"""The magics as a person uses them: JupyterLab in a real browser, in front of a real kernel."""

from __future__ import annotations

import base64
import contextlib
import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jupyter_lab import Desk, Opened, choose_theme, lose_kernel, notebook_of, run_all, save
from panel_service import Tap
from playwright.sync_api import Locator, Page, expect
from served import KEY, served
from serving import Exchange, serving

from skytells_nb.local.server import LocalServer

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAACCAIAAAD91JpzAAAAEElEQVR4nGN4Np8BiBggFAAuMgYV3opjMQAAAABJRU5ErkJggg=="
)
_SCROLLS = "(node) => { node.style.width = '60px'; return node.scrollWidth > 120; }"
_COLOR = "(node) => getComputedStyle(node).color"
_FRAME = """(pre) => {
    const frame = pre.parentElement, ground = (node) => getComputedStyle(node).backgroundColor;
    const cover = pre.querySelector('listing');
    pre.style.width = '';
    frame.parentElement.style.width = '200px';
    const found = {
        kept: frame.scrollWidth <= frame.clientWidth && frame.getBoundingClientRect().width <= 200,
        scrolls: pre.scrollWidth > pre.clientWidth,
        covered: cover.getBoundingClientRect().width >= pre.scrollWidth,
        filled: ground(frame) === ground(cover) && ground(frame) !== ground(frame.closest('.jp-Notebook')),
    };
    frame.parentElement.style.width = '';
    return found;
}"""
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Weigh **both** sides"}]}


def cell_of(page: Page, number: int) -> Locator:
    return page.locator(".jp-CodeCell").nth(number)


def opened(desk: Desk, cells: Sequence[str], server: LocalServer) -> AbstractContextManager[Opened]:
    """A notebook of these cells in JupyterLab, whose kernel asks this service."""
    settings = {"SKYTELLS_API_KEY": KEY, "SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_CACHE": "off"}
    return desk.opened(notebook_of(cells), {**settings, "SKYTELLS_NB_STREAM": "auto"})


def shoot(page: Page, tmp_path: Path, name: str) -> None:
    page.screenshot(path=str(Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"magics-{name}.png"))


CODE = """Run this:

```python
def area(r):  # of a circle
    return 3.14 * r**2
```

and nothing else."""
OPTIONS = (
    "%load_ext skytells_nb\nimport skytells_nb as sky, pydantic\nclass City(pydantic.BaseModel):\n    name: str",
    f"%%skytells_chat -f code\n{CODE}",
    "%%skytells_chat --schema City -o city\nA city",
    "type(city).__name__",
    "%%skytells_chat --safety\nviolence:low words\n```python\ntotal = price * quantity + shipping\n```",
    "sky.connect({key!r}, base_url={url!r}); None",
    "%%skytells_respond --effort low\nIs it?",
    "sky.connect(); None",
    f"%%skytells_chat --code\n{CODE}",
)


def think(exchange: Exchange) -> None:
    """An answer of the Responses API with a summary of its reasoning."""
    words = {"id": "msg_1", "type": "message", "content": [{"type": "output_text", "text": "Yes, it **is**."}]}
    whole = {"id": "resp_1", "object": "response", "status": "completed", "output": [THOUGHT, words]}
    exchange.begin()
    for body in (
        {"type": "response.reasoning_summary_text.delta", "delta": "Weigh **both** sides"},
        {"type": "response.output_item.done", "item": THOUGHT},
        {"type": "response.output_text.delta", "delta": "Yes, it **is**."},
        {"type": "response.completed", "response": whole},
    ):
        exchange.event(body, str(body["type"]))


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_what_the_options_show_can_be_read_and_used(tmp_path: Path, desk: Desk) -> None:
    """Highlighted code, an object, a safety note, reasoning that opens with a click, code in a new cell; and saved."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(generator=Tap()))
        thinker = stack.enter_context(serving(think))
        cells = [source.format(key=KEY, url=thinker.url) if "{url!r}" in source else source for source in OPTIONS]
        notebook = stack.enter_context(opened(desk, cells, server))
        page = notebook.page
        run_all(page)

        proposed = cell_of(page, len(cells))
        expect(proposed).to_contain_text("return 3.14")
        expect(proposed.locator(".jp-OutputArea-output")).to_have_count(0)
        expect(cell_of(page, len(cells) - 1)).to_contain_text("The code is in the next cell")

        code = cell_of(page, 1).locator(".highlight pre")
        expect(code).to_have_text("def area(r):  # of a circle\n    return 3.14 * r**2\n", use_inner_text=True)
        fence = cell_of(page, 4).locator(".highlight.alert pre")
        for block in (code, fence):
            assert block.evaluate(_SCROLLS), "a long line is not wrapped, it scrolls"

        keyword = code.locator(".k").first
        colors = {code.evaluate(_COLOR)}
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            choose_theme(page, theme)
            colors.add(keyword.evaluate(_COLOR))
            framed = fence.evaluate(_FRAME)
            assert all(framed.values()), f"a long line scrolls within a frame of one color: {framed} in {theme}"
        assert len(colors) == 3, "keywords have a color of their own in each theme"

        expect(cell_of(page, 3).locator(".jp-OutputArea-output")).to_contain_text("City")
        expect(cell_of(page, 4).locator(".skytells-note")).to_contain_text("violence low in the answer")

        shoot(page, tmp_path, "options")
        fold = cell_of(page, 6).locator(".skytells-reasoning")
        expect(fold.locator("strong")).to_be_hidden()
        fold.locator("summary").click()
        expect(fold.locator("strong")).to_be_visible()
        expect(cell_of(page, 6).locator(".skytells-md").last).to_have_text("Yes, it is.\n")

        save(page)
        lose_kernel(page)
        expect(cell_of(page, 1).locator(".highlight .k").first).to_be_visible()
        expect(cell_of(page, 6).locator(".skytells-reasoning summary")).to_be_visible()
        assert notebook.outside == []


class ImageServer:
    """A web server that returns one image for every path and records the requests."""

    def __init__(self) -> None:
        requests = self.requests = []  # type: list[tuple[str, str | None]]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                requests.append((self.path, self.headers.get("Referer")))
                self.send_response(200)
                self.send_header("Content-Type", "image/png")
                self.send_header("Content-Length", str(len(PNG)))
                self.end_headers()
                self.wfile.write(PNG)

            def log_message(self, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ImageServer:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


IMAGE_MARKDOWN = """![chart](http://pictures.test/chart.png) ![here]({url}/logout) ![lab](/files/x.png)
![drawn](data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4=)

<img src="http://pictures.test/raw.png" onerror="window.hurt=1"> <video poster=http://pictures.test/poster.png></video>

[a link](http://pictures.test/link.png)"""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_an_image_is_loaded_only_if_that_is_allowed(tmp_path: Path, desk: Desk) -> None:
    """Off, no request leaves; on, the one image of a web host is loaded, without a referrer, and nothing else."""
    with contextlib.ExitStack() as stack:
        images = stack.enter_context(ImageServer())
        prompt = IMAGE_MARKDOWN.format(url=images.url)
        panel = "panel = sky.widgets.ChatPanel(remote_images=on)\nanswer = panel.send(prompt)\npanel"
        cells = [
            f"%load_ext skytells_nb\nimport skytells_nb as sky\non = False\nprompt = {prompt!r}",
            *(f"%%skytells_chat\n{prompt}", panel, "print('all', 'said')"),
        ]
        server = stack.enter_context(served(generator=Tap()))
        notebook = stack.enter_context(opened(desk, cells, server))
        page = notebook.page
        host = "http://pictures.test/"
        page.context.route(
            f"{host}**", lambda route: route.continue_(url=route.request.url.replace(host, f"{images.url}/"))
        )
        run_all(page)
        expect(cell_of(page, 3).locator(".jp-OutputArea-output")).to_contain_text("all said")
        expect(cell_of(page, 1).locator(".skytells-md a").first).to_have_text("chart")
        expect(cell_of(page, 2).locator(".skytells-answer a").first).to_have_text("chart")
        assert page.locator(".jp-OutputArea img").count() == 0
        assert images.requests == notebook.outside == []

        page.evaluate("""() => {
            const cells = window.jupyterapp.shell.currentWidget.context.model.cells;
            const first = cells.get(0).sharedModel;
            const on = '%config SkytellsMagics.remote_images = True\\non = True';
            first.setSource(first.source.replace('on = False', on));
        }""")
        run_all(page)
        shown = page.locator(".skytells-panel .skytells-answer img")
        expect(shown).to_have_count(1)
        expect(cell_of(page, 1).locator(".skytells-md img")).to_have_count(1)
        for image in (shown, cell_of(page, 1).locator("img")):
            image.evaluate("(node) => node.decode()")
            assert image.evaluate("(node) => [node.naturalWidth, node.getAttribute('src')]") == [2, f"{host}chart.png"]
        expect(cell_of(page, 3).locator(".jp-OutputArea-output")).to_contain_text("all said")
        shoot(page, tmp_path, "images")
        assert set(images.requests) == {("/chart.png", None)}
        assert set(notebook.outside) == {f"{host}chart.png"}
        assert page.evaluate("window.hurt") is None
