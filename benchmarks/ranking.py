"""How well documents are ranked, by what people said of them: ``python -m benchmarks.ranking``.

The human ratings are those of Lee, Pincombe and Welsh (2005) for pairs of 50 news documents, which lie in the wheel of
gensim (LGPL-2.1): of some documents, the others are ranked by how similar they are. Kendall's tau compares each ranking
with the ratings. Answers made of the ratings themselves show what the tournament takes and that it is exact; the other
rows are the local Skytells. Written to ``results/ranking.md``.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau

import skytells_nb as sky
from benchmarks.gold_texts import FOLDER

WHEEL = "gensim==4.4.0 --hash=sha256:91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8"
# The data are the same in each wheel; this one has the hash.
PLATFORM = ["--only-binary=:all:", "--platform", "manylinux_2_24_x86_64", "--python-version", "3.11"]
TOPICS, DOCUMENTS, CHARACTERS = 3, 6, 160
OUT = Path(__file__).parent / "results" / "ranking.md"
HEAD = """# Ranking

{day}, skytells-nb {version}. For each of {topics} news documents, {documents} others are ranked by how people
rated their similarity (Lee, Pincombe and Welsh 2005, in gensim 4.4.0). Tau is Kendall's, its mean over the documents,
1 for the order of the people and 0 for chance. "ratings as answers" is `rank` with a service that answers by the
ratings: its tau is below 1 only where people rated two documents alike. The local Skytells is a model of 135 million
parameters: it answers by the order of the texts, the report says so, and embeddings do better. Of all 49 documents and
the best 5, `rank` took {whole}.

Beside it lotus `sem_topk`, by what it does: lotus-ai 1.2.4 could not be installed (it brings torch and faiss, and pip
had not ended after seven minutes, nor without both). It sorts by a random pivot and goes on only where the best are,
each pair in one order. For the best 5 of 49 documents that is {quick} comparisons in the mean of 2,000 orders, and in
one of twenty more than {quick_most}. With the ratings as answers its tau is that of `rank`. A comparison of `rank` is
two requests, one of `sem_topk` is one, so that it sends fewer, and cannot see that answers follow the order of texts.

| ranking | tau | requests for each | first text chosen | pairs changed with the order |
|---|---|---|---|---|
"""


def documents() -> tuple[list[str], NDArray[np.float64]]:
    """The texts, and the mean rating of each two, (50, 50)."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not list(FOLDER.glob("gensim-*.whl")):
        requirements = FOLDER / "gensim.txt"
        requirements.write_text(WHEEL)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", *PLATFORM]
        if subprocess.run([*command, "-r", str(requirements), "-d", str(FOLDER)], check=False).returncode:
            raise SystemExit(f"The ratings could not be downloaded: {WHEEL.split()[0]} must be installable by pip.")
    with zipfile.ZipFile(next(FOLDER.glob("gensim-*.whl"))) as wheel:
        data = "gensim/test/test_data"
        texts = wheel.read(f"{data}/lee.cor").decode("utf-8", "replace").splitlines()
        ratings = np.loadtxt(io.BytesIO(wheel.read(f"{data}/similarities0-1.txt")))
    # Each pair is on one side of the diagonal, and 0 on the other.
    return texts, np.maximum(ratings, ratings.T)


