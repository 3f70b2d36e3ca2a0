"""Untrusted text on a page and in a terminal: nothing in it acts."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hostile import PAYLOADS, pieces
from hypothesis import example, given
from hypothesis import strategies as st
from pygments.token import STANDARD_TYPES

from skytells_nb.widgets.growing_text import TextSegment
from skytells_nb.widgets.safe_html import ATTRIBUTES, CODE_TAGS, TAGS, safe_html
from skytells_nb.widgets.safe_text import escape, plain, preformatted

RUN = "(window.x=1)"
HOSTILE = {
    "script": f"<script>{RUN}</script>",
    "image handler": f'<img src=x onerror="{RUN}">',
    "svg": f'<svg onload="{RUN}"><animate onbegin="{RUN}" attributeName=x dur=1s></svg>',
    "frame": f'<iframe srcdoc="<script>{RUN}</script>"></iframe>',
    "style and overlay": "<style>*{display:none}</style><div style='position:fixed' class=jp-Toolbar>token?</div>",
    "form": "<form action='http://evil.test/'><input name=p><button>ok</button></form>",
    "markdown image": "![b](http://evil.test/q.png)",
    "markdown image in a link": "[![b](http://evil.test/q.png)](http://evil.test/)",
    "reference image": "![b][r]\n\n[r]: http://evil.test/q.png",
    "javascript link": f"[x](javascript:{RUN}) [y](<javascript:{RUN}>) <javascript:{RUN}>",
    "disguised links": "[x](JaVaScRiPt&colon;alert(1)) [y](java\tscript:alert(1)) [z](\x01javascript:alert(1))",
    "data link": "[x](data:text/html;base64,PHNjcmlwdD4=) [y](vbscript:x) [z](file:///etc/passwd)",
    "server link": "[x](/api/shutdown) [y](//evil.test) [z](../logout?x=1) [w](#top)",
    "title that breaks out": '[x](http://a.test "\\" onmouseover=alert(1) x=\\"")',
    "parser confusion": "<math><mtext><table><mglyph><style><!--</style><b title='--&gt;&lt;img src=1 onerror=x&gt;'>",
    "fence that breaks out": "```html\n</code></pre><img src=x onerror=alert(1)>\n```",
    "fence name that breaks out": '```a"onclick=alert(1)<img/src=x>\nx\n```',
    "code that breaks out": "`` ` <img src=x onerror=alert(1)> ``",
    "table that breaks out": "| a |\n|---|\n| <svg><animate onbegin=alert(1)> |",
    "table alignment": "| a |\n|:-:|\n| b |",
    "comment and processing": "<!-- x --><?php y ?><![CDATA[ z ]]>",
    "entity": "&lt;script&gt;alert(1)&lt;/script&gt; &#60;img src=x onerror=alert(1)&#62;",
}


class Page(HTMLParser):
    """Collects the elements that a browser would create."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.others: list[str] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


CLASSES = {
    **{"div": {"skytells-md", "highlight alert", "alert", "lm-TabBar-content", "jp-FileEditorCodeWrapper"}},
    **{"listing": {"lm-TabBar-content highlight"}},
    **{tag: {"jp-toc-ignore"} for tag in ("h1", "h2", "h3", "h4", "h5", "h6")},
    **{tag: set(STANDARD_TYPES.values()) - {""} for tag in ("span", "b", "i")},
}
"""Every class that a page may have; that of code names its language."""


def assert_harmless(page: str, images: bool = False) -> Page:
    parsed = Page(page)
    assert parsed.others == []
    for tag, attributes in parsed.elements:
        assert tag in TAGS | CODE_TAGS | ({"img"} if images else set())
        if tag == "img":
            assert set(attributes) == {"src", "alt", "referrerpolicy"}
            assert re.match(r"https?://[a-z.]+/", attributes["src"] or "")
            continue
        assert set(attributes) <= ATTRIBUTES.get(tag, set()) | {"a": {"rel"}}.get(tag, {"class"} & {*attributes})
        if "href" in attributes:
            assert re.match(r"(?i)(https?://|mailto:)", attributes["href"] or "")
            assert attributes["rel"] == "noopener noreferrer nofollow"
        if "class" in attributes:
            named = attributes["class"] or ""
            assert re.fullmatch(r"language-[\w+#.-]{1,40}", named) if tag == "code" else named in CLASSES[tag]
        assert attributes.get("dir", "auto") in ("auto", "ltr", "rtl")
        assert attributes.get("align", "left") in ("left", "right", "center")
    assert parsed.elements[0] == ("div", {"class": "skytells-md"})
    assert parsed.elements.count(parsed.elements[0]) == 1
    return parsed


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_markdown_leaves_only_allowed_tags_and_web_links(payload: str) -> None:
    """No script, handler, style, image, frame or form survives, and links go to the web only."""
    assert_harmless(safe_html(payload))


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_an_attack_is_harmless_at_every_moment_of_its_growth(payload: str) -> None:
    """Each unfinished state that a page shows is as clean as the whole."""
    part = TextSegment()
    for piece in pieces(payload):
        part.add(piece)
        assert_harmless(part.to_html())
    assert_harmless(part.to_final_html())


