"""Change the package in one place at a time and check whether a test fails: ``make mutants SEED=1 N=40``.

Each mutant is tested in a copy of the project: the tests that cover its module run until one fails. A test that also
fails without the change does not count. Mutants that survive are printed as a diff; ``equivalent.toml`` lists, with
reasons, changes that no test can detect.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from mutants import Mutant, sample
from selection import tests_for

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "skytells_nb"
MIN_KILLED = 0.95
TEST_TIMEOUT_S = 60
"""A test that hangs because of a mutant counts as failed."""
IGNORED = shutil.ignore_patterns(".git", ".*_cache", ".venv*", ".venvs", ".hypothesis", "__pycache__", "dist", "build")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py.*?)(?: - .*)?$", re.MULTILINE)

State = Literal["killed", "equivalent", "survived", "timeout", "inconclusive"]


@dataclass(frozen=True)
class Result:
    mutant: Mutant
    state: State
    by: str
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample of mutants")
    parser.add_argument("-n", type=int, default=40, dest="count", help="number of mutants")
    parser.add_argument("--timeout", type=float, default=600, help="time limit for the tests of one mutant, in seconds")
    parser.add_argument("--workers", type=int, default=1, help="copies of the project that are tested in parallel")
    parser.add_argument("--only", default="", help="test only modules whose path contains this")
    parser.add_argument("--list", action="store_true", help="print the mutants and their tests without running them")
    options = parser.parse_args(argv)
    mutants = sample(ROOT, PACKAGE, options.seed, options.count)
    mutants = [mutant for mutant in mutants if options.only in mutant.path]
    if options.list:
        for mutant in mutants:
            print(mutant.operator, *tests_for(ROOT, mutant.path), mutant.diff, sep="\n", end="\n\n")
        return 0
    equivalents = equivalent()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.workers):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / str(number), ignore=IGNORED, symlinks=True)))

        def evaluate_in_copy(mutant: Mutant) -> Result:
            if mutant.change in equivalents:
                return Result(mutant, "equivalent", equivalents[mutant.change], 0.0)
            copy = copies.get()
            try:
                return evaluate(copy, mutant, options.timeout)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(options.workers) as pool:
            results = []
            for future in as_completed([pool.submit(evaluate_in_copy, mutant) for mutant in mutants]):
                results.append(future.result())
                show(len(results), results[-1])
    return summary(results, options.seed)


def equivalent() -> dict[tuple[str, str], str]:
    """The reason for each change that no test can detect, by the lines removed and added."""
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text("utf-8"))["mutant"]
    return {(entry["before"], entry["after"]): entry["reason"] for entry in entries}


def evaluate(copy: Path, mutant: Mutant, timeout: float) -> Result:
    """Test a mutant; afterwards the copy is restored."""
    started = time.monotonic()
    file = copy / mutant.path
    try:
        file.write_text(mutant.after, "utf-8")
        state, by = run_tests(copy, tests_for(copy, mutant.path), timeout)
    finally:
        file.write_text(mutant.before, "utf-8")
    if state == "killed" and ".py" in by:
        code, output = run(copy, [by], "", TEST_TIMEOUT_S * 2)
        if code:
            state, by = "inconclusive", f"{by} fails without the change too\n{output[-2000:]}"
    return Result(mutant, state, by, time.monotonic() - started)


def run_tests(copy: Path, tests: Sequence[str], timeout: float) -> tuple[State, str]:
    """Whether a test fails, and which one; slow tests run last."""
    deadline = time.monotonic() + timeout
    for marks in ("not slow and not browser", "slow and not browser"):
        code, output = run(copy, tests, marks, deadline - time.monotonic())
        if code is None:
            return "timeout", ""
        failed = _FAILED.search(output)
        if failed is not None:
            name = failed.group(1)
            # A flaky test has detected nothing.
            repeated, output = run(copy, [name], "", TEST_TIMEOUT_S * 2)
            return ("inconclusive", f"{name} is flaky\n{output[-2000:]}") if repeated == 0 else ("killed", name)
        if code not in (0, 5):
            # The process ended without a failed test: by a signal, or before the tests started.
            return (
                ("killed", f"exit code {code}") if code < 0 or code in (1, 2, 4) else ("inconclusive", output[-2000:])
            )
    return "survived", ""


def run(copy: Path, tests: Sequence[str], marks: str, timeout: float) -> tuple[int | None, str]:
    """Return pytest's exit code, or ``None`` after a timeout, and its output."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", f"--timeout={TEST_TIMEOUT_S}"]
    command += ["-m", marks, "-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-profile=ci", *tests]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")])}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=max(timeout, 1.0))
    except subprocess.TimeoutExpired:
        return None, ""
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 9)
            process.communicate()
    return process.returncode, output


def show(number: int, result: Result) -> None:
    print(f"{number:3} {result.state:12} {result.seconds:5.0f} s  {result.mutant.path}  {result.by}", flush=True)
    if result.state not in ("killed", "equivalent"):
        print(result.mutant.diff, flush=True)


def summary(results: Sequence[Result], seed: int) -> int:
    """Print the counts; return 1 when too few mutants were killed."""
    counts = {state: sum(result.state == state for result in results) for state in State.__args__}  # type: ignore[attr-defined]
    tested = counts["killed"] + counts["survived"] + counts["timeout"]
    share = counts["killed"] / tested if tested else 0.0
    parts = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    print(f"seed {seed}: {len(results)} mutants: {parts}; {share:.0%} of those that are not equivalent were killed")
    return 0 if share >= MIN_KILLED and not counts["inconclusive"] else 1


if __name__ == "__main__":
    sys.exit(main())
