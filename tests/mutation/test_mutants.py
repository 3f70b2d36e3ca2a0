"""Sampling of mutants and selection of their tests."""

from __future__ import annotations

import os
import random
import tomllib
from pathlib import Path

from mutants import mutants_of, sample
from selection import EXAMPLES
from selection import tests_for as select_tests
from warm import Warm

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "skytells_nb"
MODULE = '''"""A module."""

from typing import Any

LIMIT: Any = 3


def clip(number: int | None, least: int = 0) -> int:
    """At most the limit."""
    if number is None or number < least:
        raise ValueError(f"too small: {least}")
    return LIMIT if number > LIMIT else number
'''


def test_a_mutant_is_one_change_that_compiles(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text(MODULE, "utf-8")
    mutants = list(mutants_of(tmp_path, "module.py", random.Random(1)))
    added = {mutant.change[1] for mutant in mutants}
    assert {"LIMIT: Any = None", "LIMIT: Any = 4", "if number is None or number <= least:"} <= added
    assert {"if number is None and number < least:", "if number is not None or number < least:"} <= added
    assert "def clip(number: int | None, least: int = 1) -> int:" in added
    assert len({mutant.after for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        compile(mutant.after, "module.py", "exec")
        assert mutant.before == MODULE
        assert [text.count("\n") for text in mutant.change] == [0, 0]
        assert not any("int & None" in text or "XX" in text for text in mutant.change)


def test_a_mutant_has_the_names_around_it(tmp_path: Path) -> None:
    source = "LIMIT = 1\n\n\nclass Box:\n    size = LIMIT\n\n\ndef clip() -> int:\n    return 2\n"
    (tmp_path / "module.py").write_text(source, "utf-8")
    found = {mutant.change[0]: mutant.names for mutant in mutants_of(tmp_path, "module.py", random.Random(1))}
    assert found == {"LIMIT = 1": (), "size = LIMIT": ("Box",), "return 2": ("clip",)}


def test_files_that_name_what_was_changed_come_before_others(tmp_path: Path) -> None:
    """After the module's own; then those that import it, then those of modules that do."""
    files = {
        "package/thing.py": "def clip(): ...",
        "package/user.py": "from package.thing import clip",
        "tests/test_thing.py": "",
        "tests/test_any.py": "import package.thing",
        "tests/test_other.py": "from package import thing\nthing.clip()",
        "tests/test_user.py": "",
        "tests/test_else.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    order = [f"tests/test_{name}.py" for name in ("thing", "other", "any", "user")]
    assert select_tests(tmp_path, "package/thing.py", ["clip"]) == order
    (tmp_path / "package/other.py").write_text('"""\n>>> 1\n1\n"""')
    assert f"{EXAMPLES}[package.other]" in select_tests(tmp_path, "package/other.py", [])


def test_a_warm_process_tells_what_pytest_says_and_ends_what_hangs(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text("def test_it():\n    assert False\n")
    (tmp_path / "test_two.py").write_text(
        "import os, time\ndef test_it():\n    open('pid', 'w').write(str(os.getpid()))\n    time.sleep(600)\n"
    )
    options = ["-q", "-rf", "-p", "no:cacheprovider", "-p", "no:xdist"]
    warm = Warm(tmp_path, dict(os.environ), imported=["pytest"])
    try:
        code, output = warm.run([*options, "test_one.py"], 300)
        assert (code, "FAILED test_one.py::test_it" in output) == (1, True)
        assert warm.run([*options, "test_one.py", "-k", "none"], 300)[0] == 5
        code, output = warm.run([*options, "test_two.py"], 1)
        assert code is None
    finally:
        warm.close()


def test_a_seed_gives_the_same_mutants_again_and_another_seed_others() -> None:
    one, again, other = (sample(ROOT, PACKAGE, seed, 2) for seed in (1, 1, 2))
    assert len(one) == 2
    assert one == again
    assert one != other


def test_every_module_has_tests_and_the_nearest_come_first() -> None:
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        chosen = select_tests(ROOT, path.relative_to(ROOT).as_posix(), ["connect"])
        assert chosen, path
        assert len(set(chosen)) == len(chosen)
        assert all((ROOT / test.partition("::")[0]).is_file() for test in chosen)
        if path.parent.parent == ROOT and (ROOT / "tests" / f"test_{path.stem}.py").exists():
            assert chosen[0].startswith(f"tests/test_{path.stem}")


def test_equivalent_changes_are_still_in_the_package() -> None:
    lines = {line.strip() for path in (ROOT / PACKAGE).rglob("*.py") for line in path.read_text("utf-8").splitlines()}
    entries = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text("utf-8"))["mutant"]
    for entry in entries:
        assert set(entry["before"].splitlines()) <= lines, entry
        assert entry["reason"]
        assert entry["before"] != entry["after"]
