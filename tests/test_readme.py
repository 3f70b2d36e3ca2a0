"""The README: its length, code blocks, links and method names."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

from skytells_nb.cli import main as cli

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for language, block in BLOCKS if language == "bash" for line in block.splitlines()]


def test_the_readme_is_short() -> None:
    """A long README is not read."""
    assert len(TEXT.splitlines()) <= 120


def test_every_block_has_a_language_that_is_tested() -> None:
    """Python and shell; a block without a language would not be run."""
    assert TEXT.count("\n```") == 2 * len(BLOCKS)
    assert {language for language, _ in BLOCKS} == {"bash", "python"}


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    shell = InteractiveShell.instance()
    yield shell
    shell.run_line_magic("unload_ext", "skytells_nb")
    shell.reset(new_session=False)
    InteractiveShell.clear_instance()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_cells_run_from_top_to_bottom(shell: InteractiveShell, chat_weights: Path) -> None:
    """Against the local Skytells, as a reader would run them: each block is a cell."""
    with contextlib.chdir(ROOT):
        for language, block in BLOCKS:
            if language == "python":
                shell.run_cell(block).raise_error()

    names = shell.user_ns
    assert len(names["reviews"]) == 5
    assert names["reviews"].skytells.report.distinct == 3
    assert names["answered"]["completion"].notna().tolist() == [True, True, True, True, False]
    assert names["summary"].text
    assert len(names["chart"].data) > 0


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    """Each ``make`` target in the README is one of the Makefile."""
    target = shlex.split(line, comments=True)[1]

    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("python ")])
def test_commands_are_accepted(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The program accepts every command line that is shown."""
    words = shlex.split(line, comments=True)
    assert words[:3] == ["python", "-m", "skytells_nb"]

    with pytest.raises(SystemExit) as exit_info:
        cli.main([*words[3:], "--help"])

    assert exit_info.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_relative_links_resolve() -> None:
    """Every relative link names a file of this repository."""
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)

    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_overview_names_every_method() -> None:
    """The methods of the accessor, and nothing else."""
    from skytells_nb.accessor.frame import FrameAccessor

    line = next(line for line in TEXT.split("\n- ") if line.startswith("`df.skytells` and"))
    methods = {name for name in dir(FrameAccessor) if not name.startswith("_")}

    assert methods == set(re.findall(r"`(\w+)`", line.partition(":")[2]))
