"""Defaults, limits and times, beside ``values.json``: a change of one is seen in review, and never happens by itself.

``python tests/test_values.py`` writes that file again. What is not in it yet may have any value.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SAVED = Path(__file__).with_name("values.json")
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "skytells_nb").rglob("*.py"))


def shown(value: ast.expr) -> str:
    """A number, a truth value or several of them as it is written; of all else the numbers and truth values in it."""
    constants = [node.value for node in ast.walk(value) if isinstance(node, ast.Constant)]
    texts = any(isinstance(constant, str | bytes) for constant in constants)
    names = any(isinstance(node, ast.Name | ast.Call | ast.Lambda) for node in ast.walk(value))
    if not texts and not names:
        return ast.unparse(value)
    return " ".join(["…", *(repr(constant) for constant in constants if not isinstance(constant, str | bytes))])


def values(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names with what they are unless somebody says otherwise: parameters, fields of classes, and constants."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            usual = [*arguments.posonlyargs, *arguments.args]
            given = [*zip(usual[::-1], arguments.defaults[::-1], strict=False)]
            for argument, default in [*given, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]:
                if default is not None:
                    yield f"{prefix}{node.name}({argument.arg})", shown(default)
        elif isinstance(node, ast.ClassDef):
            yield from values(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield f"{prefix}{ast.unparse(target)}", shown(node.value)


def all_values() -> dict[str, dict[str, str]]:
    found = {path: dict(values(ast.parse((ROOT / path).read_text("utf-8")).body)) for path in MODULES}
    return {path: each for path, each in found.items() if each}


def has_stayed(saved: str, now: str) -> bool:
    """Whether a value is what it was; tables may get more entries."""
    if not saved.startswith("…"):
        return saved == now
    words = iter(now.split())
    return all(word in words for word in saved.split())


def test_values_are_what_they_were() -> None:
    """Of what is in both: names may come and go."""
    saved, now = json.loads(SAVED.read_text("utf-8")), all_values()
    both = [(path, name) for path in saved for name in saved[path] if name in now.get(path, {})]
    assert len(both) > 1000
    changed = [(path, name) for path, name in both if not has_stayed(saved[path][name], now[path][name])]
    assert [(*each, f"now {now[each[0]][each[1]]}, before {saved[each[0]][each[1]]}") for each in changed] == []


if __name__ == "__main__":
    SAVED.write_text(json.dumps(all_values(), indent=1) + "\n", "utf-8")
