"""Documents: links resolve; decision notes are complete and listed in the index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from skytells_nb.magics.command_arguments import TUTORIALS_URL

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks" / "README.md"]
DECISIONS = ROOT / "docs" / "decisions"
NOTES = sorted(DECISIONS.glob("[0-9]*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    """A link to a file names a file of this repository."""
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))

    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "tutorials.md"], ids=lambda page: page.stem)
def test_badges_open_notebooks_of_this_repository(page: Path) -> None:
    """Binder and Colab take owner and name in their own form; the notebooks that they open are there."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    name = urls["Source"].removeprefix("https://github.com/")
    text = page.read_text(encoding="utf-8")
    opened = {
        "Binder": re.escape(f"https://mybinder.org/v2/gh/{name}/main?urlpath=lab/tree/"),
        "Colab": re.escape(f"https://colab.research.google.com/github/{name}/blob/main/"),
    }
    for badge, address in opened.items():
        found = re.findall(rf"\[!\[{badge}\]\(https://\S+\.svg\)\]\({address}(\S+)\)", text)
        assert len(found) == 1, badge
        assert (ROOT / found[0]).is_file()


def test_addresses_of_the_repository_and_the_site_are_those_of_the_metadata() -> None:
    """One that was not renamed with the repository would lead nowhere."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    owner, _, name = urls["Source"].removeprefix("https://github.com/").partition("/")
    assert urls["Documentation"] == f"https://{owner}.github.io/{name}/"
    assert f"{urls['Documentation']}tutorials" == TUTORIALS_URL
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for address in re.findall(rf"https://(?:github\.com/{owner}|{owner}\.github\.io)/[^\s)\"'`>]*", text):
            assert address.startswith((urls["Source"], urls["Documentation"].rstrip("/"))), f"{page.name}: {address}"


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
