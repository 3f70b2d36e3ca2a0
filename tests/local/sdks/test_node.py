"""The OpenAI library for Node.js, and the service's own: ``node/*.test.js``, by Node's own runner."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from skytells_nb.local import LocalServer

FOLDER = Path(__file__).parent / "node"

if shutil.which("node") is None or not (FOLDER / "node_modules" / "openai").is_dir():
    pytest.skip("openai for Node.js is not installed, so it was not tried: make test-sdks", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_every_call_passes(server: LocalServer) -> None:
    node = shutil.which("node")
    assert node is not None
    place = {"SKYTELLS_BASE_URL": server.base_url, "SKYTELLS_API_KEY": server.api_key}
    done = subprocess.run(
        [node, "--test", *sorted(path.name for path in FOLDER.glob("*.test.js"))],
        cwd=FOLDER,
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fail 0" in done.stdout
