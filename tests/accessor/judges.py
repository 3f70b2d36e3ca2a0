"""A stand-in model that methods can be asked with: what it says follows from the text and the schema alone."""

from __future__ import annotations

import doctest
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from local_fakes import EchoGenerator, EchoPiece
from served import connected, served

from skytells_nb.local.server import LocalServer


class WordJudge(EchoGenerator):
    """Finds words: of a list of values the first that the text holds, of a flag whether the text holds its name.

    Where nothing is found it is the last value of the list, false, or the text itself; without a schema it says the
    words that begin with a capital letter, which makes most texts shorter.
    """

    context = 100_000

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[dict[str, Any]]] = []
        self._lock = threading.Lock()

    @property
    def systems(self) -> list[str]:
        """The system texts, in the order in which they came."""
        return [m["content"] for messages in self.asked for m in messages if m["role"] == "system"]

    @property
    def texts(self) -> list[str]:
        """The user messages, in the order in which they came."""
        return [messages[-1]["content"] for messages in self.asked]

    def say(self, text: str) -> str:
        """The answer where no schema is asked for."""
        return " ".join(word for word in text.split() if word[:1].isupper())

    def stream(
        self, messages: list[dict[str, Any]], *, max_tokens: int, schema: dict[str, Any] | None = None, **rest: Any
    ) -> Iterator[EchoPiece]:
        with self._lock:
            self.asked.append(messages)
        text = messages[-1]["content"]
        rest.pop("json", None)
        said = self.say(text) if schema is None else _object(schema, text)
        return super().stream([{"role": "user", "content": said}], max_tokens=max_tokens, **rest)


def _object(schema: dict[str, Any], text: str) -> str:
    return json.dumps({name: _value(name, part, text) for name, part in schema["properties"].items()})


def _value(name: str, part: dict[str, Any], text: str) -> Any:
    if "anyOf" in part:
        return None
    if part.get("type") == "boolean":
        return name in text
    if "enum" in part:
        return next((value for value in part["enum"] if str(value) in text), part["enum"][-1])
    return text


@dataclass(frozen=True)
class Judged:
    """A model and the server that it answers for."""

    judge: WordJudge
    server: LocalServer

    @contextmanager
    def session(self, folder: Path) -> Iterator[WordJudge]:
        """The default session, connected to this server with a cache of its own; nothing has been asked yet."""
        self.judge.asked.clear()
        with connected(self.server, folder / "answers.sqlite"):
            yield self.judge

    @property
    def requests(self) -> int:
        """Requests of both kinds that came so far."""
        return sum(self.server.stats[endpoint].requests for endpoint in ("chat", "embeddings"))


@contextmanager
def judged(judge: WordJudge | None = None, faults: str = "") -> Iterator[Judged]:
    """A server on this model."""
    judge = judge or WordJudge()
    with served(faults, generator=judge) as server:
        yield Judged(judge, server)


def run_examples(documented: Any) -> None:
    """Run the examples of a docstring, with ``pd`` at hand; fails where there is none, or one says something else."""
    around = {**vars(sys.modules[documented.__module__]), "pd": pd}
    tests = doctest.DocTestFinder(recurse=False).find(documented, documented.__qualname__, globs=around)
    runner = doctest.DocTestRunner()
    results = [runner.run(test) for test in tests]
    assert sum(result.attempted for result in results) > 0
    assert sum(result.failed for result in results) == 0
