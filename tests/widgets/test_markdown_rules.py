"""The Markdown that models write: formulas and money, tables, tasks, addresses, footnotes, tags, folded text."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb.widgets.growing_text import TextSegment
from skytells_nb.widgets.safe_html import safe_html
from skytells_nb.widgets.safe_text import literal_html

_TYPESET = re.compile(r"\$\$.+?\$\$|\$[^$]+?\$|\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{(\w+\*?)\}.*?\\end\{\1\}", re.DOTALL)


class Typesetter(HTMLParser):
    """Finds what MathJax would take for a formula: it joins text within one element, over line breaks only."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.formulas: list[str] = []
        self._text, self._code = "", 0
        self.feed(page)
        self.close()
        self._end_text()

    def _end_text(self) -> None:
        self.formulas += [found.group() for found in _TYPESET.finditer(self._text)]
        self._text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag != "br":
            self._end_text()
        self._code += tag in ("pre", "code")

    def handle_endtag(self, tag: str) -> None:
        self._end_text()
        self._code -= tag in ("pre", "code")

    def handle_data(self, data: str) -> None:
        if not self._code:
            self._text += data


def typeset(markdown: str) -> list[str]:
    return Typesetter(safe_html(markdown)).formulas


@pytest.mark.parametrize(
    "text",
    [
        "It costs $5 and then $10.",
        "The premium plan is $20/month, the basic plan is $8/month.",
        "Prices rose from $100 to $150.",
        "US$5 and A$10, or 20$ and 30$ (NZ$7).",
        "Pay $5/€4 or 10$.",
        "Between $1.50\u2013$2, $1,000,000 and $2M; -$3 or +$4; ~$5.",
        "Cheap ($), mid ($$), expensive ($$$).",
        "$$ to $$$",
        "Set $PATH before $HOME; $HOME/bin:$PATH; $USER@$HOST; ${A} and ${B}.",
        "**$5** and *$10*, [$1](https://a.test) or $2\nand $3 on\\\nthree $4 lines",
        "# $5 or $6\n\n- $7\n- $8\n\n> $9 or $10\n\n| $1 | $2 |\n|---|---|\n|$3|$4|\n| $5-$6 | $7 |",
        "\\$5 and \\$6",
        "Costs $5, or $6 with `$x$`.",
        "a \\\\(b\\\\) c \\\\[d\\\\]",
        "\\begin{tabular}a\\end{tabular}",
        "$ 5 and $ 6, 5 $ and 6 $",
        "<details><summary>$5 or $6</summary>\n\n$7 or $8\n\n</details>",
        "x[^1]\n\n[^1]: $5 or $6",
    ],
)
def test_money_and_variables_are_never_typeset(text: str) -> None:
    """No front end can pair the dollar signs that are no formula's, and each of them is still there."""
    assert typeset(text) == []
    page = safe_html(text)
    assert unescape(re.sub(r"<[^>]*>", "", page)).count("$") == text.count("$")


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("$x^2$", ["$x^2$"]),
        ("Let $a*b*c$ and $d_1, d_2$.", ["$a*b*c$", "$d_1, d_2$"]),
        ("$5x + 3 = 10$ costs $5", ["$5x + 3 = 10$"]),
        ("$10^{-3}$, $\\frac{1}{2}$, $2$, $0.5$, $10 \\text{ km}$", None),
        ("H$_2$O at 3$\\times$3, the $n$th, $x$-axis, ($y$)", ["$_2$", "$\\times$", "$n$", "$x$", "$y$"]),
        ("from $5 to $x$ dollars", ["$x$"]),
        ("$$x*y$$ and \\(a_1*b\\) and \\[c*d\\]", ["$$x*y$$", "\\(a_1*b\\)", "\\[c*d\\]"]),
        ("Where $|x|$ and $f(x) = $ are", ["$|x|$"]),
        ("| a | b |\n|---|---|\n| $\\|x\\|_2$ | $|y|$ |\n| \\(p|q\\) | $5 |", ["$\\|x\\|_2$", "$|y|$", "\\(p|q\\)"]),
        ("- $$\n  a\n  = b\n  $$\n", ["$$\na\n= b\n$$"]),
        ("> \\[\n> x \\\\\n> - y\n> \\]", ["\\[\nx \\\\\n- y\n\\]"]),
        ("so\n$$\na\n=\n- b \\\\\n# c\n\n| d |\n$$\nthen", ["$$\na\n=\n- b \\\\\n# c\n\n| d |\n$$"]),
        ("\\begin{cases}\n1 & x \\\\\n* 0 & y\n\\end{cases}", ["\\begin{cases}\n1 & x \\\\\n* 0 & y\n\\end{cases}"]),
        ("as \\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}.", ["\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}"]),
        (
            "\\begin{matrix}1 \\\\ \\begin{matrix}2\\end{matrix}\\end{matrix}",
            ["\\begin{matrix}1 \\\\ \\begin{matrix}2\\end{matrix}"],
        ),
    ],
)
def test_a_formula_keeps_every_row_and_is_typeset_alone(text: str, formulas: list[str] | None) -> None:
    """Rows that look like lists, headings or tables stay rows, and no text beside a formula becomes a part of it."""
    assert typeset(text) == (formulas if formulas is not None else re.findall(r"\$[^$]+\$", text))


