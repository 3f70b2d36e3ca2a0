"""Answers in exports: Markdown in which nothing acts, typeset by nbconvert and pandoc."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hostile import PAYLOADS
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from nbconvert import HTMLExporter, LatexExporter, MarkdownExporter, PDFExporter, SlidesExporter

from skytells_nb.widgets.chat_panel.transcript import Transcript
from skytells_nb.widgets.chat_panel.turns import Turn
from skytells_nb.widgets.live import MARKDOWN_CHARS, StreamingOutput
from skytells_nb.widgets.safe_html import literal_markdown, safe_html, safe_markdown

PANDOC = shutil.which("pandoc")
needs_pandoc = pytest.mark.skipif(PANDOC is None, reason="pandoc is not installed")

ANSWER = """The roots of $ax^2 + c = 0$ are **zero** for \\(c = 0\\); it costs $5 or $10.

$$
x_{1,2} = \\pm\\sqrt{-c/a}
$$

| Name | Price |
|:-----|------:|
| Pear | $1.20 |

```python
print("x_1")  # <b>
```

- [x] done
- open, see https://a.test/b_c

\\input{/etc/passwd} $\\input{/etc/passwd}$ <script>alert(1)</script>
"""


def words(page: str) -> list[str]:
    return re.sub(r"<[^>]*>", " ", page).split()


def outputs_of(text: str) -> list[dict[str, str]]:
    sent: dict[str, dict[str, str]] = {}

    def publish(data: dict[str, str], metadata: dict[str, Any], *, display_id: str, update: bool) -> None:
        sent[display_id] = data

    with StreamingOutput(mode="live", publish=publish, watch_stalls=False) as output:
        for piece in re.findall(r"(?s).{1,500}", text):
            output.write(piece)
    return list(sent.values())


def notebook(text: str) -> Any:
    saved = [nbformat.v4.new_output("display_data", data=data) for data in outputs_of(text)]  # type: ignore[no-untyped-call]
    cell = nbformat.v4.new_code_cell("%%skytells_chat\\nWhy?", outputs=saved)  # type: ignore[no-untyped-call]
    return nbformat.v4.new_notebook(cells=[cell])  # type: ignore[no-untyped-call]


def exported(exporter: Any, text: str = ANSWER) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = exporter.from_notebook_node(notebook(text))[0]
    return found if isinstance(found, str) else found.decode("latin-1")


@pytest.mark.parametrize("exporter", [HTMLExporter, SlidesExporter, MarkdownExporter])
def test_pages_and_slides_show_the_page_of_the_answer(exporter: Any) -> None:
    """Framed code, aligned prices, formulas as they are, and no script."""
    page = exported(exporter())
    assert re.search(r'<div class="highlight alert" dir="ltr">\s*<div><small>python</small></div>', page)
    assert '<pre><code class="language-python">' in page
    assert '<div align="right"><span>$</span>1.20</div>' in page
    assert "<span>$ax^2 + c = 0$</span>" in page
    assert "<script>alert" not in page


@needs_pandoc
def test_latex_is_typeset() -> None:
    """Formulas, emphasis, tables and code are LaTeX's; a price is text, and no file is read."""
    tex = exported(LatexExporter())
    body = tex[tex.index("The roots of") :]
    assert "\\(ax^2 + c = 0\\)" in body
    assert "\\textbf{zero}" in body
    assert "x_{1,2} = \\pm\\sqrt{-c/a}" in body
    assert "\\$5 or \\$10" in body
    assert "longtable" in body
    assert "\\$1.20" in body
    assert not re.search(r"(?<!textbackslash )\\input", body)
    assert "textbackslash input" in body.replace("{}", " ")


@needs_pandoc
@pytest.mark.skipif(shutil.which("xelatex") is None, reason="xelatex is not installed")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pdf_is_typeset(tmp_path: Path) -> None:
    """A PDF comes out, and has no line of /etc/passwd."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pdf = PDFExporter().from_notebook_node(notebook(ANSWER))[0]
    assert pdf.startswith(b"%PDF")


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("Hello, *you* and **me**.", "Hello, *you* and **me**."),
        ("<b>x</b> &lt;i&gt; a & b", "&lt;b>x&lt;/b> &lt;i> a & b"),
        ("$5 or $x^2$", "\\$5 or $x^2$"),
        ("\\(a_1\\) and \\[b\\]", "$a_1$ and $$b$$"),
        ("1986\\. was\n\\# x\n\\+ y", "1986\\. was\n\\# x\n\\+ y"),
        ("![chart](https://a.test/c.png)", "\\![chart](<https://a.test/c.png>)"),
        ("[x](javascript:1) [y](https://a.test)", "\\[x\\](javascript:1) [y](<https://a.test>)"),
        ("---", "* * *"),
        ("```{=latex}\n\\input{x}\n```", "```\n\\input{x}\n```"),
        ("a `` ` `` b", "a `` ` `` b"),
        ("H<sub>2</sub>O", "H<sub>2</sub>O"),
        ("<details>\n<summary>More</summary>\n\n*x*\n\n</details>", "**More**\n\n*x*"),
        ("3. a\n   - b\n4. c", "3. a\n    - b\n4. c"),
        ("> a\n>\n> b", "> a\n>\n> b"),
        ("| a | b |\n|:-:|--|\n| `x|y` \\| | $\\|v\\|$ |", None),
        ("$\\frac{$", "\\$\\\\frac\\{\\$"),
        ("\\begin{align}\na &= b\n\\end{align}", "\\begin{align}\na &= b\n\\end{align}"),
        ("\\begin{cases}\na\n\\end{cases}", "$$\n\\begin{cases}\na\n\\end{cases}\n$$"),
    ],
)
def test_markdown_is_written_anew(text: str, markdown: str | None) -> None:
    """What was Markdown stays, what was text is escaped, and a formula is between dollar signs."""
    found = safe_markdown(text)
    assert found == markdown if markdown is not None else found.startswith("| a | b |\n| :---: | --- |\n|")


def assert_inert(markdown: str) -> None:
    """No reader of Markdown finds HTML, an image or a link that leads elsewhere than to the web."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown)
    for token in [found for block in tokens for found in (block, *(block.children or []))]:
        assert token.type not in ("html_block", "image")
        if token.type == "html_inline":
            assert re.fullmatch(r"</?(sub|sup|kbd)>", token.content)
        if token.type == "link_open":
            assert re.match(r"(?i)https?://|mailto:", str(token.attrs["href"]))


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_hostile_markdown_stays_inert(payload: str) -> None:
    assert_inert(safe_markdown(payload))
    assert_inert(literal_markdown(payload))


