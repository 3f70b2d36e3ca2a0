"""What does a streamed answer cost: the wire to the page, the kernel, and the page's main thread?

``python -m benchmarks.streaming --out results.jsonl`` starts a local Skytells in a process of its own, whose answers
come at a set rate, and JupyterLab. ``wire`` runs ``%%skytells_chat`` in a kernel behind the server's rate limits and
counts what a page would get; ``page`` runs it in Chromium, after an idle cell of the same length. Times to the first
text are from the moment the service gives it away, so they hold the way to the kernel too. With the format ``code``
the answer is a block of Python, shown in color by ``-f code``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import nbformat
from playwright.sync_api import Page

from benchmarks.lab import Kernel, Lab, Message, jupyter_lab, kernel, notebook_page
from benchmarks.paced import OPENING, Format, service, tokens

FULL_SPEED = 0.0
Run = tuple[int, float, Format]
"""Tokens, tokens a second, and what they are."""
RUNS: tuple[Run, ...] = (
    *((20_000, FULL_SPEED, "markdown"), (20_000, 400.0, "markdown"), (2_000, 100.0, "markdown")),
    *((20_000, FULL_SPEED, "code"), (20_000, 400.0, "code")),
)
AFTER_S = 1.5
"""What an answer makes the page do goes on after the cell has ended; so long the page is watched."""
SENT_BOUNDS = {FULL_SPEED: 3.0, 400.0: 20.0}
"""Bytes sent over bytes of text."""
FIRST_TEXT_BOUND_S = 0.1
LONG_TASKS_BOUND = 0.01
"""Of the time of the stream, above what the idle page had. A whole answer in no time has to be drawn in no time."""
KERNEL_CPU_BOUND = 0.03
"""Of the time of a stream of 100 tokens a second."""
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WATCH = """() => {
    window.longTasks = [];
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.longTasks.push([entry.startTime, entry.duration]);
    }).observe({type: 'longtask'});
    window.firstShown = null;
    new MutationObserver(() => {
        const all = document.querySelectorAll('.skytells-md, .skytells-text');
        const last = all[all.length - 1];
        const begun = last && /begun ([0-9.]+)/.exec(last.textContent);
        if (begun && window.begunAt !== begun[1]) {
            window.begunAt = begun[1];
            // The frame after the next one has this text on the screen.
            requestAnimationFrame(() => requestAnimationFrame(() => {
                window.firstShown = (performance.timeOrigin + performance.now()) / 1000 - Number(begun[1]);
            }));
        }
    }).observe(document.body, {childList: true, subtree: true, characterData: true});
}"""
RUN_CELL = """async ([index, after]) => {
    const app = window.jupyterapp;
    app.shell.currentWidget.content.activeCellIndex = index;
    const begun = performance.now();
    await app.commands.execute('notebook:run-cell');
    const ended = performance.now();
    // A little longer: a task is told of once it is over.
    await new Promise((resolve) => setTimeout(resolve, 1000 * after + 500));
    const seen = window.longTasks.filter(([start]) => start >= begun && start <= ended + 1000 * after);
    return {
        seconds: (ended - begun) / 1000,
        watched: (performance.now() - begun) / 1000,
        longTasks: seen.map(([, duration]) => duration),
    };
}"""


@dataclass(frozen=True, slots=True)
class Wire:
    """One answer, as the websocket carried it. ``sent`` is bytes of output messages over bytes of text."""

    measure: str
    format: Format
    tokens: int
    tokens_per_s: float
    text_bytes: int
    seconds: float
    messages: int
    outputs: int
    sent: float
    lost: int
    limited: bool
    first_text_s: float
    kernel_cpu_s: float
    kernel_cpu_share: float


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer in JupyterLab, and an idle time of the same length before it: what the page's main thread did.

    A long task keeps the page from answering for more than 50 ms; also after the cell's end, up to
    ``AFTER_S``. ``busy`` is the share of time in tasks of any length.
    """

    measure: str
    format: Format
    tokens: int
    tokens_per_s: float
    seconds: float
    first_text_s: float
    long_tasks: int
    long_tasks_ms: float
    longest_ms: float
    busy: float
    idle_long_tasks: int
    idle_long_tasks_ms: float
    idle_longest_ms: float
    idle_busy: float
    lost: int


