"""Single mutants of a module: the operators of mutmut, each applied in one place."""

from __future__ import annotations

import ast
import difflib
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import libcst
from mutmut.mutation.mutators import mutation_operators

SKIPPED = frozenset({"operator_string"})
"""Tests do not have to detect a message with other words."""
EXCLUDED_FILES = ("__main__.py",)


@dataclass(frozen=True)
class Mutant:
    """A module with one change. ``path`` is relative to the root of the project."""

    path: str
    operator: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(), self.path, "mutant", "", "", 1, ""
        )
        return "\n".join(lines)

    @property
    def change(self) -> tuple[str, str]:
        """The lines that were removed and those that were added, without their indentation."""
        lines = self.diff.splitlines()[2:]
        removed, added = ([line[1:].strip() for line in lines if line.startswith(sign)] for sign in "-+")
        return "\n".join(removed), "\n".join(added)

    @property
    def names(self) -> tuple[str, ...]:
        """The functions and classes around the change, innermost first."""
        changed = next(
            number
            for number, (old, new) in enumerate(zip_longest(self.before.splitlines(), self.after.splitlines()), 1)
            if old != new
        )
        around = [
            node
            for node in ast.walk(ast.parse(self.before))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.lineno <= changed <= (node.end_lineno or node.lineno)
        ]
        return tuple(node.name for node in sorted(around, key=lambda node: -node.lineno))


class _MutationCollector(libcst.CSTVisitor):
    """Collects every node that an operator can replace, by the name of the operator, except annotations."""

    def __init__(self) -> None:
        super().__init__()
        self.mutations: dict[str, list[tuple[libcst.CSTNode, libcst.CSTNode]]] = defaultdict(list)

    def on_visit(self, node: libcst.CSTNode) -> bool:
        if isinstance(node, libcst.Annotation | libcst.Decorator | libcst.ImportFrom | libcst.Import):
            return False
        if isinstance(node, libcst.If) and isinstance(node.test, libcst.Name) and node.test.value == "TYPE_CHECKING":
            return False
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and operator.__name__ not in SKIPPED:
                self.mutations[operator.__name__].extend((node, mutated) for mutated in operator(node))
        return True


def mutants_of(root: Path, path: str, rng: random.Random) -> Iterator[Mutant]:
    """Mutants of one module in random order: an operator is drawn first, then a node for it."""
    source = (root / path).read_text("utf-8")
    module = libcst.parse_module(source)
    collector = _MutationCollector()
    module.visit(collector)
    # Sorted by name, so that a seed gives the same mutants everywhere.
    by_operator = {
        name: rng.sample(mutations, len(mutations)) for name, mutations in sorted(collector.mutations.items())
    }
    while by_operator := {name: mutations for name, mutations in by_operator.items() if mutations}:
        name = rng.choice(list(by_operator))
        node, mutated = by_operator[name].pop()
        changed = module.deep_replace(node, mutated)
        assert isinstance(changed, libcst.Module)
        after = changed.code
        try:
            compile(after, path, "exec")
        except SyntaxError:
            continue
        yield Mutant(path, name, source, after)


def sample(root: Path, package: str, seed: int, count: int) -> list[Mutant]:
    """Draw ``count`` mutants of the package; modules with more lines are drawn more often."""
    rng = random.Random(seed)
    paths = sorted(p for p in (root / package).rglob("*.py") if p.name not in EXCLUDED_FILES)
    lines = [len(path.read_text("utf-8").splitlines()) for path in paths]
    streams: dict[str, Iterator[Mutant]] = {}
    mutants: list[Mutant] = []
    for _ in range(20 * count):
        (chosen,) = rng.choices(paths, lines)
        path = chosen.relative_to(root).as_posix()
        if path not in streams:
            streams[path] = mutants_of(root, path, random.Random(f"{seed} {path}"))
        mutant = next(streams[path], None)
        if mutant is not None:
            mutants.append(mutant)
        if len(mutants) == count:
            break
    return mutants