@given(st.lists(st.sampled_from([*"$$$|\\ab5", " ", "\n", "$5", "\\(", "\\)", "\\[", "\\]", "`", "*", "and ", "| "])))
def test_every_formula_has_an_element_of_its_own(pieces: list[str]) -> None:
    """Whatever surrounds it, the text of an element is a formula as a whole, or holds none."""
    for line in re.split(r"<[^>]+>", re.sub(r"(?s)<(pre|code).*?</\1>", "", safe_html("".join(pieces)))):
        found = [match.group() for match in _TYPESET.finditer(unescape(line))]
        assert found == [] or unescape(line).strip().startswith(found[0][:2])


def test_literal_text_has_no_formula() -> None:
    """Text that is shown as it is typed, as a question is."""
    page = literal_html("$5 or $6, \\(x\\), \\begin{align}y\\end{align} <b>")
    assert Typesetter(page).formulas == []
    assert unescape(re.sub(r"</?span>", "", page)) == "$5 or $6, \\(x\\), \\begin{align}y\\end{align} <b>"


def test_columns_are_aligned_as_the_table_says() -> None:
    """Left is also what is not said: JupyterLab would align it to the right."""
    page = safe_html("| a | b | c | d |\n|:---|---:|:-:|---|\n| 1 | 2 | 3 | 4 |")
    assert re.findall(r'<td(?: align="(\w+)")?><div align="(\w+)">(\d)', page) == [
        ("left", "left", "1"),
        ("right", "right", "2"),
        ("center", "center", "3"),
        ("", "left", "4"),
    ]
    assert len(re.findall(r"<th", page)) - 1 == 4


def test_a_table_scrolls_within_itself() -> None:
    assert re.search(r'<div class="jp-FileEditorCodeWrapper"><table>(?s:.)*</table></div>', safe_html("|a|\n|-|"))


@pytest.mark.parametrize("marker", ["-", "*", "1."])
def test_tasks_have_boxes(marker: str) -> None:
    """Done and open, in place of a bullet, with more Markdown behind; brackets elsewhere are brackets."""
    page = safe_html(f"{marker} [x] *done*\n{marker} [ ] open [x]\n{marker} [X]\n\n[x] text")
    assert "☑ <em>done</em>" in page
    assert "☐ open [x]" in page
    assert page.count('<li type="none">') == (0 if marker == "1." else 2)
    assert page.count("[x] text") == 1
    assert "[X]" in page


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("See https://example.org/x for more.", ["https://example.org/x"]),
        ("(https://a.test/b_(c)), https://a.test/d?e=1&f=2#g. https://a.test!", None),
        ("**https://a.test/b** and <https://b.test>", ["https://a.test/b", "https://b.test"]),
        ("[https://a.test](https://a.test) once", ["https://a.test"]),
        ("`https://a.test` xhttps://b.test ftp://c.test https:// https://localhost/x", []),
        ("|https://a.test/b|\n|-|\n|https://a.test/c|", ["https://a.test/b", "https://a.test/c"]),
        ("https://a.test/<script>", ["https://a.test/"]),
    ],
)
def test_a_web_address_is_a_link(text: str, addresses: list[str] | None) -> None:
    """Without the punctuation after it; not in code, and not within another link."""
    expected = (
        addresses if addresses is not None else ["https://a.test/b_(c)", "https://a.test/d?e=1&f=2#g", "https://a.test"]
    )
    assert [unescape(found) for found in re.findall(r'<a href="([^"]*)"', safe_html(text))] == expected


