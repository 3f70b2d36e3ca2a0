"""What a cascade saves, and how often it breaks its guarantee: ``python -m benchmarks.cascades``.

The true labels of two corpora stand for the model, as every answer of a model would; a softmax on embeddings is the
proxy, as in ``classify(agree=)``, with another random sample for each of 200 seeds. The same for ``filter`` (is it the
second most frequent label?), ``moderate`` (two labels stand for categories, the others are safe) and ``join`` (have two
near texts the same label?). Beside it the package bargain in an environment of its own, with the same proxy, on fewer
seeds. Each row is kept once it is made, so that a run that was ended goes on. Written to ``results/cascades.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import skytells_nb
from benchmarks import environments
from benchmarks.gold_texts import FOLDER, NAMES, GoldTexts, load
from skytells_nb.accessor.methods.join import pair_features
from skytells_nb.statistics.certified_agreement import cascade_sample, certify
from skytells_nb.vectors.softmax import fit_softmax

TARGETS, LEVEL = (0.9, 0.95), 0.9
PEER_SEEDS = 20
NEIGHBORS = 3
OUT = Path(__file__).parent / "results" / "cascades.md"
PEER = "bargain"
HEAD = """# Cascades

{day}, skytells-nb {version}, bargain {peer}. Guaranteed with {level:.0%} confidence, so that at most {error:.2f} of the
runs may violate it; at least 0.45 of the calls saved was the goal for Reuters R8 at 0.95. All samples count as calls.
`classify(agree=)` guarantees the agreement of the rows that the proxy labels, bargain that of the whole column, which
asks less: rows of the model agree with it anyway. Violations are counted by what each guarantees. Where the proxy knows
too little (20 newsgroups), the model is asked about every text. `filter`, `moderate` and `join` decide about the same
texts by their labels: is it acq, is it one of two that stand for flagged categories, have two near texts the same one.

| texts | wanted | method | seeds | calls saved | runs certified | proxy's rows agree | column agrees | violations |
|---|---|---|---|---|---|---|---|---|
"""
PEER_CODE = """
import json, sys
import numpy as np
from BARGAIN.models.AbstractModels import Oracle, Proxy
from BARGAIN.process.BARGAIN_A import BARGAIN_A
stored = np.load(sys.argv[1])
found = []
for seed, (truth, guess, confidence) in enumerate(zip(stored["truth"], stored["guess"], stored["confidence"])):
    class Guess(Proxy):
        def proxy_func(self, record):
            return guess[int(record)], confidence[int(record)]
    class Truth(Oracle):
        def oracle_func(self, record, proxy_output=None):
            label = truth[int(record)]
            return proxy_output == label, label
    method = BARGAIN_A(Guess(verbose=False, max_workers=1), Truth(verbose=False, max_workers=1),
                       target=float(sys.argv[2]), delta=1 - float(sys.argv[3]), verbose=False, seed=seed)
    output, asked = method.process([str(row) for row in range(len(truth))], return_oracle_usage=True)
    output, asked = np.array(output).astype(int), np.array(asked)
    found.append([int((~asked).sum()), float((output == truth).mean()),
                  float((output == truth)[~asked].mean()) if (~asked).any() else 1.0])
