"""What goes along with a question: variables as text, images as parts of the message."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from panel_service import Tap
from served import connected, served
from traitlets.config import Config

from skytells_nb.errors import InputError, SkytellsError
from skytells_nb.session import connect
from skytells_nb.widgets.chat_panel import notebook
from skytells_nb.widgets.chat_panel.attachments import Attachment, attach
from skytells_nb.widgets.chat_panel.panel import ChatPanel
from skytells_nb.widgets.chat_panel.transcript import SHOWN_CHARACTERS, shown_content
from skytells_nb.widgets.chat_panel.turns import read_messages
from skytells_nb.widgets.chat_panel.variable_text import variable_text

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
URL = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def test_a_variable_is_sent_below_its_question_and_shown(panel: ChatPanel, tap: Tap) -> None:
    """Once, with the question that it was attached to; the page and the transcript show what was sent."""
    panel.attach(total=12.5, frame=pd.DataFrame({"city": ["Oslo", "<b>Rome</b>"]}))
    assert [a["kind"] for a in panel.widget.attachments] == ["float", "DataFrame, 2 rows"]
    panel.send("one two")

    content = tap.messages[-1][-1]["content"]
    assert content.startswith(
        "one two\n\ntotal (float):\n```\n12.5\n```\n\nframe (DataFrame, 2 rows):\n```\n2 rows, 1 col"
    )
    assert "Oslo" in content
    assert panel.widget.attachments == []
    assert [a["label"] for a in panel.widget.turns[0]["attachments"]] == ["total (float)", "frame (DataFrame, 2 rows)"]
    assert "Oslo" in panel.widget.turns[0]["attachments"][1]["text"]
    frozen = panel.freeze()
    assert "<summary>Attached: frame (DataFrame, 2 rows)</summary>" in frozen.html()
    assert "&lt;b&gt;Rome&lt;/b&gt;" in frozen.html()
    assert "[Attached: total (float)]" in frozen.text
    panel.send("three")
    assert tap.messages[-1][0]["content"] == content
    assert tap.messages[-1][-1]["content"] == "three"


def test_what_was_attached_stays_with_a_question_that_failed(tap: Tap) -> None:
    """It goes along when the question is sent again, from the field or by Retry."""
    with served("status=500, times=2", generator=tap) as server, ChatPanel(connected(server, "off")) as panel:
        panel.attach(total=7)
        with pytest.raises(SkytellsError):
            panel.send("one")
        assert panel.widget.attachments == [{"name": "total", "kind": "int"}]
        with pytest.raises(SkytellsError):
            panel.retry()
        panel.send("one")
        assert panel.widget.attachments == []
        assert tap.messages == [[{"role": "user", "content": "one\n\ntotal (int):\n```\n7\n```"}]]


def test_an_image_is_a_part_of_its_message(panel: ChatPanel, tap: Tap, tmp_path: Path) -> None:
    """Its bytes are no part of what the page gets; a retry, an edit and another panel send it again."""
    (tmp_path / "dot.png").write_bytes(PNG)
    panel.attach(photo=PNG, dot=tmp_path / "dot.png")
    assert [a["kind"] for a in panel.widget.attachments] == ["PNG image, 1 kB"] * 2
    panel.send("one")

    image = {"type": "image_url", "image_url": {"url": URL}}
    asked = {"role": "user", "content": [{"type": "text", "text": "one"}, image, image]}
    assert panel.messages[0] == asked
    assert URL not in str(panel.widget.get_state())
    panel.edit("two")
    assert panel.messages[0]["content"] == [{"type": "text", "text": "two"}, image, image]
    with ChatPanel(messages=panel.messages) as other:
        assert other.messages == panel.messages
        assert "Attached: image 1 (PNG image, 1 kB)" in other.freeze().html()


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (b"no image", "value cannot be attached: an image must be PNG, JPEG, GIF or WebP"),
        (Path("missing.png"), "value cannot be attached: the file .*missing.png cannot be read"),
        (object(), "value must be a str, a number, .*, got a object; an image must be bytes, a path or a PIL image"),
        ([object()], "value holds a object, which has no JSON form"),
    ],
)
def test_what_cannot_be_attached_is_refused(panel: ChatPanel, value: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        panel.attach(value=value)
    assert panel.widget.attachments == []


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.user_ns.clear()
    yield shell
    InteractiveShell.clear_instance()


def test_the_page_attaches_a_variable_by_its_whole_name(panel: ChatPanel, shell: InteractiveShell) -> None:
    """A name that the notebook has; no attribute, no expression, no path. Images come as bytes."""
    shell.user_ns.update({"city": "Oslo", "_private": 1, "print_it": print, "module": notebook, "In": []})
    said: list[dict[str, Any]] = []
    panel.widget.send = lambda content, buffers=None: said.append(content)

    panel._on_message(panel.widget, {"kind": "variables"}, [])
    panel._on_message(panel.widget, {"kind": "attach", "name": "city"}, [])
    panel._on_message(panel.widget, {"kind": "attach", "name": "dot.png"}, [memoryview(PNG)])
    for name in ("city.upper", "/etc/hostname", "1 + 1", ""):
        panel._on_message(panel.widget, {"kind": "attach", "name": name}, [])
    panel._on_message(panel.widget, {"kind": "detach", "name": "city"}, [])

    assert said[0] == {"kind": "variables", "names": ["city"]}
    assert [content["kind"] for content in said[1:]] == ["accepted"] * 2 + ["refused"] * 4 + ["accepted"]
    assert [a["name"] for a in panel.widget.attachments] == ["dot.png"]
    panel.clear()
    assert panel.widget.attachments == []


@given(st.text())
def test_no_text_ends_the_block_that_it_is_sent_in(text: str) -> None:
    """The fence around it is longer than any in the text."""
    prompt = attach("name", text).prompt
    fence = prompt.splitlines()[1]
    assert set(fence) == {"`"}
    assert prompt == f"name (str):\n{fence}\n{text}\n{fence}"
    assert fence not in text


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "x"}],
        [{"type": "text", "text": "x"}, {"type": "audio"}],
        [{"type": "image_url", "image_url": {"url": URL}}, {"type": "text", "text": "x"}],
        [{"type": "text", "text": "x"}, "y"],
        [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": 3}],
    ],
)
def test_contents_of_other_forms_are_refused(content: object) -> None:
    with pytest.raises(InputError, match=r"messages\[0\] must have a role"):
        read_messages([{"role": "user", "content": content}])


def test_a_cell_outside_of_a_notebook_is_refused_with_what_to_do() -> None:
    with pytest.raises(InputError, match="in the clipboard"):
        notebook.put_into_new_cell("x = 1")
    with pytest.raises(InputError, match="must have some code"):
        notebook.put_into_new_cell(" ")


def test_a_column_has_its_name_and_one_without_a_name_that_of_the_variable() -> None:
    assert "\n- price: " in variable_text("facts", pd.Series([1, 2], name="price"))
    assert "\n- facts: " in variable_text("facts", pd.Series([1, 2]))


def test_a_long_attachment_is_shown_up_to_its_first_characters() -> None:
    """Without the space where it is cut, and with all of it where it just fits."""
    text = "  x" + " " * (SHOWN_CHARACTERS - 3)
    assert shown_content(Attachment("a", "str", text)) == text
    assert shown_content(Attachment("a", "str", text + "more")) == f"  x\n… {SHOWN_CHARACTERS + 4:,} characters"


def test_a_panel_asks_with_its_own_session(panel: ChatPanel, tap: Tap) -> None:
    """Not with the default one, of which the key is wrong."""
    connect("sk-other", base_url="http://127.0.0.1:9/v1")
    panel.send("one two")
    assert tap.messages[-1][-1]["content"] == "one two"
