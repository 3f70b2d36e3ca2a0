"""The environments of the peers: one each, made once, outside of the library's own.

python -m benchmarks.environments [NAME …]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / ".venvs"

PACKAGES: dict[str, tuple[str, ...]] = {
    "ceiling_aiohttp": ("aiohttp", "uvloop", "orjson", "numpy"),
    "openai_gather": ("openai", "numpy"),
    "openaivec": ("openaivec", "pandas"),
    "langchain": ("langchain-openai", "langchain", "langchain-classic", "langchain-community", "numpy"),
    "silkloom": ("silkloom-core", "pandas"),
    "litellm": ("litellm", "numpy"),
    # It imports the last two without asking for them.
    "fenic": ("fenic", "numpy", "tqdm", "httpx"),
    # Not adapters: other ways to the numbers of coverage.py and cascades.py.
    "ppi_python": ("ppi-python",),
    "bargain": ("bargain",),
}
"""What each adapter needs; the newest versions, which the results then name."""

SERVER = "ceiling_aiohttp"
"""Whose environment the mock server runs in: it is fastest with uvloop and orjson."""


def python_of(adapter: str) -> str | None:
    """The interpreter for an adapter; ``None`` where its environment is not made. Ours is the one that runs this."""
    if adapter == "skytells":
        return sys.executable
    path = FOLDER / adapter / "bin" / "python"
    return str(path) if (FOLDER / adapter / ".made").exists() else None


def make(adapter: str) -> bool:
    """Make the environment of an adapter; whether it is there afterwards."""
    folder = FOLDER / adapter
    if python_of(adapter) is None:
        print(f"Installing {', '.join(PACKAGES[adapter])} (once)", flush=True)
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", *PACKAGES[adapter]],
        ]
        FOLDER.mkdir(exist_ok=True)
        with open(FOLDER / f"{adapter}.log", "w") as log:
            if any(subprocess.run(step, stdout=log, stderr=log, check=False).returncode for step in steps):
                print(f"{adapter} could not be installed and is left out; see {log.name}.")
                return False
        (folder / ".made").touch()
    return True


def version_of(adapter: str, package: str) -> str:
    """The version of a package in the environment of an adapter."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([str(python_of(adapter)), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def tokenizers() -> str | None:
    """Where encodings of tiktoken lie: litellm brings some, and other peers would fetch the same ones."""
    found = (FOLDER / "litellm").glob("lib/python*/site-packages/litellm/litellm_core_utils/tokenizers")
    return next((str(path) for path in found), None)


def main() -> None:
    for adapter in sys.argv[1:] or PACKAGES:
        make(adapter)


if __name__ == "__main__":
    main()
