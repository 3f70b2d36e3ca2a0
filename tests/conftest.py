"""What every test stands on: settings of its own, a real local Skytells, and no way off this machine."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from skytells_nb.local.server import LocalServer
    from skytells_nb.session import Session

# How long an example takes says nothing where every core has something else to do as well.
settings.register_profile("shared", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

CI = os.environ.get("CI", "").lower() in ("1", "true")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MOST_WORKERS = 4
"""Each loads the models for itself."""
KEPT = ("SKYTELLS_LOCAL_DIR", "SKYTELLS_LOCAL_MODEL")
"""Where the local models are is a fact of the machine, not a setting under test."""

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_blocked: list[str] = []


class NetworkBlocked(BaseException):
    """A test tried to leave this machine. No ``except Exception`` swallows it."""


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return
    address = arguments[1]
    if not isinstance(address, tuple) or _stays_here(str(address[0])):
        return
    _blocked.append(f"{address[0]}:{address[1]}")
    raise NetworkBlocked(f"A test tried to reach {address[0]}:{address[1]}; only this machine may be reached.")


def _stays_here(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


# An audit hook sees every connection of this process, also those made in C and in other threads.
sys.addaudithook(_guard)


def pytest_unconfigure() -> None:
    """Each shell that a test made collects all garbage as the process ends: for some hundred of them, two minutes."""
    displayhook = sys.modules.get("IPython.core.displayhook")
    if displayhook is not None:
        for thing in gc.get_objects():
            if type(thing) is displayhook.DisplayHook:
                thing.do_full_cache = 0


def pytest_configure(config: pytest.Config) -> None:
    """Name the real folders before the tests get empty ones: weights and compiled code are not fetched per test."""
    # A run that a shell has put into the background ignores Ctrl-C, and so would every process that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "skytells-nb" / "numba"))
    from skytells_nb.local.generation import weights

    os.environ["SKYTELLS_LOCAL_DIR"] = str(weights.directory())
    # A developer's own key must neither be found nor sent.
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for folders, whose tests wait a great deal; files and single tests run in this process, at once."""
    folders = any(Path(argument.partition("::")[0]).is_dir() for argument in config.args)
    return min(max(os.cpu_count() or 1, 2), MOST_WORKERS) if folders else 0


# Before xdist's own, which writes the groups into the names.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker has all tests of the browser: they share a server."""
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.xdist_group("browser"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and _chromium() is None:
        message = "Chromium is not installed, so this browser test did not run (Debian: apt-get install chromium)"
        if CI:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)


def _chromium() -> str | None:
    named = os.environ.get("CHROMIUM")
    return named if named else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The browser's program; a test that asks for it is marked ``browser``."""
    found = _chromium()
    assert found, "mark this test with @pytest.mark.browser: it needs Chromium"
    return Path(found)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting, cache or configuration of whoever runs the tests, and no default session from a test before."""
    for name in list(os.environ):
        if name.startswith("SKYTELLS_") and name not in KEPT:
            monkeypatch.delenv(name)
    monkeypatch.setenv("SKYTELLS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SKYTELLS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield
    sessions = sys.modules.get("skytells_nb.session")
    if sessions is not None:
        sessions.reset()


@pytest.fixture(autouse=True)
def blocked_connections() -> Iterator[list[str]]:
    """Addresses this test tried to reach and may not; a test that leaves one in the list fails."""
    _blocked.clear()
    yield _blocked
    assert not _blocked, f"tried to leave this machine: {', '.join(_blocked)}"


@pytest.fixture(scope="session")
def local_server() -> Iterator[LocalServer]:
    """A local Skytells with its real models on a free port, one for the whole run."""
    from skytells_nb.local.server import LocalServer

    with LocalServer() as server:
        yield server


@pytest.fixture(scope="session")
def server(local_server: LocalServer) -> LocalServer:
    """The same, by its short name."""
    return local_server


@pytest.fixture
def session(local_server: LocalServer, tmp_path: Path, isolated: None) -> Session:
    """The default session, connected to the local server by address and key, with a cache of its own."""
    from skytells_nb.session import connect

    return connect(local_server.api_key, base_url=local_server.base_url, cache=tmp_path / "answers.sqlite")


@pytest.fixture(scope="session")
def chat_weights() -> Path:
    """The chat model's file, fetched once into the user's cache; tests that need real text ask for it.

    Without it, or without the runtime for it, they are skipped and say so; in CI they fail.
    """
    from skytells_nb.errors import LocalServerError
    from skytells_nb.local.generation import llama, weights

    try:
        unable = llama.missing()
        if unable:
            raise LocalServerError(unable)
        return weights.find() or weights.install(progress=lambda *words: None)
    except LocalServerError as problem:
        if CI:
            raise
        pytest.skip(f"no chat model: {problem}")