def test_an_address_that_looks_like_another_shows_its_host() -> None:
    assert "(evil.test)" in safe_html("https://bank.test@evil.test/login")


def test_a_footnote_stands_where_it_is_written() -> None:
    """Its mark is raised in the text; a name that no footnote has stays as it is, and no footnote is lost."""
    page = safe_html(
        "One[^1], two[^note], a set [^a-z].\n\n[^1]: *First*\n    goes on\n\n    Second paragraph\n[^note]: Other."
    )
    assert "One<sup>[1]</sup>, two<sup>[note]</sup>, a set [^a-z]." in page
    assert (
        "<p><sup>[1]</sup> <em>First</em>\ngoes on</p>\n<p>Second paragraph</p>\n<p><sup>[note]</sup> Other.</p>"
        in page
    )
    assert "<sup>[2]</sup> alone" in safe_html("[^2]: alone")
    assert "https://a.test</a>" in safe_html("[^3]: https://a.test")


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("H<sub>2</sub>O, x<SUP>2</SUP>", "H<sub>2</sub>O, x<sup>2</sup>"),
        ("<kbd>Ctrl</kbd>+<kbd>*C*</kbd>", "<kbd>Ctrl</kbd>+<kbd><em>C</em></kbd>"),
        ("a<br>b<br/>c<br />d", "a<br>\nb<br>\nc<br>\nd"),
        ("a <sub>b", "a &lt;sub&gt;b"),
        ("</sub> <sub>a<sup>b</sub>", "&lt;/sub&gt; &lt;sub&gt;a&lt;sup&gt;b&lt;/sub&gt;"),
        ("<sub class=x>a</sub>", "&lt;sub class=x&gt;a&lt;/sub&gt;"),
        ("`<br>`", "<code>&lt;br&gt;</code>"),
    ],
)
def test_a_few_tags_are_kept_without_attributes(text: str, page: str) -> None:
    """In pairs; alone, with attributes or in code they are text."""
    assert safe_html(text) == f'<div class="skytells-md"><p>{page}</p>\n</div>'


FOLDED = "<details>\n<summary>Show *it*</summary>\n\nText\n\n```python\nx = 1\n```\n\n</details>\n\nAfter"


def test_details_are_folded() -> None:
    """Markdown within, and what follows is outside."""
    page = safe_html(FOLDED)
    assert re.search(r"<details>\s*<summary>Show <em>it</em></summary>\s*<p>Text</p>", page)
    assert page.index("language-python") < page.index("</details>") < page.index("<p>After</p>")
    # Jupyter leaves no space below it; an empty paragraph does.
    assert re.search(r"</details>\s*<p></p>\s*<p>After</p>", page)
    assert "<summary>A</summary>\n<p>b</p>\n</details>" in safe_html("<details open><summary>A</summary>b</details>")


def test_details_stay_folded_while_they_grow_and_where_they_are_split() -> None:
    """A part that is not complete shows nothing of it outside."""
    segment = TextSegment()
    for piece in re.findall(r"(?s).{1,3}", FOLDED):
        segment.add(piece)
        page = segment.to_html()
        assert page.count("<details>") == page.count("</details>")
        if "Text" in page:
            assert page.index("<details>") < page.index("Text") < page.index("</details>")
    assert segment.to_html() == segment.to_final_html()
    long = TextSegment()
    long.add("<details>\n<summary>Long</summary>\n\n" + "words and words\n\n" * 400 + "</details>\n\nAfter")
    split = long.split_complete(2_000)
    assert split is not None
    head, rest = split
    assert len(head.text) <= 4_000
    for part in (head, rest):
        assert "words" not in re.sub(r"(?s)<details>.*</details>", "", part.to_final_html())
    assert "<p>After</p>" in re.sub(r"(?s)<details>.*</details>", "", rest.to_final_html())


@pytest.mark.parametrize("text", ["<details ontoggle=x>\n\na", "<details>a", "a <details>", "    <details>"])
def test_details_of_another_form_hide_nothing(text: str) -> None:
    """With attributes they are text; one that never ends holds the rest of its block."""
    page = safe_html(text)
    assert page.count("<details>") == page.count("</details>")
    assert "a" in re.sub(r"<[^>]*>", "", page) or "details" in page


