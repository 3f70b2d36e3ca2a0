"""Change the package in one place at a time and see whether a test fails: ``make mutants SEED=1 N=40``.

Each mutant is made in a copy of the project, and the tests that cover its module run there until one fails. A test that
also fails without the change kills nothing. What no test notices is shown with its difference; the list
``equivalent.toml`` names, with reasons, changes that no test can notice.
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
LEAST_KILLED = 0.95
TEST_TIMEOUT_S = 60
"""A test that a mutant makes hang has failed."""
LEFT_OUT = shutil.ignore_patterns(".git", ".*_cache", ".venv*", ".venvs", ".hypothesis", "__pycache__", "dist", "build")
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+\.py.*?)(?: - .*)?$", re.MULTILINE)

State = Literal["killed", "equivalent", "survived", "out of time", "no verdict"]


@dataclass(frozen=True)
class Result:
    mutant: Mutant
    state: State
    by: str
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tests/mutation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="which mutants are drawn")
    parser.add_argument("-n", type=int, default=40, dest="count", help="how many")
    parser.add_argument("--timeout", type=float, default=600, help="seconds for the tests of one mutant")
    parser.add_argument("--workers", type=int, default=1, help="copies of the project that are tested at once")
    parser.add_argument("--only", default="", help="modules whose path contains this")
    parser.add_argument("--list", action="store_true", help="show the mutants and their tests; run nothing")
    given = parser.parse_args(argv)
    drawn = sample(ROOT, PACKAGE, given.seed, given.count)
    drawn = [mutant for mutant in drawn if given.only in mutant.path]
    if given.list:
        for mutant in drawn:
            print(mutant.operator, *tests_for(ROOT, mutant.path), mutant.diff, sep="\n", end="\n\n")
        return 0
    known = equivalent()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(given.workers):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / str(number), ignore=LEFT_OUT, symlinks=True)))

        def judge(mutant: Mutant) -> Result:
            if mutant.change in known:
                return Result(mutant, "equivalent", known[mutant.change], 0.0)
            copy = copies.get()
            try:
                return judged(copy, mutant, given.timeout)
            finally:
                copies.put(copy)

        with ThreadPoolExecutor(given.workers) as pool:
            results = []
            for future in as_completed([pool.submit(judge, mutant) for mutant in drawn]):
                results.append(future.result())
                show(len(results), results[-1])
    return summary(results, given.seed)


def equivalent() -> dict[tuple[str, str], str]:
    """The reason for each change that no test can notice, by the lines removed and added."""
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text("utf-8"))["mutant"]
    return {(entry["before"], entry["after"]): entry["reason"] for entry in entries}


def judged(copy: Path, mutant: Mutant, timeout: float) -> Result:
    """What the tests say of a mutant; the copy is as it was afterwards."""
    began = time.monotonic()
    file = copy / mutant.path
    try:
        file.write_text(mutant.after, "utf-8")
        state, by = verdict(copy, tests_for(copy, mutant.path), timeout)
    finally:
        file.write_text(mutant.before, "utf-8")
    if state == "killed" and ".py" in by:
        code, output = run(copy, [by], "", TEST_TIMEOUT_S * 2)
        if code:
            state, by = "no verdict", f"{by} fails without the change too\n{output[-2000:]}"
    return Result(mutant, state, by, time.monotonic() - began)


def verdict(copy: Path, tests: Sequence[str], timeout: float) -> tuple[State, str]:
    """Whether a test fails, and which; the slow ones are asked last."""
    give_up = time.monotonic() + timeout
    for marks in ("not slow and not browser", "slow and not browser"):
        code, output = run(copy, tests, marks, give_up - time.monotonic())
        if code is None:
            return "out of time", ""
        failed = _FAILED.search(output)
        if failed is not None:
            name = failed.group(1)
            # A test that fails by chance has noticed nothing.
            again, output = run(copy, [name], "", TEST_TIMEOUT_S * 2)
            return ("no verdict", f"{name} fails by chance\n{output[-2000:]}") if again == 0 else ("killed", name)
        if code not in (0, 5):
            # Not a failed test but the end of the process: by a signal, or before the tests began.
            return ("killed", f"exit code {code}") if code < 0 or code in (1, 2, 4) else ("no verdict", output[-2000:])
    return "survived", ""


def run(copy: Path, tests: Sequence[str], marks: str, timeout: float) -> tuple[int | None, str]:
    """pytest's exit code, ``None`` where the time did not suffice, and what it printed."""
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
    print(f"{number:3} {result.state:11} {result.seconds:5.0f} s  {result.mutant.path}  {result.by}", flush=True)
    if result.state not in ("killed", "equivalent"):
        print(result.mutant.diff, flush=True)


def summary(results: Sequence[Result], seed: int) -> int:
    """Print the counts; 1 where too few were killed."""
    counts = {state: sum(result.state == state for result in results) for state in State.__args__}  # type: ignore[attr-defined]
    judged_ones = counts["killed"] + counts["survived"] + counts["out of time"]
    share = counts["killed"] / judged_ones if judged_ones else 0.0
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    print(f"seed {seed}: {len(results)} mutants: {said}; {share:.0%} of those that are not equivalent were killed")
    return 0 if share >= LEAST_KILLED and not counts["no verdict"] else 1


if __name__ == "__main__":
    sys.exit(main())
