"""Change the package in one place at a time and check whether a test fails: ``make mutants SEED=1 N=40``.

Each mutant is tested in a copy of the project: the tests that cover its module run until one fails, a few files at
first, those that name what was changed before others. A test that also fails without the change does not count. Mutants
that survive are printed as a diff; ``equivalent.toml`` lists, with reasons, changes that no test can detect.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from mutants import Mutant, sample
from selection import tests_for
from warm import Warm

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "skytells_nb"
MIN_KILLED = 0.95
FIRST_FILES = (2, 8)
"""After so many files pytest starts again: most mutants are killed by the first, and collecting all takes longer."""
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
            print(mutant.operator, *tests_for(ROOT, mutant.path, mutant.names), mutant.diff, sep="\n", end="\n\n")
        return 0
    equivalents = equivalent()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, contextlib.ExitStack() as stack:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(options.workers):
            root = Path(shutil.copytree(ROOT, Path(folder) / str(number), ignore=IGNORED, symlinks=True))
            copies.put(stack.enter_context(copy_of_the_project(root)))

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


@dataclass(frozen=True)
class Copy:
    """A copy of the project; ``sound`` has the tests that have passed in it without a change."""

    root: Path
    warm: Warm
    sound: set[str] = field(default_factory=set)

    def write(self, path: str, source: str) -> None:
        file = self.root / path
        file.write_text(source, "utf-8")
        # Compiled code is found by time and size, which two mutants can share.
        Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)

    def pytest(self, tests: Sequence[str], marks: str, timeout: float) -> tuple[int | None, str]:
        """Return pytest's exit code, or ``None`` after a timeout, and its output."""
        command = ["-x", "-q", "-rfE", "--tb=no", f"--timeout={TEST_TIMEOUT_S}", "-m", marks]
        command += ["-p", "no:cacheprovider", "-p", "no:randomly", "--hypothesis-profile=ci", *tests]
        return self.warm.run(command, timeout)


@contextlib.contextmanager
def copy_of_the_project(root: Path) -> Iterator[Copy]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    # Each run would compile the tests and the package again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    warm = Warm(root, environment)
    try:
        yield Copy(root, warm)
    finally:
        warm.close()


def evaluate(copy: Copy, mutant: Mutant, timeout: float) -> Result:
    """Test a mutant; afterwards the copy is restored."""
    started = time.monotonic()
    try:
        copy.write(mutant.path, mutant.after)
        state, by = run_tests(copy, tests_for(copy.root, mutant.path, mutant.names), timeout)
    finally:
        copy.write(mutant.path, mutant.before)
    if state == "killed" and ".py" in by and by not in copy.sound:
        code, output = copy.pytest([by], "", TEST_TIMEOUT_S * 2)
        if code:
            state, by = "inconclusive", f"{by} fails without the change too\n{output[-2000:]}"
        else:
            copy.sound.add(by)
    return Result(mutant, state, by, time.monotonic() - started)


def runs(tests: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Files and marks of each run of pytest; slow tests run last."""
    start = 0
    for end in (*FIRST_FILES, len(tests)):
        if tests[start:end]:
            yield tests[start:end], "not slow and not browser"
        start = end
    yield tests, "slow and not browser"


def run_tests(copy: Copy, tests: Sequence[str], timeout: float) -> tuple[State, str]:
    """Whether a test fails, and which one."""
    deadline = time.monotonic() + timeout
    for files, marks in runs(tests):
        code, output = copy.pytest(files, marks, deadline - time.monotonic())
        if code is None:
            return "timeout", ""
        failed = _FAILED.search(output)
        if failed is not None:
            name = failed.group(1)
            # A flaky test has detected nothing.
            repeated, output = copy.pytest([name], "", TEST_TIMEOUT_S * 2)
            return ("inconclusive", f"{name} is flaky\n{output[-2000:]}") if repeated == 0 else ("killed", name)
        if code not in (0, 5):
            # The process ended without a failed test: by a signal, or before the tests started.
            return (
                ("killed", f"exit code {code}") if code < 0 or code in (1, 2, 4) else ("inconclusive", output[-2000:])
            )
    return "survived", ""


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
