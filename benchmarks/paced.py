"""A Skytells in a process of its own whose answers come at the rate that the prompt names."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from benchmarks.pacing import Flat, Piece
from skytells_nb.local.server import LocalServer

KEY = "sk-bench"
PROMPT_TOKENS = 5
WORDS = (
    *("the", "model", "reads", "each", "row", "and", "gives", "back", "one", "short", "answer", "that", "a", "person"),
    *("can", "check", "before", "it", "is", "used", "in", "table", "vector", "index", "column", "result", "quarter"),
    *("region", "revenue", "forecast", "trend", "outlier", "median", "sample", "value", "careful", "summary"),
)


CALLS = (
    *("compute(row)", "table.loc[row]", "values.mean()", "'a label'", '"text"', "np.sqrt(total)", "None", "{1: 2}"),
    "0.25",
)
Format = Literal["markdown", "code"]
OPENING: dict[Format, str] = {"markdown": "begun {:.4f}\n\n", "code": "```python\n# begun {:.4f}\n"}
"""The first token of an answer: when it was given away, in seconds since the epoch."""


class Paced:
    """Answers ``"<tokens> <tokens a second> <format>"`` with so much at that rate; a rate of 0 is no wait at all."""

    name = "local-paced"
    context = 1_000_000
    available = True
    reason: str | None = None

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        return PROMPT_TOKENS

    def stream(self, messages: list[dict[str, Any]], **asked: Any) -> Iterator[Piece]:
        count, rate, format = messages[-1]["content"].split()
        interval = 1 / float(rate) if float(rate) else 0.0
        begun = time.monotonic()
        for number, text in enumerate(tokens(int(count), format)):
            wait = begun + number * interval - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            yield Piece(OPENING[format].format(time.time()) if number == 0 else text)
        yield Piece("", "stop", PROMPT_TOKENS, int(count))


def tokens(count: int, format: Format = "markdown") -> list[str]:
    """An answer of so many tokens, the same each time; the first gives its place to the opening."""
    return _markdown(count) if format == "markdown" else _code(count)


def _code(count: int) -> list[str]:
    """One block of Python, some 4.5 characters a token: functions with names, numbers, words, calls and comments."""
    chance = random.Random(7)
    found = ["```python\n"]
    while len(found) < count:
        found += ["def ", chance.choice(WORDS), "_", chance.choice(WORDS), "(", "row", ", ", "table", "):", "\n"]
        found += ["    ", '"""', *_words(chance, 8), '"""', "\n"]
        for _ in range(chance.randrange(4, 20)):
            kind = chance.choice(("assign", "assign", "number", "if", "comment"))
            if kind == "assign":
                found += ["    ", chance.choice(WORDS), " = ", chance.choice(CALLS), "\n"]
            elif kind == "number":
                found += ["    ", "total", " += ", str(chance.randrange(10_000)), " * ", chance.choice(WORDS), "\n"]
            elif kind == "if":
                found += ["    ", "if ", chance.choice(WORDS), " is ", "not ", "None", ":", "\n"]
                found += ["        ", "return ", chance.choice(CALLS), "\n"]
            else:
                found += ["    ", "# ", *_words(chance, 7), "\n"]
        found += ["    ", "return ", "total", "\n\n\n"]
    return found[:count]


def _markdown(count: int) -> list[str]:
    """Some 5.4 characters a token: prose, lists and code."""
    chance = random.Random(7)
    found: list[str] = []
    while len(found) < count:
        kind = chance.choice(("prose", "prose", "list", "code", "heading"))
        if kind == "heading":
            found += ["## ", *_words(chance, 4), "\n\n"]
        elif kind == "code":
            lines = chance.randrange(4, 12)
            found += ["```", "python\n", *("    value = compute(row)\n" for _ in range(lines)), "```", "\n\n"]
        elif kind == "list":
            for _ in range(chance.randrange(3, 7)):
                found += ["- ", "**", *_words(chance, 2), "** ", *_words(chance, 9), "\n"]
            found.append("\n")
        else:
            found += [*_words(chance, chance.randrange(30, 90)), "\n\n"]
    return found[:count]


def _words(chance: random.Random, count: int) -> list[str]:
    return [chance.choice(WORDS) + (" " if n < count - 1 else ".") for n in range(count)]


def serve() -> None:
    """The paced service, until its input closes."""
    flat = Flat()
    with LocalServer(api_key=KEY, generator=Paced(), embedder=flat, moderator=flat) as server:
        print(server.base_url, flush=True)
        sys.stdin.read()


@contextmanager
def service() -> Iterator[dict[str, str]]:
    """The service in a process of its own, and the environment of a kernel that asks it."""
    command = [sys.executable, "-m", "benchmarks.paced"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        yield {"SKYTELLS_API_KEY": KEY, "SKYTELLS_BASE_URL": url, "SKYTELLS_CACHE": "off", "SKYTELLS_NB_STREAM": "auto"}
    finally:
        process.stdin.close()
        process.wait(20)


if __name__ == "__main__":
    serve()