@given(
    st.lists(
        st.sampled_from([*HOSTILE.values(), "\n\n", "> ", "- ", "    ", "*", "`", "|", "$", "\\(", "\\)", "<", ">"])
    )
)
def test_hostile_pieces_in_any_order_stay_harmless(pieces: list[str]) -> None:
    """Payloads read_assets with Markdown's own marks do not get through either."""
    assert_harmless(safe_html("".join(pieces)))


@given(st.text())
@example("<a href='javascript:x'>\x00</a>")
@example("# A heading")
def test_any_text_stays_harmless(text: str) -> None:
    """Whatever the text, the page holds allowed elements only."""
    assert_harmless(safe_html(text))


def test_markdown_is_rendered() -> None:
    """Emphasis, lists, tables, strikethrough, code and links come out as such."""
    page = Page(safe_html("**b** ~~s~~ [l](https://a.test)\n\n3. x\n\n| h |\n|---|\n| c |\n\n```python\nx = 1\n```"))
    tags = [tag for tag, _ in page.elements]
    assert tags[0] == "div"
    assert {"strong", "s", "a", "ol", "li", "table", "th", "td", "pre", "code"} <= set(tags)
    assert ("ol", {"start": "3"}) in page.elements
    assert ("code", {"class": "language-python"}) in page.elements


def test_an_image_becomes_a_link() -> None:
    """Nothing is fetched when the answer is shown; the reader may still follow the address."""
    page = Page(safe_html("![chart](https://a.test/c.png)"))
    assert [a["href"] for tag, a in page.elements if tag == "a"] == ["https://a.test/c.png"]


def images(markdown: str) -> list[dict[str, str | None]]:
    return [found for tag, found in Page(safe_html(markdown, remote_images=True)).elements if tag == "img"]


def test_an_image_is_loaded_where_that_is_allowed() -> None:
    """Its address and words, and no word to its server about the page; without a title, within a link too."""
    expected = {"src": "https://a.test/c.png?x=1", "alt": "the chart", "referrerpolicy": "no-referrer"}
    assert images('![the *chart*](https://a.test/c.png?x=1 "title")') == [expected]
    assert images("[![the chart](https://a.test/c.png?x=1)](https://b.test)") == [expected]
    assert images("![the chart][r]\n\n[r]: https://a.test/c.png?x=1") == [expected]


@pytest.mark.parametrize(
    "address",
    [
        *(
            "http://127.0.0.1:8888/logout",
            "http://localhost/x",
            "http://x.localhost:80/x",
            "http://[::1]/x",
            "http://lab/x",
        ),
        *(
            "http://2130706433/",
            "http://0x7f.1/",
            "http://127.1/",
            "https://u:p@a.test/x",
            "mailto:a@a.test",
            "//a.test/x",
        ),
        *(
            "/files/x.png",
            "data:image/svg+xml;base64,PHN2Zz4=",
            "javascript:alert(1)",
            "file:///x.png",
            "blob:http://a.test/x",
        ),
        *("http://127.0.0.1%5C@a.test/", "ftp://a.test/x.png", "attachment:x.png"),
    ],
)
def test_no_image_comes_from_here_or_from_what_is_no_web_address(address: str) -> None:
    """The notebook's own server would take the request for the reader's; such an image stays a link, or text."""
    assert images(f"![x]({address}) [![y]({address})](https://b.test) ![z][r]\n\n[r]: {address}\n") == []


@pytest.mark.parametrize("payload", [*HOSTILE.values(), *PAYLOADS.values()])
def test_hostile_markdown_gains_nothing_but_images_where_they_are_allowed(payload: str) -> None:
    """Every image has an address on the web and no handler; all else is as clean as without."""
    assert_harmless(safe_html(payload, remote_images=True), images=True)


def test_raw_html_is_shown_as_text() -> None:
    """What the model wrote can be read, tags included."""
    assert "<b>bold</b>" in Page(safe_html("<b>bold</b>")).words


@pytest.mark.parametrize("formula", [r"\(a_1 * b_2 * c\)", r"$$x*y*z \\ w$$", r"\[\{a\}\]", "$a*b$ and $c*d$"])
def test_a_formula_keeps_its_characters(formula: str) -> None:
    """Stars, underscores and backslashes within a formula are not Markdown."""
    assert Page(safe_html(formula)).words.strip() == formula


def test_money_is_not_a_formula() -> None:
    """Dollar signs before amounts leave the emphasis between them alone."""
    assert "<em>now</em>" in safe_html("$5 *now* or $10 later")


