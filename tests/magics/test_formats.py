"""What of an answer each format shows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from magic_service import Notebook

from skytells_nb.magics.chat_arguments import Format
from skytells_nb.magics.formats import code_blocks, formatter_for, python_code

ANSWER = """\
Look:

```python
for x in range(3):
    print(x)
```

or, in a list:

- ~~~html
  <b>hi</b>
  ~~~

````
```
````
"""


def shown(format: Format, *pieces: str) -> str:
    return "".join(text for text, _ in runs(format, *pieces))


def runs(format: Format, *pieces: str) -> list[tuple[str, str]]:
    """What is shown in the end, with its languages."""
    shape = formatter_for(format)
    found = [run for piece in pieces for run in shape.feed(piece)] + list(shape.finish())
    instead = shape.replacement()
    return found if instead is None else [instead]


def test_code_is_what_is_fenced() -> None:
    """All blocks, an empty line between them, their words left out."""
    assert shown("code", ANSWER) == "for x in range(3):\n    print(x)\n\n<b>hi</b>\n\n```\n"


def test_html_source_is_the_html_that_is_fenced() -> None:
    """Blocks of other languages are left out."""
    assert shown("html-source", ANSWER) == "<b>hi</b>\n"


@pytest.mark.parametrize("format", ["code", "html-source"])
def test_an_answer_without_such_a_block_is_shown_whole(format: Format) -> None:
    """Text without a fence is shown completely."""
    assert shown(format, "<p>", "no fence\n", "at all") == "<p>no fence\nat all"


def test_an_answer_that_goes_on_without_a_block_is_shown_as_it_comes() -> None:
    """After a dozen lines the text is shown without waiting for a fence, each letter once."""
    lines = [f"line {number}\n" for number in range(40)]
    shape = formatter_for("code")
    before = [shape.feed(line) for line in lines[:12]]
    assert not any(before)
    after = [list(shape.feed(line)) for line in lines[12:]]
    assert all(after)
    assert [*after[0], *(run for found in after[1:] for run in found), *shape.finish()] == [
        ("".join(lines[:13]), ""),
        *((line, "") for line in lines[13:]),
    ]
    assert shape.replacement() is None


def test_a_late_block_takes_the_place_of_what_was_shown() -> None:
    """It streams below the prose, and is all that is left in the end."""
    prose = "so it goes\n" * 20
    assert runs("code", prose, "```python\nx = 1\n", "```\n", "```html\n<b>\n```") == [("x = 1\n\n<b>\n", "python")]
    assert runs("html-source", prose, "```python\nx = 1\n```\n") == [
        (prose, "html"),
        ("```python\nx = 1\n```\n", "html"),
    ]


def test_what_cannot_be_taken_back_waits_for_the_end() -> None:
    shape = formatter_for("code", "plain")
    assert not any(shape.feed("so it goes\n") for _ in range(40))
    assert list(shape.finish()) == [("so it goes\n" * 40, "")]


def test_json_is_indented_and_anything_else_is_left() -> None:
    """Half an object, as after an interrupt, is shown unchanged."""
    assert shown("json", '{"a":', '["é"]}') == '{\n  "a": [\n    "é"\n  ]\n}'
    assert shown("json", '{"a":') == '{"a":'


@given(st.lists(st.sampled_from(["```", "```py", "\n", "x = 1", "~~~", " ", "`", "text"]), max_size=30))
def test_pieces_do_not_change_what_is_shown(pieces: list[str]) -> None:
    """However an answer is cut into pieces, the same is shown."""
    for format in ("code", "html-source", "json", "text"):
        assert shown(format, *pieces) == shown(format, "".join(pieces))


PROSE = st.lists(st.sampled_from(["", "text", "- x", "`a`", "``"]), max_size=20)
CODE = st.lists(st.sampled_from(["x = 1", "", "  y", "``", "text"]), min_size=1, max_size=4)
BLOCKS = st.lists(st.tuples(PROSE, st.sampled_from(["```", "~~~~"]), st.sampled_from(["", "py"]), CODE), min_size=1)