print(json.dumps(found))
"""


def cases(name: str, texts: GoldTexts) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """The method, what it decides about, the vectors and the answers of the model."""
    names, labels = np.unique(texts.labels, return_inverse=True)
    yield "classify", f"{NAMES[name]}, {len(names)} labels, {len(labels):,} texts", texts.vectors, labels
    if name != "r8":
        return
    second, third, fourth = np.argsort(-np.bincount(labels))[1:4]
    whether = (labels == second).astype(np.int64)
    yield "filter", f"{NAMES[name]}, is it {names[second]}?", texts.vectors, whether
    flagged = np.where(labels == third, 1, np.where(labels == fourth, 2, 0))
    yield "moderate", f"{NAMES[name]}, {names[third]} and {names[fourth]} are flagged", texts.vectors, flagged
    half = len(labels) // 2
    left, right = texts.vectors[:half], texts.vectors[half:]
    near = np.argsort(-(left @ right.T), axis=1)[:, :NEIGHBORS]
    pairs = np.repeat(np.arange(half), NEIGHBORS), near.ravel()
    same = (labels[:half][pairs[0]] == labels[half:][pairs[1]]).astype(np.int64)
    about = f"{NAMES[name]}, {len(same):,} near pairs, the same label?"
    yield "join", about, pair_features(left[pairs[0]], right[pairs[1]]), same


def one(vectors: np.ndarray, labels: np.ndarray, target: float, seed: int) -> dict[str, float]:
    """What one cascade did."""
    sizes = cascade_sample(len(labels), target, LEVEL)
    assert sizes is not None
    order = np.random.default_rng(seed).permutation(len(labels))
    training, rest = order[: sizes.training], order[sizes.training :]
    model = fit_softmax(vectors[training], labels[training], int(labels.max()) + 1)
    probabilities = model.probabilities(vectors[rest])
    right = probabilities.argmax(axis=1) == labels[rest]
    tested = np.zeros(len(rest), dtype=bool)
    tested[: sizes.test] = True
    found = certify(probabilities.max(axis=1), tested, right, target, LEVEL)
    if found is None:
        return {"saved": 0.0, "agreement": np.nan, "column": 1.0, "violated": 0.0, "certified": 0.0}
    kept = (probabilities.max(axis=1) >= found.threshold) & ~tested
    agreement = float(right[kept].mean())
    column = 1 - float((~right[kept]).sum()) / len(labels)
    saved = float(kept.sum()) / len(labels)
    violated = float(agreement < target)
    return {"saved": saved, "agreement": agreement, "column": column, "violated": violated, "certified": 1.0}


def peer(vectors: np.ndarray, labels: np.ndarray, target: float) -> dict[str, float] | None:
    """The same for bargain, which guarantees the agreement of the whole column and not of the rows of the proxy."""
    python = environments.python_of(PEER)
    if python is None:
        return None
    truth, guess, confidence = [], [], []
    for seed in range(PEER_SEEDS):
        order = np.random.default_rng(seed).permutation(len(labels))
        training, rest = order[:200], order[200:]
        model = fit_softmax(vectors[training], labels[training], int(labels.max()) + 1)
        probabilities = model.probabilities(vectors[rest])
        truth.append(labels[rest])
        guess.append(probabilities.argmax(axis=1))
        confidence.append(probabilities.max(axis=1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.npz"
        np.savez(path, truth=np.stack(truth), guess=np.stack(guess), confidence=np.stack(confidence))
        command = [python, "-c", PEER_CODE, str(path), str(target), str(LEVEL)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:])
        return None
    found = np.array(json.loads(done.stdout))
    saved, column, agreement = found[:, 0] / len(labels), found[:, 1], found[:, 2]
    return {
        "saved": saved.mean(),
        "agreement": agreement[saved > 0].mean() if (saved > 0).any() else np.nan,
        "column": column.mean(),
        "violated": float((column < target).mean()),
        "certified": float((saved > 0).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    environments.make(PEER)
    lines = []
    made = FOLDER / f"cascades-{skytells_nb.__version__}-{given.seeds}.json"
    kept: dict[str, dict[str, float] | None] = json.loads(made.read_text()) if made.exists() else {}
    for name in NAMES:
        for method, about, vectors, labels in cases(name, load(name)):
            for target in TARGETS:
                rows = [(f"{method}(agree=)", given.seeds)] + [("bargain", PEER_SEEDS)] * (method == "classify")
                for shown, seeds in rows:
                    key = f"| {about} | {target} | {shown} | {seeds} |"
                    if key not in kept:
                        kept[key] = (
                            peer(vectors, labels, target)
                            if shown == "bargain"
                            else pd.DataFrame([one(vectors, labels, target, seed) for seed in range(seeds)])
                            .mean()
                            .to_dict()
                        )
                        made.write_text(json.dumps(kept))
                    mean = kept[key]
                    if mean is not None:
                        columns = ("saved", "certified", "agreement", "column", "violated")
                        cells = ["-" if np.isnan(mean[each]) else f"{mean[each]:.3f}" for each in columns]
                        lines.append(f"{key} {' | '.join(cells)} |")
                        print(lines[-1], flush=True)
    version = environments.version_of(PEER, "bargain") if environments.python_of(PEER) else "not installed"
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    head = HEAD.format(day=day, version=skytells_nb.__version__, peer=version, level=LEVEL, error=1 - LEVEL)
    given.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
