"""The read-me: short, and every block in it runs."""

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


def test_it_is_short() -> None:
    """A read-me is read when it fits."""
    assert len(TEXT.splitlines()) <= 110


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """Python and shell; a block without a language would be run by nobody."""
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
    """On the local Skytells, as a reader would: each block is a cell."""
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
def test_the_verbs_exist(line: str) -> None:
    """What the read-me tells to make, the Makefile makes."""
    verb = shlex.split(line, comments=True)[1]

    assert re.search(rf"^{verb}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("python ")])
def test_the_commands_can_be_read(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command line shown is one that the program accepts."""
    words = shlex.split(line, comments=True)
    assert words[:3] == ["python", "-m", "skytells_nb"]

    with pytest.raises(SystemExit) as left:
        cli.main([*words[3:], "--help"])

    assert left.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_links_lead_somewhere() -> None:
    """Every relative link names a file of this repository."""
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)

    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []


def test_the_names_at_a_glance_exist() -> None:
    """The accessor's methods are all named, and no others."""
    from skytells_nb.accessor.frame import FrameAccessor

    line = next(line for line in TEXT.split("\n- ") if line.startswith("`df.skytells` and"))
    methods = {name for name in dir(FrameAccessor) if not name.startswith("_")}

    assert methods == set(re.findall(r"`(\w+)`", line.partition(":")[2]))
