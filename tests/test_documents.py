"""Documents: links resolve; decision notes are complete and listed in the index."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"]
DECISIONS = ROOT / "docs" / "decisions"
NOTES = sorted(DECISIONS.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    """A link to a file names a file of this repository."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def test_the_architecture_fits_on_a_page() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) <= 110


@pytest.mark.parametrize("note", NOTES, ids=lambda note: note.stem)
def test_a_decision_has_its_number_date_and_sections(note: Path) -> None:
    """Title with the number of the file, a date, then context, decision and measurements."""
    text = note.read_text(encoding="utf-8")

    assert text.startswith(f"# {note.name[:4]}. ")
    assert re.search(r"^Date: \d{4}-\d{2}-\d{2}", text, re.MULTILINE)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "What was measured"]


def test_the_index_lists_every_decision_in_order() -> None:
    index = (DECISIONS / "README.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| \[\d{4}\]\((.+?)\)", index, re.MULTILINE) == [note.name for note in NOTES]