def ask(count: int, rate: float, format: Format = "markdown") -> str:
    return f"%%skytells_chat -f {format} --max-tokens {count}\n{count} {rate:g} {format}"


def measure_wire(run: Kernel, count: int, rate: float, format: Format) -> Wire:
    run.run("import time; _cpu, _wall = time.process_time(), time.perf_counter()")
    messages = run.run(ask(count, rate, format))
    printed = run.run("print(time.process_time() - _cpu, time.perf_counter() - _wall)")
    cpu, seconds = map(float, printed[-1].content["text"].split())
    shown = text_of(messages)
    begun = re.search(r"begun ([0-9.]+)", shown)
    assert begun is not None
    text = expected_text(begun[1], count, format)
    first = next(m for m in messages if m.kind == "display_data")
    return Wire(
        measure="wire",
        format=format,
        tokens=count,
        tokens_per_s=rate,
        text_bytes=len(text.encode()),
        seconds=seconds,
        messages=len(messages),
        outputs=len({m.display_id for m in messages if m.display_id}),
        sent=sum(m.size for m in messages) / len(text.encode()),
        lost=0 if shown == text else max(1, len(text) - len(shown)),
        limited=any("rate exceeded" in str(m.content.get("text", "")) for m in messages),
        first_text_s=first.when - float(begun[1]),
        kernel_cpu_s=cpu,
        kernel_cpu_share=cpu / seconds,
    )


def text_of(messages: list[Message]) -> str:
    """The text that the outputs hold in the end."""
    last: dict[str, str] = {}
    for message in messages:
        if message.display_id is not None:
            last[message.display_id] = message.content["data"]["text/plain"]
    return "".join(last.values())


def expected_text(begun: str, count: int, format: Format) -> str:
    """The whole text that is shown of an answer that begun at that time: all of it, or the lines of its code."""
    text = OPENING[format].format(float(begun)) + "".join(tokens(count, format)[1:])
    return text.removeprefix("```python\n").removesuffix("\n") + "\n" if format == "code" else text


def measure_page(page: Page, cell: int, count: int, rate: float, format: Format) -> Shown:
    """Run the idle cell, then the one below it that asks."""
    idle, idle_busy = _watched(page, cell)
    page.evaluate("() => { window.firstShown = null; }")
    found, busy = _watched(page, cell + 1)
    page.wait_for_function("() => window.firstShown !== null")
    letters = page.evaluate(
        "(index) => [...document.querySelectorAll('.jp-CodeCell')[index]"
        ".querySelectorAll('.skytells-md, .skytells-text')]"
        ".map((part) => part.textContent.replace(/\\W/g, '')).join('').length",
        cell + 1,
    )
    wanted = expected_text(page.evaluate("() => window.begunAt"), count, format)
    whole = sum(c.isalnum() or c == "_" for c in wanted)
    return Shown(
        measure="page",
        format=format,
        tokens=count,
        tokens_per_s=rate,
        seconds=found["seconds"],
        first_text_s=page.evaluate("() => window.firstShown"),
        long_tasks=len(found["longTasks"]),
        long_tasks_ms=sum(found["longTasks"]),
        longest_ms=max(found["longTasks"], default=0.0),
        busy=busy / found["watched"],
        idle_long_tasks=len(idle["longTasks"]),
        idle_long_tasks_ms=sum(idle["longTasks"]),
        idle_longest_ms=max(idle["longTasks"], default=0.0),
        idle_busy=idle_busy / idle["watched"],
        lost=abs(whole - letters),
    )


