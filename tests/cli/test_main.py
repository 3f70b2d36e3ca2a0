"""The command line, as a person calls it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import pytest

from skytells_nb.cache import SqliteStore, open_store
from skytells_nb.cli import doctor
from skytells_nb.cli import main as cli
from skytells_nb.local.server import LocalServer

ROOT = Path(__file__).parents[2]
KEY = "sk-of-nobody-0123456789"


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The user's cache, with three responses of 100 bytes."""
    path = tmp_path / "answers.sqlite"
    store = SqliteStore(path)
    store.put_many([(bytes([n]) * 32, b"x" * 100) for n in range(3)])
    store.close()
    monkeypatch.setenv("SKYTELLS_CACHE", str(path))
    return path


def entries(path: Path) -> int:
    store = SqliteStore(path)
    try:
        return store.stats().entries
    finally:
        store.close()


@pytest.mark.parametrize(
    "line",
    [["fly"], ["serve", "--port", "many"], ["local"], ["cache", "prune", "--max-mb", "-1"], ["cache", "burn"]],
    ids=" ".join,
)
def test_a_line_that_cannot_be_read_shows_the_usage(line: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, the usage on stderr, nothing on stdout."""
    with pytest.raises(SystemExit) as left:
        cli.main(line)

    shown = capsys.readouterr()
    assert left.value.code == 2
    assert shown.err.startswith("usage: python -m skytells_nb")
    assert shown.out == ""


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """``--help`` is the list of what there is."""
    with pytest.raises(SystemExit) as left:
        cli.main(["--help"])

    assert left.value.code == 0
    assert set(re.findall(r"^    (\w+) ", capsys.readouterr().out, re.MULTILINE)) == {
        "serve",
        "local",
        "demo",
        "doctor",
        "cache",
    }


def test_help_and_no_command_at_all_print_the_same_without_pandas() -> None:
    """Importing pandas takes longer than everything else that ``--help`` does."""
    shown = []
    for line in ([], ["--help"]):
        command = [sys.executable, "-X", "importtime", "-m", "skytells_nb", *line]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        assert "skytells_nb.cli.main" in done.stderr
        assert not re.search(r"\| +(pandas|numpy|httpx|pydantic)$", done.stderr, re.MULTILINE)
        shown.append(done.stdout)

    assert shown[0] == shown[1]
    assert "doctor" in shown[0]


def test_an_error_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    """No stack of frames for a person's mistake."""
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 1

    shown = capsys.readouterr().err
    assert shown.startswith("LocalServerError: ")
    assert "0.0.0.0" in shown
    assert "Traceback" not in shown


def test_unknown_faults_are_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """``--faults`` is read before the port is opened."""
    assert cli.main(["serve", "--port", "0", "--faults", "gremlins=3"]) == 1

    assert "gremlins" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(local_server: LocalServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Two servers cannot share a port, and the message says which."""
    assert cli.main(["serve", "--port", str(local_server.port)]) == 1

    assert str(local_server.port) in capsys.readouterr().err


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``serve`` in a process of its own, on a free port, with a known key."""
    command = [sys.executable, "-u", "-m", "skytells_nb", "serve", "--port", "0", "--api-key", KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        yield process
        if process.poll() is None:
            process.kill()


def test_serve_answers_until_interrupted(serving: subprocess.Popen[str]) -> None:
    """The banner names an address that accepts the key; Ctrl-C ends it without a traceback."""
    assert serving.stdout is not None
    address = next(found[0] for line in serving.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/v1", line)))

    request = urllib.request.Request(f"{address}/models", headers={"x-api-key": KEY})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200

    serving.send_signal(signal.SIGINT)
    rest = serving.stdout.read()
    assert serving.wait(timeout=60) in (0, 130)
    assert "Traceback" not in rest


def test_cache_stats_says_where_and_how_much(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``cache`` alone means ``cache stats``."""
    assert cli.main(["cache"]) == 0
    alone = capsys.readouterr().out
    assert cli.main(["cache", "stats"]) == 0

    assert capsys.readouterr().out == alone
    assert str(cache) in alone
    assert "3 responses" in alone


def test_prune_leaves_what_fits(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--max-mb`` leaves the newest responses up to that size."""
    assert cli.main(["cache", "prune", "--max-mb", "0.00015"]) == 0

    assert entries(cache) == 1
    counts, sizes, file = capsys.readouterr().out.splitlines()
    assert counts == "2 responses removed, 1 left"
    assert sizes == "0.0 MB removed, 0.0 MB left"
    assert re.fullmatch(
        r"the file had 0\.\d MB and has 0\.\d MB(, of which 0\.\d MB are free for new responses)?", file
    )


def test_prune_by_age_keeps_what_is_young(cache: Path) -> None:
    """Answers of today are not older than a day."""
    assert cli.main(["cache", "prune", "--older-than-days", "1"]) == 0

    assert entries(cache) == 3


def test_prune_without_a_limit_removes_nothing(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit is required: paid responses are not removed by accident."""
    assert cli.main(["cache", "prune"]) == 1

    assert "--max-mb" in capsys.readouterr().err
    assert entries(cache) == 3


def test_export_writes_a_recording_of_everything_once(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "recording.sqlite"
    assert cli.main(["cache", "export", str(target)]) == 0

    assert capsys.readouterr().out.splitlines()[1].startswith("3 responses, ")
    store = open_store(f"replay:{target}", default_dir=tmp_path)
    assert store.get_many([bytes([n]) * 32 for n in range(3)]) == [b"x" * 100] * 3
    store.close()
    # An existing file is replaced where that is asked for, and only if it is a recording.
    assert cli.main(["cache", "export", str(target)]) == 1
    assert cli.main(["cache", "export", str(target), "--force"]) == 0
    assert cli.main(["cache", "export", str(cache), "--force"]) == 1
    assert entries(cache) == 3


def test_an_empty_cache_is_not_exported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SKYTELLS_CACHE", str(tmp_path / "empty.sqlite"))
    assert cli.main(["cache", "export", str(tmp_path / "recording.sqlite")]) == 1

    assert "holds no response" in capsys.readouterr().err
    assert not (tmp_path / "recording.sqlite").exists()


def test_clear_asks_first(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal to ask on, nothing is removed."""
    assert cli.main(["cache", "clear"]) == 1

    assert "--yes" in capsys.readouterr().out
    assert entries(cache) == 3


def test_clear_removes_everything_when_told(cache: Path) -> None:
    """``--yes`` is the answer to the question."""
    assert cli.main(["cache", "clear", "--yes"]) == 0

    assert entries(cache) == 0


def test_doctor_without_a_key_says_both_ways_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1: a first call would fail, and the reason names what to do."""
    assert cli.main(["doctor"]) == 1

    shown = capsys.readouterr().out
    assert re.search(r"^  key +none$", shown, re.MULTILINE)
    assert "SKYTELLS_API_KEY" in shown
    assert "SKYTELLS_BASE_URL=local" in shown


def test_doctor_never_shows_the_key(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says where the key comes from, and that is all."""
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)

    assert cli.main(["doctor"]) == 0

    shown = capsys.readouterr().out
    assert "from the environment (SKYTELLS_API_KEY)" in shown
    assert KEY not in shown


def test_doctor_never_shows_a_key_that_cannot_be_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key pasted with a space in it is refused without being quoted."""
    monkeypatch.setenv("SKYTELLS_API_KEY", "sk-torn apart")

    assert cli.main(["doctor"]) == 1

    assert "torn" not in capsys.readouterr().out


def test_doctor_on_the_local_skytells_needs_no_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With everything installed a local setting is ready as it is."""
    monkeypatch.setenv("SKYTELLS_BASE_URL", "local")

    assert cli.main(["doctor"]) == 0

    shown = capsys.readouterr().out
    assert "small models on this machine" in shown
    assert re.search(r"local-\S+ +ready", shown)


def test_doctor_names_a_setting_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad setting is a finding, not a crash."""
    monkeypatch.setenv("SKYTELLS_MAX_RETRIES", "often")

    assert cli.main(["doctor"]) == 1

    assert "max_retries" in capsys.readouterr().out


def test_doctor_lists_the_extras_of_the_package() -> None:
    """Every extra with distributions of its own has a line; the list is that of the installed package."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    own = {name for name, lines in extras.items() if any(not line.startswith("skytells-nb") for line in lines)}
    installed = set(metadata.metadata("skytells-nb").get_all("Provides-Extra", ()))

    assert {name for name, _ in doctor.examine().sections["extras"]} == own & installed


def test_doctor_leaves_the_network_alone(monkeypatch: pytest.MonkeyPatch, blocked_connections: list[str]) -> None:
    """It can be run anywhere: it makes no request."""
    monkeypatch.setenv("SKYTELLS_API_KEY", KEY)

    doctor.examine()

    assert blocked_connections == []


@pytest.mark.slow
def test_local_install_says_where_the_model_is(chat_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second call downloads nothing."""
    assert cli.main(["local", "install"]) == 0

    assert str(chat_weights) in capsys.readouterr().out


def test_the_script_and_the_module_are_the_same_program() -> None:
    """``skytells-nb`` and ``python -m skytells_nb`` read the same arguments."""
    script = Path(sys.executable).with_name("skytells-nb")
    assert os.access(script, os.X_OK)

    shown = [
        subprocess.run([*command, "cache", "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
        for command in ([script], [sys.executable, "-m", "skytells_nb"])
    ]

    assert shown[0] == shown[1]