@pytest.mark.parametrize(
    "formula",
    [
        r"$\href{javascript:alert(1)}{x}$",
        r"$$\\\href{javascript:alert(1)}{x}$$",
        r"\(\style{position:fixed}{x}\)",
        r"$\class{jp-Toolbar}{x}$",
        r"$\bbox[position:fixed]{x}$",
        r"\[\def\sum{0}\]",
        r"$\newcommand{\frac}[2]{0}$",
        r"$\htmlClass{a}{x}$",
        r"$\require{html}$",
        r"&#92;href{javascript:alert(1)}{x}",
        r"\&#104;ref{x}{y} $\hre&#102;{javascript:alert(1)}{x}$",
    ],
)
def test_a_formula_cannot_reach_out(formula: str) -> None:
    """Commands that link, style, load or redefine are broken where the front end would typeset them."""
    words = Page(safe_html(formula)).words
    assert not re.search(r"\\(href|style|class|bbox|def|newcommand|htmlClass|require)(?![a-zA-Z])", words)


def test_code_is_left_as_it_is() -> None:
    """Code is not typeset, so a TeX command in it can be copied unchanged."""
    assert r"\href{a}{b}" in Page(safe_html("`\\href{a}{b}`\n\n```tex\n\\href{a}{b}\n```")).words


@pytest.mark.parametrize("unit", ["\\[", "\\(", "$$ ", "$a", "[", "![", "`" * 3 + " ", "*a ", "_a", "<a ", "> "])
def test_long_runs_of_openers_do_not_hang(unit: str) -> None:
    """Eight times as many take about eight times the CPU time of this thread; a quadratic search takes 64 times it."""

    def cpu_s(count: int) -> float:
        began = time.thread_time()
        page = safe_html(unit * count)
        taken = time.thread_time() - began
        assert_harmless(page)
        return taken

    # Once is enough: no other process makes a quadratic search fast, but many may make a linear one look slow.
    few = min(cpu_s(1_000) for _ in range(3))
    assert any(cpu_s(8_000) < 24 * few + 0.05 for _ in range(20))


@given(st.text())
def test_escaped_text_has_no_elements(text: str) -> None:
    """Escaped text makes no element, in a page or in a quoted attribute."""
    assert Page(f'<p title="{escape(text)}">{escape(text)}</p>').elements[0][0] == "p"
    assert len(Page(f'<p title="{escape(text)}">{escape(text)}</p>').elements) == 1
    assert [tag for tag, _ in Page(preformatted(text)).elements] == ["pre"]


@given(st.text(alphabet=st.sampled_from("\x1b[]0;1m\x07\\\x9b\x9c\x08\x00\x7f\r\nPX^_a?c ")))
def test_plain_text_holds_no_control_character(text: str) -> None:
    """No escape, bell, backspace or C1 character is left, in any order."""
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", plain(text))


def test_plain_text_loses_escape_sequences_whole() -> None:
    """Colors, titles, links and clipboard writes go with their arguments; words and layout stay."""
    hostile = (
        "\x1b[1;31mred\x1b[0m\x1b]52;c;ZXZpbA==\x07 a\tb\r\nc \x1b]8;;http://evil.test\x1b\\link\x1b]8;;\x1b\\\x9b2J"
    )
    assert plain(hostile) == "red a\tb\nc link"


@pytest.mark.parametrize(
    ("markdown", "host"),
    [
        ("[https://bank.test/login](https://evil.test/x)", "evil.test"),
        ("[**bank.test**](https://evil.test)", "evil.test"),
        ("[`www.bank.test`](https://bank.test.evil.test)", "bank.test.evil.test"),
        ("<https://bank.test@evil.test/>", "evil.test"),
        ("[help@bank.test](mailto:help@evil.test)", "evil.test"),
        ("[b][r]\n\n[r]: https://evil.test\n\n![bank.test](https://evil.test/x.png)", "evil.test"),
    ],
)
def test_a_link_that_names_another_host_shows_its_own(markdown: str, host: str) -> None:
    """What the reader takes for the address is not left to the model."""
    assert f"</a> ({host})" in safe_html(markdown)


@pytest.mark.parametrize(
    "markdown",
    [
        "[the docs](https://a.test)",
        "<https://a.test/b.html>",
        "[a.test](https://docs.a.test/)",
        "[WWW.A.test/x](https://a.test/x)",
        "<mailto:me@a.test>",
        "[see e.g. this](https://a.test)",
    ],
)
def test_an_honest_link_is_left_alone(markdown: str) -> None:
    """A link's own address as its text, or no address, needs nothing beside it."""
    assert safe_html(markdown).endswith("</a></p>\n</div>")


@pytest.mark.parametrize("text", ["a\u202eb", "a&#x202e;b", "a\u2067b\u2069", "`a\u202db`", "```\na\u202eb\n```"])
def test_nothing_changes_the_order_in_which_text_is_read(text: str) -> None:
    """Overrides, embeddings and isolates are taken out, of code too; letters of right-to-left scripts stay."""
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", safe_html(text) + plain(text) + preformatted(text))
    assert plain("\u05d0\u05d1\u200f") == "\u05d0\u05d1\u200f"


@pytest.mark.parametrize("heading", ["# One", "### *Three*", "Two\n---"])
def test_a_heading_stays_out_of_the_notebooks_contents(heading: str) -> None:
    """They are the author's, and JupyterLab makes an entry for each heading of an output."""
    assert re.search(r'<h[1-3] class="jp-toc-ignore">', safe_html(heading))
