"""One adapter on one workload, in the environment of its library; prints one JSON line for each result.

python -m benchmarks.worker --adapter skytells --workload W1 --port 18080 --cache-dir /tmp/x
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import json
import os
import sys
import time
import traceback
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.contract import Run, adapter, call_of
from benchmarks.mock import control
from benchmarks.workloads import WORKLOADS, check_answers, check_vectors, texts_of

STARTED = "@STARTED"
RESULT = "@RESULT "


def main() -> None:
    given = _arguments()
    workload = WORKLOADS[given.workload]
    if given.rows and given.rows != workload.rows:
        share = None if workload.distinct is None else max(1, workload.distinct * given.rows // workload.rows)
        workload = replace(workload, rows=given.rows, distinct=share)
    base_url = f"http://127.0.0.1:{given.port}/v1"
    given.cache_dir.mkdir(parents=True, exist_ok=True)
    # Libraries that take their address and key from the environment.
    os.environ.update(OPENAI_API_KEY="sk-mock", OPENAI_BASE_URL=base_url, OPENAI_API_BASE=base_url, DO_NOT_TRACK="1")
    run = Run(workload=workload, base_url=base_url, cache_dir=given.cache_dir, tuned=given.variant == "tuned")
    known: dict[str, Any] = {
        "adapter": given.adapter,
        "workload": workload.name,
        "variant": given.variant,
        "phase": given.phase,
        "rows": workload.rows,
        "distinct": workload.distinct or workload.rows,
        "dimensions": workload.dimensions if workload.kind == "embed" else None,
    }
    try:
        module = adapter(given.adapter)
        module.setup(run)
        known["versions"] = {name: importlib.metadata.version(name) for name in module.PACKAGES}
        result = _measured(module, run, given)
    except Exception as problem:
        traceback.print_exc()
        result = {"error": f"setup: {_said(problem)}"}
    _tell({**known, **result})
    sys.stdout.flush()
    # Threads and loops that a library leaves behind must not hold the process.
    os._exit(0)


def _measured(module: Any, run: Run, given: argparse.Namespace) -> dict[str, Any]:
    """The run with the least CPU time of those that the workload asks for."""
    call = call_of(module, run.workload)
    if call is None:
        return {"error": "unsupported"}
    texts = texts_of(run.workload.rows, run.workload.distinct)
    if run.workload.name == "W4M":
        control.behave(given.port, run.workload.server)
        call(texts[::2], run)
    results = [_once(call, texts, run, given) for _ in range(run.workload.times)]
    return min(results, key=lambda r: (r.get("error") is not None, r["cpu_s"]))


def _once(call: Any, texts: list[str], run: Run, given: argparse.Namespace) -> dict[str, Any]:
    workload = run.workload
    if not given.keep_counts:
        control.behave(given.port, {**workload.server, "dimensions": workload.dimensions})
    if workload.kind == "embed":
        measure.touch(4 * workload.rows * workload.dimensions * 4 // 1_000_000)
    gc.collect()
    base = measure.rss_mb()
    measure.forget_peak()
    print(STARTED, flush=True)
    cpu, machine, wall = measure.cpu_s(), measure.machine_cpu_s(), time.perf_counter()
    answer, error = None, None
    try:
        answer = call(texts, run)
    except (Exception, KeyboardInterrupt) as problem:
        # A client that gives up on a workload is a result.
        traceback.print_exc(limit=-3)
        error = _said(problem)
    wall, cpu = time.perf_counter() - wall, measure.cpu_s() - cpu
    machine, peak, server = measure.machine_cpu_s() - machine, measure.peak_rss_mb(), control.counts(given.port)
    result: dict[str, Any] = {
        "wall_s": round(wall, 4),
        "cpu_s": round(cpu, 4),
        "foreign_cores": round(max(0.0, machine - cpu - server["cpu_s"]) / max(wall, 0.01), 2),
        "base_rss_mb": round(base, 1),
        "peak_rss_mb": round(peak, 1),
        "server": server,
        "notes": run.notes or None,
        "error": error,
    }
    if answer is not None:
        result["type"] = _kind(answer)
        result.update(_verdict(texts, answer, run, server))
    return result


def _verdict(texts: list[str], answer: Any, run: Run, server: dict[str, Any]) -> dict[str, Any]:
    if any("tokens" in kind for kind in server["kinds"]):
        # Texts that travelled as token numbers got the vectors of those numbers.
        return {"rows_unchecked": len(answer)}
    try:
        if run.workload.kind == "chat":
            verdict = check_answers(texts, answer)
        else:
            verdict = check_vectors(texts, answer, run.workload.dimensions)
    except Exception as problem:
        return {"rows_unchecked": len(answer), "check_error": _said(problem)}
    return asdict(verdict)


def _kind(answer: Any) -> str:
    """What a user gets, in words: "Series of ndarray[float32]"."""
    first = answer.iloc[0] if hasattr(answer, "iloc") else answer[0]
    inner = ""
    if hasattr(first, "dtype"):
        inner = f"[{first.dtype}]"
    elif isinstance(first, list) and first:
        inner = f"[{type(first[0]).__name__}]"
    return f"{type(answer).__name__} of {type(first).__name__}{inner}"


def _said(problem: BaseException) -> str:
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:240]}"


def _tell(result: dict[str, Any]) -> None:
    print(RESULT + json.dumps({name: value for name, value in result.items() if value is not None}), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adapter", required=True)
    parser.add_argument("--workload", required=True, choices=sorted(WORKLOADS))
    parser.add_argument("--variant", default="default", choices=["default", "tuned"])
    parser.add_argument("--phase", help="a name for the result: cold, warm, rerun")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cache-dir", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=0, help="fewer or more rows than the workload has")
    parser.add_argument("--keep-counts", action="store_true", help="the server goes on counting")
    return parser.parse_args()


if __name__ == "__main__":
    main()
