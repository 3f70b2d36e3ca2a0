"""The cells of ``benchmarks.growth``: what is measured as rows grow, and the bounds that it must keep."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Texts = Callable[[int], list[str]]
"""Returns so many different texts."""
Work = Callable[[], Any]
"""What is measured; it returns its result, whose size is not counted as memory, or ``Measured``."""


@dataclass(frozen=True)
class Measured:
    """A result, and figures that only the work itself can measure, by name."""

    result: Any
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Cell:
    """One measurement: its name, what it does, how it is prepared, and the bounds of its figures."""

    name: str
    about: str
    setup: Callable[[Texts], Work]
    bounds: Mapping[str, float]
    earlier: Mapping[str, float]
    """Figures of the code before, where they were measured otherwise."""


CELLS: dict[str, Cell] = {}


def cell(
    about: str, *, earlier: Mapping[str, float] | None = None, **bounds: float
) -> Callable[[Callable[[Texts], Work]], Callable[[Texts], Work]]:
    """Register a function that prepares a cell; bounds are upper limits of ``cpu_s``, ``wall_s``, ``memory_mb`` or own.

    The first line of the cell in the page is ``about``.
    """

    def register(setup: Callable[[Texts], Work]) -> Callable[[Texts], Work]:
        CELLS[setup.__name__] = Cell(setup.__name__, about, setup, bounds, earlier or {})
        return setup

    return register


CATEGORIES = ("hate", "sexual", "violence", "self_harm")
MODEL = "gpt-4o-mini"


def verdict(source: random.Random) -> list[dict[str, Any]]:
    """Nine findings as the service gives them; few are above safe, so that a few thousand combinations occur."""
    found: list[dict[str, Any]] = []
    for side in ("prompt", "completion"):
        for category in CATEGORIES:
            severity = "low" if source.random() < 0.02 else "safe"
            found.append({"source": side, "index": 0, "category": category, "severity": severity, "filtered": False,
                          "detected": None, "checked": True})  # fmt: skip
    found.append({"source": "completion", "index": 0, "category": "protected_material_text", "severity": None,
                  "filtered": False, "detected": False, "checked": True})  # fmt: skip
    return found


def connected() -> Any:
    """A session with a cache file of its own and a service that is never asked."""
    import skytells_nb as sky

    cache = Path(tempfile.mkdtemp(dir=os.environ["SKYTELLS_CACHE_DIR"])) / "answers.sqlite"
    return sky.connect("sk-growth", base_url="http://127.0.0.1:9/v1", model=MODEL, embedding_model="e", cache=cache)


def fill_cache(session: Any, job: Any, inputs: list[str], values: Callable[[int], bytes]) -> None:
    """Store an answer for each input, as a run would have."""
    engine = session.engine
    keys = engine._keys(engine.prepare(job), inputs)
    for start in range(0, len(keys), 2_000):
        engine.cache.put_many([(keys[i], values(i)) for i in range(start, min(start + 2_000, len(keys)))])


def completed(session: Any, texts: list[str]) -> None:
    """Cache a completion with nine findings for each text."""
    from skytells_nb.engine.operations.cached import CachedCompletion
    from skytells_nb.engine.operations.jobs import completion_job

    source = random.Random(0)

    def value(number: int) -> bytes:
        answer = f"It is a package: {texts[number][:80]}"
        return CachedCompletion(
            answer, "stop", MODEL, f"req_{number:024x}", 30 + number % 300, 20 + number % 90, verdict(source)
        ).to_bytes()

    fill_cache(session, completion_job(MODEL, operation="complete"), texts, value)


@cell(
    "complete 100,000 rows, nine findings each, every answer cached: from the call to its frame with details",
    memory_mb=150,
    earlier={"memory_mb": 816},
)
def complete_with_details(texts: Texts) -> Work:
    import pandas as pd

    frame = pd.DataFrame({"text": texts(100_000)})
    session = connected()
    completed(session, frame["text"].tolist())
    return lambda: frame.skytells.complete("{text}", into="a", details=True, progress=False)


@cell(
    "complete 300,000 rows of ten distinct texts, cached, with details: nearly all of it follows the answers", cpu_s=2
)
def tail_of_equal_rows(texts: Texts) -> Work:
    import pandas as pd

    ten = texts(10)
    frame = pd.DataFrame({"text": (ten * 30_000)})
    completed(connected(), ten)
    return lambda: frame.skytells.complete("{text}", into="a", details=True, progress=False)


@cell("safety() of 100,000 rows of eight findings", cpu_s=1.5, memory_mb=150)
def safety(texts: Texts) -> Work:
    import pandas as pd

    source = random.Random(0)
    cells = [json.dumps(verdict(source)[:8]) for _ in range(100_000)]
    frame = pd.DataFrame({"a": "x", "a_safety": cells})
    connected()
    del cells
    return lambda: frame.skytells.safety("a")


@cell("estimate 1,000,000 cached rows", memory_mb=300, earlier={"memory_mb": 1_400, "wall_s": 15})
def estimate_cached(texts: Texts) -> Work:
    import numpy as np
    import pandas as pd

    from skytells_nb.engine.operations.jobs import embedding_job

    frame = pd.DataFrame({"text": texts(1_000_000)})
    session = connected()
    vector = np.zeros(256, dtype=np.float32).tobytes()
    fill_cache(session, embedding_job("e", None), frame["text"].tolist(), lambda number: vector)
    return lambda: frame.skytells.estimate("text")


@cell("fill a template of two columns for 1,000,000 rows, a row", us_a_row=6)
def template(texts: Texts) -> Work:
    import pandas as pd

    from skytells_nb.accessor.prompts.build import build_prompts

    frame = pd.DataFrame({"text": texts(1_000_000), "year": range(1_000_000)})

    def work() -> Measured:
        started = time.process_time()
        prompts = build_prompts(frame, "In {year} it said: {text}. What is it?")
        return Measured(prompts.texts, {"us_a_row": (time.process_time() - started) * 1e6 / len(frame)})

    return work


@cell("preview of 1,000,000 rows of 12 columns", wall_s=0.5, memory_mb=20)
def preview(texts: Texts) -> Work:
    import pandas as pd

    frame = pd.DataFrame({"text": texts(1_000_000), **{f"c{n}": range(1_000_000) for n in range(11)}})
    connected()
    frame.head().skytells.preview("Say {text}", 1)
    return lambda: frame.skytells.preview("Say {text}", 3)


@cell("a function of the row that reads one of 41 columns, 100,000 rows, a row", us_a_row=6, memory_mb=60)
def row_function(texts: Texts) -> Work:
    import pandas as pd

    from skytells_nb.accessor.prompts.rows import render_rows

    frame = pd.DataFrame({"text": texts(100_000), **{f"c{n}": [f"{n} {i}" for i in range(100_000)] for n in range(40)}})

    def work() -> Measured:
        started = time.process_time()
        prompts = render_rows(frame, lambda row: "Say " + row["text"])
        return Measured(prompts, {"us_a_row": (time.process_time() - started) * 1e6 / len(frame)})

    return work


@cell("divide 1,000,000 texts into requests: one each, and up to 256, a row", us_a_row=6)
def pack(texts: Texts) -> Work:
    import numpy as np

    from skytells_nb.engine.planning import pack_requests, token_estimates

    tokens = token_estimates(texts(1_000_000))
    numbers = np.arange(len(tokens))

    def work() -> Measured:
        started = time.process_time()
        single = pack_requests(numbers, tokens, max_items=1, max_tokens=300_000)
        several = pack_requests(numbers, tokens, max_items=256, max_tokens=8_000)
        return Measured((single, several), {"us_a_row": (time.process_time() - started) * 1e6 / len(tokens)})

    return work
