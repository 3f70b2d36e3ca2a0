"""The pure functions of the page scripts, tested where they run: in JavaScript."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "page"
CI = os.environ.get("CI", "").lower() in ("1", "true")


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None and CI:
        pytest.fail("Node.js is not installed, so the page scripts were not tested", pytrace=False)
    if found is None:
        pytest.skip("Node.js is not installed, so the page scripts were not tested (Debian: apt-get install nodejs)")
    return found


def test_the_unit_tests_of_the_page_scripts_pass(node: str) -> None:
    """Every ``tests/page/*.test.js``, by Node's own runner; none is left out."""
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    written = sum(len(re.findall(r"^\s*it\(", path.read_text(), re.MULTILINE)) for path in FOLDER.glob("*.test.js"))

    assert done.returncode == 0, done.stdout
    assert f"# pass {written}\n" in done.stdout
