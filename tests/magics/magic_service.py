"""A service for the magics' tests: the real local server with models that answer in no time, and a real shell."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output
from local_fakes import EchoPiece
from numpy.typing import NDArray
from serving import Script, ScriptedServer, serving
from traitlets.config import Config

import skytells_nb.session as sessions
from skytells_nb import magics
from skytells_nb.local import Faults, LocalServer

KEY = "sk-for-tests-5d1f0c"


class Echo:
    """Answers with the prompt, a word a piece; after ``hold_after`` pieces it waits until it is released."""

    name = "local-echo"
    context = 100_000
    available = True
    reason: str | None = None

    def __init__(self) -> None:
        self.messages: list[list[dict[str, Any]]] = []
        self.options: list[dict[str, Any]] = []
        self.hold_after: int | None = None
        self.held = threading.Event()
        self.released = threading.Event()
        self.stopped = threading.Event()

    def count_tokens(self, messages_or_text: list[dict[str, Any]] | str) -> int:
        return len(str(messages_or_text).split())

    def stream(self, messages: list[dict[str, Any]], *, max_tokens: int, **options: Any) -> Iterator[EchoPiece]:
        self.messages.append(messages)
        self.options.append({"max_tokens": max_tokens, **options})
        words = messages[-1]["content"].split(" ")
        shown = words[:max_tokens]
        try:
            for count, word in enumerate(shown, 1):
                if count - 1 == self.hold_after:
                    self.held.set()
                    self.released.wait(60)
                last = count == len(shown)
                reason = ("length" if len(words) > len(shown) else "stop") if last else None
                yield EchoPiece(
                    word if count == len(words) else word + " ", reason, 7 if last else 0, count if last else 0
                )
        finally:
            self.stopped.set()


class Vectors:
    name = "local-zeros"
    dimensions = 4

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), self.dimensions), dtype=np.float32)

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class Moderator:
    """Grades a text by the words "category:severity" in it."""

    def score(self, texts: Sequence[str]) -> list[dict[str, str]]:
        return [dict(word.split(":", 1) for word in text.split() if ":" in word) for text in texts]


def serve(echo: Echo, faults: str = "") -> LocalServer:
    """A server on a free port, not started yet."""
    spoilt = Faults.parse(faults) if faults else None
    return LocalServer(api_key=KEY, faults=spoilt, embedder=Vectors(), moderator=Moderator(), generator=echo)


def connect(server: LocalServer) -> sessions.Session:
    return sessions.connect(KEY, base_url=server.base_url, cache="memory", max_retries=0)


@dataclass
class Ran:
    """One cell's outcome."""

    error: BaseException | None
    captured: CapturedIO

    @property
    def outputs(self) -> list[Any]:
        return self.captured.outputs

    @property
    def stdout(self) -> str:
        return self.captured.stdout

    @property
    def stderr(self) -> str:
        return self.captured.stderr


class Notebook:
    """A real IPython shell with the magics loaded."""

    def __init__(self) -> None:
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        config.InteractiveShell.colors = "nocolor"
        self.shell = InteractiveShell.instance(config=config)
        magics.load(self.shell)

    def run(self, source: str) -> Ran:
        with capture_output() as captured:
            result = self.shell.run_cell(source)
        return Ran(result.error_before_exec or result.error_in_exec, captured)

    def close(self) -> None:
        magics.unload(self.shell)
        InteractiveShell.clear_instance()


def interrupt_when(held: threading.Event, shown: Callable[[], object] = lambda: True) -> threading.Thread:
    """Ctrl-C for the main thread, as soon as the service holds its answer and ``shown`` agrees."""
    main = threading.main_thread().ident
    assert main is not None

    def wait() -> None:
        if not held.wait(60):
            return
        pause = threading.Event()
        for _ in range(6_000):
            if shown() or pause.wait(0.01):
                signal.pthread_kill(main, signal.SIGINT)
                return

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@contextmanager
def scripted(script: Script) -> Iterator[ScriptedServer]:
    """A scripted server, and the default session connected to it."""
    with serving(script) as server:
        sessions.connect(KEY, base_url=server.url, cache="memory", max_retries=0)
        try:
            yield server
        finally:
            sessions.reset()


def completion(text: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A whole answer of Chat Completions."""
    said = {"role": "assistant", "content": text, **message}
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "message": said, "finish_reason": finish}], "usage": usage}