def _watched(page: Page, cell: int) -> tuple[dict[str, Any], float]:
    """Run the cell; its seconds and long tasks, and the seconds that the page's main thread worked."""
    channel = page.context.new_cdp_session(page)
    channel.send("Performance.enable")
    before = _task_seconds(channel)
    found = page.evaluate(RUN_CELL, [cell, AFTER_S])
    worked = _task_seconds(channel) - before
    channel.detach()
    return found, worked


def _task_seconds(channel: Any) -> float:
    metrics = channel.send("Performance.getMetrics")["metrics"]
    return next(float(m["value"]) for m in metrics if m["name"] == "TaskDuration")


def notebook(file: Path, runs: list[Run]) -> None:
    """A warm-up, then for each run an idle cell and one that asks."""
    cells = ["import time\n%load_ext skytells_nb", ask(100, 50)]
    for count, rate, format in runs:
        cells += [f"time.sleep({count / rate if rate else 10})", ask(count, rate, format)]
    new = nbformat.v4
    content = new.new_notebook(cells=[new.new_code_cell(source) for source in cells])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(content, file)


def verdicts(found: Wire | Shown) -> dict[str, bool]:
    """Each bound by its name, and whether it held."""
    held = {"nothing lost": found.lost == 0}
    if isinstance(found, Shown):
        if found.tokens_per_s:
            allowed = found.idle_long_tasks_ms + LONG_TASKS_BOUND * found.seconds * 1000
            held["main thread as idle"] = found.long_tasks_ms <= allowed
    else:
        held["no rate stop"] = not found.limited
        if found.tokens_per_s in SENT_BOUNDS:
            bound = SENT_BOUNDS[found.tokens_per_s]
            held[f"at most {bound:g} times the text"] = found.sent <= bound
        if found.tokens_per_s == 100:
            held[f"kernel under {KERNEL_CPU_BOUND:.0%}"] = found.kernel_cpu_share < KERNEL_CPU_BOUND
    held[f"first text in {FIRST_TEXT_BOUND_S * 1000:g} ms"] = found.first_text_s <= FIRST_TEXT_BOUND_S
    return held


def _chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="append a JSON line for each measurement to this file")
    parser.add_argument("--only", choices=("wire", "page"))
    parser.add_argument("--rates", default="0,400,100", help="tokens a second, 0: full")
    parser.add_argument("--format", choices=get_args(Format), help="Markdown or colored code, both by default")
    given = parser.parse_args()

    def report(found: Wire | Shown) -> None:
        held = verdicts(found)
        print({k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(found).items()})
        print("   ", "; ".join(f"{name}: {'yes' if ok else 'NO'}" for name, ok in held.items()), flush=True)
        if given.out is not None:
            with given.out.open("a") as out:
                out.write(json.dumps({**asdict(found), "held": held}) + "\n")

    rates = given.rates.split(",")
    runs = [run for run in RUNS if f"{run[1]:g}" in rates and given.format in (None, run[2])]
    with (
        tempfile.TemporaryDirectory(prefix="streaming-") as folder,
        service() as environment,
        jupyter_lab(Path(folder), environment) as lab,
    ):
        if given.only != "page":
            measure_wires(lab, runs, report)
        if given.only != "wire":
            measure_pages(lab, runs, report)


def measure_wires(lab: Lab, runs: list[Run], report: Callable[[Wire | Shown], None]) -> None:
    with kernel(lab) as running:
        running.run("%load_ext skytells_nb")
        running.run(ask(100, 100))
        for run in runs:
            report(measure_wire(running, *run))


def measure_pages(lab: Lab, runs: list[Run], report: Callable[[Wire | Shown], None]) -> None:
    chromium = _chromium()
    if chromium is None:
        print("Chromium is not installed: no page is measured.")
        return
    notebook(lab.root / "streaming.ipynb", runs)
    with notebook_page(lab, "streaming.ipynb", chromium) as page:
        page.evaluate(WATCH)
        for cell in (0, 1):
            page.evaluate(RUN_CELL, [cell, 0])
        for number, run in enumerate(runs):
            report(measure_page(page, 2 + 2 * number, *run))


if __name__ == "__main__":
    main()