@contextmanager
def answering(better: Callable[[str, str], bool]) -> Iterator[sky.session.Session]:
    """A session on a service that says whether the first text is better."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            shown = json.loads(body["messages"][-1]["content"])
            said = json.dumps({"better": "first" if better(shown["first"], shown["second"]) else "second"})
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            data = json.dumps({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with sky.connect("sk-benchmark", base_url=url, model="ratings", cache="off") as session:
            yield session
    finally:
        server.shutdown()
        server.server_close()


def quicksort_comparisons(n: int, k: int, random: np.random.Generator) -> int:
    """How many comparisons a quicksort takes that goes on only where the best ``k`` are, as lotus ``sem_topk`` does."""
    if n < 2 or k < 1:
        return 0
    better = int(random.integers(n))
    rest = quicksort_comparisons(n - better - 1, k - better - 1, random)
    return n - 1 + quicksort_comparisons(better, min(k, better), random) + rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=TOPICS)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    texts, ratings = documents()
    random = np.random.default_rng(0)
    # Documents that people found similar to others; to most nothing is.
    topics = np.argsort(-np.sort(ratings, axis=1)[:, -6:-1].mean(axis=1))[: arguments.topics]
    local = sky.connect(local=True, cache="memory")
    found: dict[str, list[tuple[float, int, float | None, float | None]]] = {}
    whole = []
    for topic in topics.tolist():
        others = np.setdiff1d(np.arange(len(texts)), [topic])
        near = others[np.argsort(-ratings[topic, others])]
        # Half of them near, half by chance, in an order that says nothing.
        chosen = random.permutation(np.append(near[: DOCUMENTS // 2], random.permutation(near[4:])[: DOCUMENTS // 2]))
        rated = {texts[number][:CHARACTERS]: float(ratings[topic, number]) for number in others}
        frame = pd.DataFrame({"text": [texts[number][:CHARACTERS] for number in chosen]})
        criterion = f"how similar its subject is to this news: {texts[topic][:CHARACTERS]}"

        def add(name: str, ranked: pd.DataFrame, rated: dict[str, float] = rated) -> None:
            report = ranked.skytells.report
            tau = kendalltau(np.arange(len(ranked), 0, -1), [rated[text] for text in ranked["text"]]).statistic
            ranking = report.ranking
            bias = (None, None) if ranking is None else (ranking.first_share, ranking.reversed)
            found.setdefault(name, []).append((float(tau), report.requests, *bias))

        with answering(lambda a, b, rated=rated: rated[a] > rated[b]) as service:  # type: ignore[misc]
            quiet: dict[str, Any] = {"session": service, "progress": False}
            add("ratings as answers", frame.skytells.rank("text", criterion, DOCUMENTS, **quiet))
            every = pd.DataFrame({"text": [texts[number][:CHARACTERS] for number in others]})
            report = every.skytells.rank("text", criterion, 5, **quiet).skytells.report
            whole.append(report.ranking.comparisons)
        quiet = {"session": local, "progress": False}
        add("embeddings (`search`)", frame.skytells.search(texts[topic][:CHARACTERS], "text", DOCUMENTS, **quiet))
        add("local model, scores", frame.skytells.rank("text", criterion, DOCUMENTS, by="scores", **quiet))
        add("local model, pairs", frame.skytells.rank("text", criterion, DOCUMENTS, **quiet))
    count = f"{np.mean(whole):.0f} comparisons in the mean, {max(whole)} at most (n + k log2 n is {49 + 5 * 6})"
    quick = [quicksort_comparisons(49, 5, random) for _ in range(2000)]
    day, topic_count = datetime.now(UTC).date(), len(topics)
    head = HEAD.format(
        day=day,
        version=sky.__version__,
        topics=topic_count,
        documents=DOCUMENTS,
        whole=count,
        quick=round(np.mean(quick)),
        quick_most=round(np.quantile(quick, 0.95)),
    )
    lines = []
    for name, rows in found.items():
        tau, requests = np.mean([row[0] for row in rows]), np.mean([row[1] for row in rows])
        biases = ["-" if rows[0][at] is None else f"{np.mean([row[at] for row in rows]):.2f}" for at in (2, 3)]  # type: ignore[misc]
        lines.append(f"| {name} | {tau:.2f} | {requests:.0f} | {biases[0]} | {biases[1]} |")
    local.close()
    OUT.write_text(head + "\n".join(lines) + "\n")
    print(OUT.read_text())


if __name__ == "__main__":
    main()