HOSTILE = [*PAYLOADS.values(), "\n\n", "> ", "- ", "    ", "*", "`", "|", "$", "\\(", "\\)", "<", ">", "![", "](", "\\"]


@given(st.lists(st.sampled_from(HOSTILE), max_size=8) | st.lists(st.text(max_size=9)))
def test_hostile_pieces_in_any_order_stay_inert(pieces: list[str]) -> None:
    assert_inert(safe_markdown("".join(pieces)))
    assert_inert(literal_markdown("".join(pieces)))


def pandoc(markdown: str) -> Any:
    assert PANDOC is not None
    done = subprocess.run(
        [PANDOC, "-f", "markdown", "-t", "json"], input=markdown, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def raw_parts(node: Any) -> list[str]:
    """Everything that pandoc hands on to LaTeX or HTML unread, and formulas."""
    if isinstance(node, dict):
        if node.get("t") in ("RawInline", "RawBlock", "Math"):
            return [str(node["c"][1])]
        return raw_parts(node.get("c"))
    return [part for item in node for part in raw_parts(item)] if isinstance(node, list) else []


@needs_pandoc
@pytest.mark.timeout(600)
def test_pandoc_reads_nothing_that_acts() -> None:
    """Of every attack at once: formulas and a few tags, without a command that reads, writes, runs or defines."""
    tex = [
        "\\input{/etc/passwd}",
        "$\\input{/etc/passwd}$",
        "$$\\immediate\\write18{id}$$",
        "$^^5cinput{/etc/passwd}$",
        "\\begin{align}\\input{/etc/passwd}\\end{align}",
        "\\begin{align}a\\end{align}\\input{x}",
        "$\\csname input\\endcsname{x}$ $\\def\\x{1}$ $\\lstinputlisting{/etc/passwd}$ $\\@@input x$",
        "`\\input{x}`{=latex}",
        "```{=latex}\n\\input{x}\n```",
        "---\ntitle: x\n---",
        "@cite [@cite] {.class} [x]{.class} ::: div",
    ]
    found = pandoc("\n\n".join(map(safe_markdown, [*tex, *PAYLOADS.values()])))
    assert found["meta"] == {}
    parts = raw_parts(found["blocks"])
    assert parts
    for part in parts:
        assert not re.search(r"\\(input|immediate|write|csname|def|lstinputlisting|@|href|style|include|openin)", part)
        assert "^^" not in part
        assert not part.startswith("<") or re.fullmatch(r"</?(sub|sup|kbd)>", part)
    assert "Cite" not in json.dumps(found["blocks"])


def test_the_same_words_are_read_in_both() -> None:
    """Rendered again, the Markdown of an export says what the page says."""
    text = ANSWER.replace("\\input", "input").replace("\\(c = 0\\)", "$c = 0$")
    assert words(safe_html(safe_markdown(text))) == words(safe_html(text))


def test_a_long_answer_has_markdown_up_to_a_length() -> None:
    """It is as long as the text, and traffic is bounded by a multiple of that."""
    outputs = outputs_of("Some *words* in a paragraph.\n\n" * 6_000)
    with_markdown = ["text/markdown" in data for data in outputs]
    assert with_markdown[0]
    assert with_markdown == sorted(with_markdown, reverse=True)
    assert sum(len(data.get("text/markdown", "")) for data in outputs) <= 1.1 * MARKDOWN_CHARS


def test_a_transcript_has_markdown() -> None:
    """Both sides: the question as it was typed, the answer as Markdown."""
    turns = (Turn("user", "# Why *so*?\nAnd <b>"), Turn("assistant", "For **this**: $5.", "m", reasoning="Hm."))
    markdown = Transcript("Chat", "Be brief.", turns).markdown
    assert "\\# Why \\*so\\*?\\\nAnd &lt;b>" in markdown
    assert "> **Reasoning**\n>\n> Hm." in markdown
    assert "For **this**: \\$5." in markdown
    assert_inert(markdown)