def test_right_to_left_text_has_its_direction() -> None:
    """Paragraphs, headings and cells find it by themselves, lists and tables have that of their first word."""
    page = safe_html("# שלום\n\nطويل *text*\n\n- אחד\n- two\n\n| א | b |\n|---|---|\n| ב | c |\n\nplain")
    assert re.search(r'<h1 (?:class="jp-toc-ignore" )?dir="auto"', page)
    assert '<div dir="auto">طويل <em>text</em></div>' in page
    assert '<ul dir="rtl">\n<li>אחד</li>\n<li>two</li>' in page
    assert '<ul dir="ltr">\n<li>two</li>\n<li dir="auto">אחד</li>' in safe_html("- two\n- אחד")
    assert '<table dir="rtl">' in page
    assert '<th dir="auto">א</th>' in page
    assert '<td dir="auto">c</td>' in page
    assert '<table dir="ltr">' in safe_html("| a | א |\n|---|---|\n| b | c |")
    assert "<p>plain</p>" in page
    assert "dir=" not in safe_html("# plain\n\n- text")


def test_a_quote_from_right_to_left_has_its_line_to_the_right() -> None:
    """It is that of a ``<blockquote>``, which Jupyter draws to its left; a quote from left to right is one."""
    page = safe_html("> שלום\n>\n> two\n>\n> > b ב")
    line, _, quoted = page.partition("<blockquote></blockquote>")
    assert line.endswith('dir="rtl">')
    assert quoted.count("<blockquote") == 1
    assert '<blockquote dir="ltr">' in quoted
    assert "<blockquote></blockquote>" not in safe_html("> one שלום")
    assert "<blockquote>" in safe_html("> plain")


@pytest.mark.parametrize("rules", ["", "\n\n| a |\n|---|", "\n\nאחד"])
def test_a_quote_without_text_is_the_same_beside_what_needs_rules(rules: str) -> None:
    """While an answer grows its blocks are rendered one by one, with the rules that each needs."""
    assert "<blockquote></blockquote>" in safe_html(f">{rules}")


@pytest.mark.parametrize(
    "word", ["well-known", "and/or,", "2019\u20132021", "(a-b)", "`--max-wait`", "`a/b-c`", "*x-y*"]
)
def test_a_word_in_a_table_is_not_broken(word: str) -> None:
    """A browser would break it after its hyphen to make the column narrower; in a sentence it may."""
    kept = word.strip("`*").replace("*", "")
    page = safe_html(f"| some {word} |\n|---|\n| {word} |")
    assert [re.sub(r"<[^>]*>", "", found) for found in re.findall(r"<nobr>.*?</nobr>", page)] == [kept, kept]
    assert "<nobr>" not in safe_html(word)


@pytest.mark.parametrize(
    "text", ["plain words", "- 1", "a - b", "-1", "x" * 20 + "-" + "y" * 20, "東京-大阪", "`a b-c`"]
)
def test_what_is_no_short_word_may_be_broken(text: str) -> None:
    """A long name would make the table as wide as itself."""
    assert "<nobr>" not in safe_html(f"| {text} |\n|---|")


def test_blocks_of_code_are_framed_named_and_apart() -> None:
    """Each in an element of its own, with the name that the model gives, colored where the language is known."""
    page = safe_html(
        "```python\nfor x in y: pass\n```\n```SQL\nSELECT 1\n```\n```nonsense\n<b>\n```\n```\nplain\n```\n\n    in\n"
    )
    frames = page.split('<div class="highlight alert" dir="ltr">')
    assert frames[0] == '<div class="skytells-md">'
    assert [re.findall(r"<small>(.*?)</small>", frame) for frame in frames[1:]] == [
        ["python"],
        ["SQL"],
        ["nonsense"],
        [],
        [],
    ]
    assert all(frame.count("<pre>") == frame.count("</listing></div></code></pre></div>") == 1 for frame in frames[1:])
    assert "<b class=k>for </b>" in page
    assert "<b class=k>SELECT </b>" in page
    assert "&lt;b&gt;" in page
    assert typeset("```a$b$\nx\n```\n\n```$x$ y\n```") == []


def test_code_copied_from_the_page_is_the_code() -> None:
    """No line is wrapped or numbered, and no letter is added."""
    code = "\n\ndef f(a):\n\treturn a  # <x> & $y$\n\n"
    page = safe_html(f"```python\n{code}```")
    assert not re.search(r"<(pre|listing)[^>]*>\n", page), "a page leaves out a line break right after these tags"
    assert unescape(re.sub(r"<[^>]*>", "", page[page.index("<code") : page.index("</code>")])) == code
