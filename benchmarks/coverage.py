"""How often the limits of ``share`` cover the truth, and how wide they are: ``python -m benchmarks.coverage``.

Five labels of two corpora, with the errors of a real classifier; 400 draws of each sample size. Beside it: the judged
rows alone (Wilson), the difference estimator, and ppi-python in an environment of its own, on simple random samples of
the same size; the plain count of all rows with its own interval. Written to ``results/coverage.md``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

import skytells_nb  # registers the accessor
from benchmarks import environments
from benchmarks.gold_texts import NAMES, TRAINING_ROWS, load, modeled
from skytells_nb.statistics.intervals import wilson_limits

LABELS = {"r8": ("acq", "crude", "trade"), "news": ("sci.med", "talk.politics.mideast")}
SIZES = (100, 200, 300)
LEVEL, Z = 0.95, 1.959964
LEAST_COVERAGE, LEAST_GAIN = 0.93, 0.15
OUT = Path(__file__).parent / "results" / "coverage.md"
PEER = "ppi_python"
OWN, ALONE, DIFFERENCE, PPI = "share", "judged rows alone", "difference estimator", "ppi-python"
PEER_CODE = """
import json, sys
import numpy as np
from ppi_py import ppi_mean_ci
stored = np.load(sys.argv[1])
limits = [
    [float(limit[0]) for limit in ppi_mean_ci(truth[rows], predicted[rows], np.delete(predicted, rows), alpha=0.05)]
    for truth, predicted, rows in ((stored["truth"], stored["predicted"], rows) for rows in stored["rows"])
]
print(json.dumps(limits))
"""


def interval(values: np.ndarray, center: float, rows: int) -> tuple[float, float]:
    """A normal interval around the center, from these values of a simple random sample of so many rows."""
    half = Z * values.std(ddof=1) / np.sqrt(len(values)) * np.sqrt(1 - len(values) / rows)
    return center - half, center + half


def peer_limits(truth: np.ndarray, predicted: np.ndarray, rows: np.ndarray) -> np.ndarray | None:
    """The limits of ppi-python for each draw, ``None`` where it cannot be installed."""
    python = environments.python_of(PEER)
    if python is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.npz"
        np.savez(path, truth=truth.astype(float), predicted=predicted.astype(float), rows=rows)
        done = subprocess.run([python, "-c", PEER_CODE, str(path)], capture_output=True, text=True, check=True)
    return np.array(json.loads(done.stdout))


def measure(name: str, draws: int) -> list[dict[str, object]]:
    """One record for each label, size and method."""
    truth, predicted = modeled(load(name))
    categories = pd.CategoricalDtype(sorted({*truth, *predicted}))
    frame = pd.DataFrame({"label": pd.Series(predicted).astype(categories)})
    gold = pd.Series(truth)
    records = []
    for n in SIZES:
        limits: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        plain = np.stack([np.random.default_rng(seed).choice(len(truth), n, replace=False) for seed in range(draws)])
        for seed in range(draws):
            sample = frame.skytells.gold_sample("label", n, seed=seed)
            shares = frame.skytells.share("label", gold=gold.loc[sample.index])
            for label in LABELS[name]:
                limits[label, OWN].append((shares.loc[label, "low"], shares.loc[label, "high"]))
        for label in LABELS[name]:
            is_label, found = (truth == label).astype(float), (predicted == label).astype(float)
            for rows in plain:
                rate = is_label[rows].mean()
                low, high = wilson_limits(rate, (1 - n / len(truth)) / n, LEVEL)
                limits[label, ALONE].append((float(low), float(high)))
                error = is_label[rows] - found[rows]
                limits[label, DIFFERENCE].append(interval(error, found.mean() + error.mean(), len(truth)))
            peer = peer_limits(is_label, found, plain)
            if peer is not None:
                limits[label, PPI] = [tuple(each) for each in peer]
            true, counted = is_label.mean(), found.mean()
            for method in (OWN, ALONE, DIFFERENCE, PPI):
                if limits[label, method]:
                    both = np.array(limits[label, method])
                    covers = float(((both[:, 0] <= true) & (true <= both[:, 1])).mean())
                    width = float(np.ptp(both, axis=1).mean())
                    record = {"corpus": name, "label": label, "n": n, "method": method, "covers": covers}
                    records.append({**record, "width": width, "true": true, "counted": counted, "rows": len(truth)})
        print(name, n, "done", flush=True)
    return records


def report(records: list[dict[str, object]], draws: int) -> str:
    """The results as Markdown."""
    table = pd.DataFrame(records)
    own, alone = (table[table["method"] == method].set_index(["corpus", "label", "n"]) for method in (OWN, ALONE))
    gains = 1 - own["width"] / alone["width"]
    at_300 = gains.xs(300, level="n")
    least = own["covers"].min()
    half = Z * np.sqrt(own["counted"] * (1 - own["counted"]) / own["rows"])
    within = own[(own["counted"] - own["true"]).abs() <= half].index.get_level_values("label").unique()
    counted = ", ".join(within)
    lines = [
        "# Coverage of corrected shares",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, skytells-nb {skytells_nb.__version__}, {draws} draws of each sample. The model",
        f"is a softmax on {TRAINING_ROWS} embedded texts, which labels all others. ppi-python and the two estimators",
        "before it get a simple random sample of the same size. dsl-kit 0.1.1 cannot be imported as published (its",
        "wheel lacks `dsl.helpers`); its estimate of a share is the difference estimator.",
        "",
        f"- least coverage of `share`: {least:.3f} (goal: {LEAST_COVERAGE})",
        f"- narrower than the judged rows alone at 300: {at_300.mean():.0%} on average, {at_300.min():.0%} to "
        f"{at_300.max():.0%} (goal: {LEAST_GAIN:.0%})",
        "- `trade` gains little: the model finds a fifth of it, so that its labels say little of the share",
        f"- labels whose truth the 95 % interval of the plain count of all rows covers: {counted or 'none'}",
        "",
    ]
    methods = [method for method in (OWN, ALONE, DIFFERENCE, PPI) if (table["method"] == method).any()]
    lines += [
        "Coverage / mean width of the 95 % interval:",
        "",
        f"| corpus | label | true | counted | n | {' | '.join(methods)} |",
        f"|---|---|---|---|---|{'---|' * len(methods)}",
    ]
    for (corpus, label, n), part in table.groupby(["corpus", "label", "n"], sort=False):
        by = part.set_index("method")
        cells = [f"{by.loc[each, 'covers']:.3f} / {by.loc[each, 'width']:.3f}" for each in methods]
        first = part.iloc[0]
        lines.append(
            f"| {NAMES[corpus]} | {label} | {first['true']:.3f} | {first['counted']:.3f} | {n} | {' | '.join(cells)} |"
        )
    if PPI in methods:
        found = environments.version_of(PEER, "ppi-python")
        lines += ["", f"ppi-python {found}, numpy {version('numpy')}, Python {sys.version.split()[0]}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    environments.make(PEER)
    records = [record for name in LABELS for record in measure(name, given.draws)]
    given.out.write_text(report(records, given.draws))
    print(given.out.read_text())


if __name__ == "__main__":
    main()
