"""Ctrl-C and a budget in the middle of each method: what was paid for is cached, and the frame has the whole report."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from judges import WordJudge
from local_fakes import fake_server
from served import KEY, connected, served, wait_until_idle

from skytells_nb.errors import BudgetExceededError, Interrupted, SkytellsWarning
from skytells_nb.local.faults import Faults
from skytells_nb.types.models import DEFAULT_EMBEDDING_MODEL, LISTED_PRICES, Price

Method = Callable[..., Any]

TEXTS = [f"Text {n} is about {('cats', 'dogs', 'birds')[n % 3]}" for n in range(300)]
"""More than one request of embeddings holds."""
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
FEW = 24
BY_EMBEDDING: dict[str, Method] = {
    "search": lambda f, **o: f.skytells.search("cats", "t", **o),
    "similar": lambda f, **o: f.skytells.similar(0, "t", **o),
    "dedupe": lambda f, **o: f.skytells.dedupe("t", **o),
    "cluster": lambda f, **o: f.skytells.cluster("t", n=3, name=False, **o),
    "join": lambda f, **o: f.skytells.join(f.iloc[:1], "t", **o),
    "classify": lambda f, **o: f.skytells.classify("t", ["cats", "dogs"], via="embedding", **o),
}
BY_ASKING: dict[str, Method] = {
    "extract": lambda f, **o: f.skytells.extract("t", SCHEMA, **o),
    "classify": lambda f, **o: f.skytells.classify("t", ["cats", "dogs"], **o),
    "filter": lambda f, **o: f.skytells.filter("t", "Is it about cats?", **o),
    "translate": lambda f, **o: f.skytells.translate("t", "French", **o),
    "moderate": lambda f, **o: f.skytells.moderate("t", **o),
    "summarize": lambda f, **o: f.skytells.summarize("t", window=100, **o),
    "cluster": lambda f, **o: f.skytells.cluster("t", n=3, **o),
    "join": lambda f, **o: f.skytells.join(f.iloc[:2], "t", confirm=True, **o),
}


@dataclass(frozen=True)
class Held(Faults):
    """The first request of one kind that says a word is not answered."""

    word: bytes = b"held"
    kind: bytes = b'"messages"'
    hit: threading.Event = field(default_factory=threading.Event)

    def for_attempt(self, body: bytes, attempt: int) -> Faults:
        if attempt or self.hit.is_set() or self.word not in body or self.kind not in body:
            return Faults()
        self.hit.set()
        return Faults(latency=60.0)


@contextmanager
def interrupted_when(hit: threading.Event) -> Iterator[None]:
    """A real SIGINT to this process, once a request is held."""

    over = threading.Event()

    def send() -> None:
        hit.wait(30)
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(Interrupted):
            yield
    finally:
        over.set()
        hit.set()
        sender.join()


@pytest.mark.parametrize(
    ("method", "endpoint"),
    [
        *[pytest.param(method, "embeddings", id=f"{name} by embedding") for name, method in BY_EMBEDDING.items()],
        *[pytest.param(method, "chat", id=f"{name} by asking") for name, method in BY_ASKING.items()],
    ],
)
def test_a_verb_that_is_interrupted_goes_on_from_what_it_has(method: Method, endpoint: str, tmp_path: Path) -> None:
    texts = TEXTS if endpoint == "embeddings" else TEXTS[:FEW]
    frame = pd.DataFrame({"t": [*texts, "held back cats"]})
    # The names of clusters are asked for from the texts nearest to their centers, which no odd one is.
    word = b"birds" if method is BY_ASKING["cluster"] else b"held"
    held = Held(word=word, kind=b'"messages"' if endpoint == "chat" else b'"input"')
    in_flight = 1 if endpoint == "embeddings" else 8
    options: dict[str, Any] = {"progress": False, "max_in_flight": in_flight}
    with (
        fake_server(api_key=KEY, generator=WordJudge(), faults=held) as server,
        connected(server, tmp_path / "c.sqlite"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", SkytellsWarning)
        with interrupted_when(held.hit):
            method(frame, **options)
        report = frame.skytells.report
        assert report.state == "interrupted"
        first = {name: wait_until_idle(server, name).requests for name in ("chat", "embeddings")}
        # One that was on its way as it stopped may not have come to the service.
        assert 1 <= sum(first.values()) <= report.requests
        method(frame, **options)
        assert frame.skytells.report.state == "done"
        counts = {name: wait_until_idle(server, name) for name in ("chat", "embeddings")}
    # Nothing that was answered is asked for again: what is repeated was under way as it stopped.
    assert sum(each.repeated for each in counts.values()) <= (in_flight if endpoint == "chat" else 0)


@pytest.mark.parametrize(
    "method",
    [
        *[pytest.param(method, id=f"{name} by embedding") for name, method in BY_EMBEDDING.items()],
        *[pytest.param(method, id=f"{name} by asking") for name, method in BY_ASKING.items()],
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.6])
def test_a_budget_is_of_the_whole_verb(
    method: Method, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops before it is exceeded, in whichever run of the method that is, and the report says what was spent."""
    monkeypatch.setitem(LISTED_PRICES, DEFAULT_EMBEDDING_MODEL, Price(0.02, 0.0))
    frame = pd.DataFrame({"t": TEXTS[:FEW]})
    with served(generator=WordJudge()) as server, connected(server, tmp_path / "c.sqlite"), warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        method(frame, progress=False, cache="off")
        whole = frame.skytells.report.cost
        assert whole
        with pytest.raises(BudgetExceededError):
            method(frame, progress=False, cache="off", budget=share * whole)
        spent = frame.skytells.report
    assert spent.state == "failed"
    assert spent.cost <= share * whole
