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
    note: str = ""
    """What a figure consists of, and what was tried where it is beyond its bound."""


CELLS: dict[str, Cell] = {}


def cell(
    about: str, *, earlier: Mapping[str, float] | None = None, note: str = "", **bounds: float
) -> Callable[[Callable[[Texts], Work]], Callable[[Texts], Work]]:
    """Register a function that prepares a cell; bounds are upper limits of ``cpu_s``, ``wall_s``, ``memory_mb`` or own.

    The first line of the cell in the page is ``about``.
    """

    def register(setup: Callable[[Texts], Work]) -> Callable[[Texts], Work]:
        CELLS[setup.__name__] = Cell(setup.__name__, about, setup, bounds, earlier or {}, note)
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


def embedded(rows: int, dimensions: int = 256) -> Any:
    """A frame of vectors of 60 topics, three of ten near an earlier one."""
    import numpy as np
    import pandas as pd

    from skytells_nb.columns import from_matrix

    rng = np.random.default_rng(0)
    basis = rng.standard_normal((60, dimensions)).astype(np.float32)
    matrix = rng.standard_normal((rows, 60)).astype(np.float32) @ basis
    matrix += 0.3 * rng.standard_normal((rows, dimensions)).astype(np.float32)
    near = rng.permutation(rows)[: 3 * rows // 10]
    matrix[near] = matrix[rng.integers(rows, size=len(near))]
    matrix[near] += 0.05 * rng.standard_normal((len(near), dimensions)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return pd.DataFrame({"embedding": from_matrix(matrix)})


@cell(
    "the second search of 100,000 x 256, in bare products of the query with all vectors",
    products=1.3,
    note="A product takes 8 ms of CPU in two threads. The search's own thread takes 6.8 ms: its half of the product "
    "4.0, the candidates 0.3, to see that the cells are the same 0.5, the rows that it returns 0.7, its record 0.55, "
    "options and report 0.7. A search of 100 rows takes 1.0 ms, and 2.0 right after a product of 100,000, which leaves "
    "nothing else in the processor's caches. The rest is OpenBLAS's second thread, which stays busy for some "
    "milliseconds after a product and counts: with `OPENBLAS_NUM_THREADS=1` the ratio is 1.30. Left out were labels "
    "looked up in an array of all positions and two readings of one column. On one day the ratio is 1.2 to 1.6.",
)
def second_search(texts: Texts) -> Work:
    from skytells_nb.columns import to_matrix

    frame = embedded(100_000)
    matrix, _ = to_matrix(frame["embedding"])
    frame.skytells.similar(0)

    def shortest(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(30):
            started = time.process_time()
            work()
            times.append(time.process_time() - started)
        return min(times)

    def work() -> Measured:
        search, product = shortest(lambda: frame.skytells.similar(0)), shortest(lambda: matrix @ matrix[0])
        return Measured(None, {"products": search / product, "search_ms": 1e3 * search, "product_ms": 1e3 * product})

    return work


def _dedupe(rows: int) -> Callable[[Texts], Work]:
    def setup(texts: Texts) -> Work:
        frame = embedded(rows)
        return lambda: Measured(len(frame.skytells.dedupe(progress=False)), {"vectors_mb": rows * 256 * 4 / 1e6})

    setup.__name__ = f"dedupe_{rows // 1_000}k"
    return setup


def _join(rows: int) -> Callable[[Texts], Work]:
    def setup(texts: Texts) -> Work:
        left, right = embedded(rows), embedded(rows).iloc[::-1]
        return lambda: left.skytells.join(right, "embedding", k=5, progress=False)

    setup.__name__ = f"join_{rows // 1_000}k"
    return setup


# At most ten minutes on two quiet cores for 1,000,000 rows, and twice the vectors, beside blocks of some 100 MB.
for _rows in (50_000, 250_000, 500_000):
    cell(f"dedupe of {_rows:,} x 256", cpu_s=1_200, memory_mb=100 + 2 * _rows * 256 * 4 / 1e6)(_dedupe(_rows))
for _rows in (25_000, 50_000, 100_000):
    cell(f"join of {_rows:,} with as many, x 256, k=5", cpu_s=1_200, memory_mb=100 + 4 * _rows * 256 * 4 / 1e6)(
        _join(_rows)
    )


@cell("export 1,000,000 cached vectors of 64 dimensions to a recording", memory_mb=200)
def export(texts: Texts) -> Work:
    import numpy as np

    from skytells_nb.cache.replay import export_all
    from skytells_nb.engine.operations.jobs import embedding_job

    inputs = texts(1_000_000)
    session = connected()
    job = embedding_job("e", None)
    vector = np.zeros(64, dtype=np.float32).tobytes()
    fill_cache(session, job, inputs, lambda number: vector)
    keys = b"".join(session.engine._keys(session.engine.prepare(job), inputs))
    inputs.clear()
    target = Path(os.environ["SKYTELLS_CACHE_DIR"]) / "recording.sqlite"
    return lambda: export_all([(session.cache, keys)], target).answers


def served(cache: bool) -> Any:
    """A session with a server of ``benchmarks.mock`` in another process, which ends with this one."""
    import atexit
    import subprocess
    import sys

    import skytells_nb as sky

    root = str(Path(__file__).resolve().parents[1])
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mock.server"],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.kill)
    assert server.stdout is not None
    url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    place = Path(tempfile.mkdtemp(dir=os.environ["SKYTELLS_CACHE_DIR"])) / "answers.sqlite"
    return sky.connect("sk-growth", base_url=url, model=MODEL, embedding_model="e", cache=place if cache else "off")


def _each(name: str, times: int, work: Callable[[int], tuple[int, Any]]) -> Work:
    """Work that is done several times, with the least CPU time of a row in milliseconds."""

    def measured() -> Measured:
        each = []
        for number in range(times):
            started = time.process_time()
            rows, _ = work(number)
            each.append((time.process_time() - started) * 1e3 / rows)
        return Measured(None, {name: min(each), "rows_s": 1e3 / min(each)})

    return measured


@cell(
    "2,000 completions without a cache, a call",
    ms_a_call=0.2,
    earlier={"ms_a_call": 0.31},
    note="440 calls of Python functions, none of them above 4 %: the HTTP exchange 27 %, the rate limiter 17 %, the "
    "response's validation 9 %, what is kept of it 8 %, its head 8 %. A sixth less means all of them rewritten "
    "without objects between their layers. aiohttp without retries, limits, cache or checks takes 0.14 ms.",
)
def chats(texts: Texts) -> Work:
    import pandas as pd

    served(cache=False)
    frame = pd.DataFrame({"text": texts(2_000)})
    frame.head(64).skytells.complete("{text}", progress=False)
    return _each("ms_a_call", 5, lambda _: (2_000, frame.skytells.complete("{text}", progress=False)))


@cell(
    "2,000 completions at 100 ms, 256 in flight: wall time over the ideal",
    of_ideal=1.15,
    earlier={"of_ideal": 1.53},
    note="256 in flight at 100 ms are 2,560 completions a second, 0.39 ms for each of client, in one thread at a time, "
    "and server. What a call costs is all that is left: at 0.24 ms the first answers of a round are 61 ms before its "
    "last ones.",
)
def many_in_flight(texts: Texts) -> Work:
    import pandas as pd

    from benchmarks.mock.control import behave

    session = served(cache=False)
    behave(int(session.settings.base_url.rsplit(":", 1)[1].partition("/")[0]), {"latency_ms": 100})
    frame = pd.DataFrame({"text": texts(2_000)})

    def work() -> Measured:
        walls = []
        for _ in range(5):
            started = time.perf_counter()
            frame.skytells.complete("{text}", max_in_flight=256, progress=False)
            walls.append(time.perf_counter() - started)
        return Measured(None, {"of_ideal": min(walls) / (-(-len(frame) // 256) * 0.1)})

    return work


@cell(
    "embed 20,000 texts into the cache, 64 dimensions, a row",
    ms_a_row=0.025,
    earlier={"ms_a_row": 0.043},
    note="0.002 to 0.003 ms more than before: leases between processes, so that they pay for each text once, take "
    "0.0011 (half of it writing the keys that are held), the rate limiter's look at other processes 0.0004, and "
    "groups of writes are smaller, five or six in place of four, 0.0007. Keeping only the ends of the held keys "
    "saved a third of the first and gave it back when they were stored.",
)
def embed_into_cache(texts: Texts) -> Work:
    import pandas as pd

    served(cache=True)
    given = texts(20_064)
    pd.DataFrame({"text": given[20_000:]}).skytells.embed("text", dimensions=64, progress=False)

    def work(number: int) -> tuple[int, Any]:
        frame = pd.DataFrame({"text": [f"{number} {text}" for text in given[:20_000]]})
        return len(frame), frame.skytells.embed("text", dimensions=64, progress=False)

    return _each("ms_a_row", 3, work)


@cell("20,000 cached vectors of 64 dimensions, a row", ms_a_row=0.00667, earlier={"ms_a_row": 1 / 85.6})
def cached_vectors(texts: Texts) -> Work:
    import pandas as pd

    served(cache=True)
    frame = pd.DataFrame({"text": texts(20_000)})
    frame.skytells.embed("text", dimensions=64, progress=False)
    return _each("ms_a_row", 5, lambda _: (len(frame), frame.skytells.embed("text", dimensions=64, progress=False)))


@cell(
    "embed 20,000 x 1,536 without a cache: the most memory, in sizes of the matrix",
    sizes=1.3,
    note="What is beside the matrix is 70 MB whatever its size, which for 100,000 rows is 1.1 sizes: two responses of "
    "2,048 vectors at once, each 17 MB of text and 13 MB of vectors. One reader in place of two gives 1.30, and halves "
    "the speed where the network gives each connection its share; `inputs_per_request=1024` gives 1.30 and `512` 1.18, "
    "with two and four times the requests, which count where requests are limited. Vectors decoded as the text "
    "arrives would save the text, 17 MB a reader: a JSON parser of our own for answers that are not trusted.",
)
def memory_of_a_result(texts: Texts) -> Work:
    import gc

    import pandas as pd

    from benchmarks.measure import MB, forget_peak, peak_rss_mb, rss_mb

    served(cache=False)
    frame = pd.DataFrame({"text": texts(20_000)})
    frame.head(600).skytells.embed("text", progress=False)

    def work() -> Measured:
        gc.collect()
        forget_peak()
        before = rss_mb()
        done = frame.skytells.embed("text", progress=False)
        return Measured(done, {"sizes": (peak_rss_mb() - before) / (len(frame) * 1_536 * 4 / MB)})

    return work


def _to_parquet(rows: int) -> Callable[[Texts], Work]:
    def setup(texts: Texts) -> Work:
        import pandas as pd

        served(cache=False)
        frame = pd.DataFrame({"text": texts(rows)})
        target = Path(os.environ["SKYTELLS_CACHE_DIR"]) / "vectors.parquet"
        frame.head(600).skytells.embed("text", dimensions=64, to=target, progress=False)

        def work() -> Measured:
            started = time.process_time()
            frame.skytells.embed("text", dimensions=64, to=target, progress=False)
            used = time.process_time() - started
            return Measured(None, {"us_a_row": used * 1e6 / rows, "file_mb": target.stat().st_size / 1e6})

        return work

    setup.__name__ = f"to_parquet_{rows // 1_000_000}m"
    return setup


_OF_A_ROW = (
    "Neither vectors nor texts are in memory: texts stay in Arrow until they are sent, a block at a time, and equal "
    "ones are found by their hashes, which are checked. What grows are numbers, some 20 bytes a row: the input of each "
    "row, the inputs of each request, whether it has a result, and at the start the hashes. With all texts as Python "
    "strings and dictionaries of them a row took 230 bytes, 704 MB for 3,000,000. A cache adds keys, 32 bytes a row."
)
for _rows in (1_000_000, 3_000_000, 10_000_000):
    cell(
        f"embed {_rows:,} texts to Parquet, 64 dimensions, without a cache, a row",
        us_a_row=25,
        memory_mb=300,
        note=_OF_A_ROW if _rows == 1_000_000 else "",
    )(_to_parquet(_rows))


@cell("python -m skytells_nb --help", cpu_s=0.2)
def command_line_help(texts: Texts) -> Work:
    import subprocess
    import sys

    import skytells_nb

    folder = str(Path(skytells_nb.__file__).parents[1])
    command = [sys.executable, "-m", "skytells_nb", "--help"]
    return lambda: (
        subprocess.run(command, env={**os.environ, "PYTHONPATH": folder}, check=True, capture_output=True).returncode
    )


@cell(
    "the quickstart: its kernel at its largest, and what of it is its own, not pages of files",
    peak_mb=600,
    earlier={"peak_mb": 768},
    note="The kernel after each step: pandas and the local service 162 MB, the local embeddings 315, the map 355, the "
    "local chat model 548. A third are pages of libraries and of the model's file, which the system drops when it "
    "needs them.",
)
def quickstart(texts: Texts) -> Work:
    import nbformat
    from nbclient import NotebookClient

    from benchmarks.measure import peak_rss_mb, rss_mb

    root = Path(__file__).resolve().parents[1]
    notebook = nbformat.read(root / "notebooks" / "01_quickstart.ipynb", as_version=4)
    client = NotebookClient(notebook, timeout=300, extra_arguments=["--log-level=ERROR"])

    def work() -> Measured:
        with client.setup_kernel():
            for number, each in enumerate(notebook.cells):
                client.execute_cell(each, number)
            kernel = client.km.provisioner.process.pid
            return Measured(None, {"peak_mb": peak_rss_mb(kernel), "own_mb": rss_mb(kernel, own=True)})

    return work