@given(BLOCKS, st.booleans(), st.data())
def test_streamed_code_is_the_code_of_the_whole(
    blocks: list[tuple[list[str], str, str, list[str]]], closed: bool, data: st.DataObject
) -> None:
    """What is shown piece by piece is what the blocks hold, line for line, however much prose stands around them."""
    lines = [line for prose, fence, word, code in blocks for line in (*prose, fence + word, *code, fence)]
    text = "\n".join(lines if closed else lines[:-1]) + "\n"
    assert list(code_blocks(text)) == [(word, "\n".join(code)) for _, _, word, code in blocks]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    pieces = [text[start:end] for start, end in itertools.pairwise([0, *cuts, len(text)])]
    assert shown("code", *pieces) == "\n".join("\n".join(code) + "\n" for *_, code in blocks)


def test_python_leaves_other_languages_out() -> None:
    """Only Python, and blocks that name no language, are proposed to be run."""
    text = "```python\na = 1\n```\n```bash\nrm -rf x\n```\n```\nb = 2\n```"
    assert python_code(text) == "a = 1\n\nb = 2"
    assert python_code("no code") == ""


def test_the_formats_in_a_cell(notebook: Notebook) -> None:
    """-f code and -f html-source show text, never a page."""
    code = notebook.run("%%skytells_chat -f code\nRun:\n```python\nprint('<b>')\n```\nDone.").outputs[0].data
    assert "&lt;b&gt;" in code["text/html"]
    assert "<b>" not in code["text/html"]
    assert code["text/plain"] == "print('<b>')\n"
    html = notebook.run("%%skytells_chat -f html-source\n<script>alert(1)</script>").outputs[0].data
    assert "<script" not in html["text/html"]
    assert html["text/plain"] == "<script>alert(1)</script>"
    data = notebook.run('%%skytells_chat -f json\n{"a":1}').outputs[0].data
    assert data["text/plain"] == '{\n  "a": 1\n}'


def test_proposed_code_waits_in_the_next_cell(notebook: Notebook) -> None:
    """--code fills the next input and runs nothing; escape sequences are removed."""
    ran = notebook.run("%%skytells_chat --code\nTry\n```python\nran = '\x1b[31m'\n```")
    assert ran.error is None
    assert notebook.shell.rl_next_input == "ran = ''"
    assert "ran" not in notebook.shell.user_ns
    assert "The code is in the next cell; read it before you run it." in ran.outputs[0].data["text/plain"]


def test_without_code_the_next_cell_stays(notebook: Notebook) -> None:
    """Without code a note says so."""
    ran = notebook.run("%%skytells_chat --code\nJust words")
    assert getattr(notebook.shell, "rl_next_input", None) is None
    assert "The answer has no Python code" in ran.outputs[0].data["text/plain"]


def test_code_comes_with_its_language() -> None:
    """Each block with the one that it names, so that each is highlighted in its own language."""
    text = "```python\na\n```\n```\nb\n```\n```SQL\nc"
    assert runs("code", text) == [("a\n", "python"), ("\nb\n", ""), ("\nc\n", "sql")]


def test_json_is_readable_before_it_is_whole_and_indented_then() -> None:
    """In a cell the raw text streams; where output cannot be taken back, the indented text comes once."""
    incremental, late = formatter_for("json", "live"), formatter_for("json", "plain")
    assert list(incremental.feed('{"a":')) == [('{"a":', "json")]
    assert list(late.feed('{"a":')) == []
    assert [*incremental.feed("1}"), *incremental.finish()] == [("1}", "json")]
    assert incremental.replacement() == ('{\n  "a": 1\n}', "json")
    assert [*late.feed("1}"), *late.finish()] == [('{\n  "a": 1\n}', "json")]
    assert late.replacement() is None
