"""Fixtures of every test: isolated settings, a real local Skytells, and no network beyond this machine."""

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

# Importing thousands of tests leaves little garbage, and looking for it takes seconds.
gc.disable()

CI = os.environ.get("CI", "").lower() in ("1", "true")
# The duration of an example depends on the load of the machine, so it is not checked. In CI the examples are the same
# each time, with any version of hypothesis.
settings.register_profile(
    "shared", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=CI
)
settings.load_profile("shared")

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAX_WORKERS = 4
"""Each worker loads its own copy of the models."""
PRESERVED = ("SKYTELLS_LOCAL_DIR", "SKYTELLS_LOCAL_MODEL")
"""The location of the local models depends on the machine and is not a setting under test."""

_blocked: list[str] = []


class NetworkBlocked(BaseException):
    """A test tried to connect to another machine. Not an Exception, so that ``except Exception`` does not catch it."""


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        return
    address = arguments[1]
    if not isinstance(address, tuple) or _is_loopback(str(address[0])):
        return
    _blocked.append(f"{address[0]}:{address[1]}")
    raise NetworkBlocked(f"A test tried to connect to {address[0]}:{address[1]}; only this machine is allowed.")


def _is_loopback(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


# An audit hook sees every connection of this process, including those made in C and in other threads.
sys.addaudithook(_guard)


def pytest_unconfigure() -> None:
    """Skip the garbage collection of each IPython shell at exit: with a hundred shells it takes two minutes."""
    displayhook = sys.modules.get("IPython.core.displayhook")
    if displayhook is not None:
        for instance in gc.get_objects():
            if type(instance) is displayhook.DisplayHook:
                instance.do_full_cache = 0


# Not after the collection: the process that gives tests to workers collects none.
@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage from here on, but not among the modules and tests, which stay to the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    """Set the real folders before tests get empty ones, so that weights and compiled code are shared by all tests."""
    # A run in the background of a shell ignores Ctrl-C, and the processes that a test interrupts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache / "skytells-nb" / "numba"))
    from skytells_nb.local.generation import weights

    os.environ["SKYTELLS_LOCAL_DIR"] = str(weights.directory())

    from skytells_nb.accessor.structured.validation import import_jsonschema

    # Before nbformat does, which would compile a grammar for seconds.
    import_jsonschema()
    # A developer's own key must not be read or sent.
    os.environ["PYTHON_KEYRING_BACKEND"] = "keyring.backends.null.Keyring"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use workers for folders, one more than cores: tests wait a lot. Single files start faster in this process."""
    folders = any(Path(argument.partition("::")[0]).is_dir() for argument in config.args)
    return min((os.cpu_count() or 1) + 1, MAX_WORKERS) if folders else 0


# Before the hook of xdist, which adds the groups to the names of tests.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all browser tests in one worker: they share a server."""
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
    configured = os.environ.get("CHROMIUM")
    return configured if configured else next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Path of the browser; a test that uses it must be marked ``browser``."""
    path = _chromium()
    assert path, "mark this test with @pytest.mark.browser: it needs Chromium"
    return Path(path)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the settings, cache and configuration of the user; reset the default session afterwards."""
    for name in list(os.environ):
        if name.startswith("SKYTELLS_") and name not in PRESERVED:
            monkeypatch.delenv(name)
    monkeypatch.setenv("SKYTELLS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("SKYTELLS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg-cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # A shell puts a module of its own there, and an emptied one cannot be passed on to a spawned process.
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
    sessions = sys.modules.get("skytells_nb.session")
    if sessions is not None:
        sessions.reset()
    profiles = sys.modules.get("skytells_nb.engine.service.profile")
    if profiles is not None:
        # A later test's server may get the same port.
        profiles.forget_profiles()


@pytest.fixture(autouse=True)
def blocked_connections() -> Iterator[list[str]]:
    """Addresses that were blocked during this test; a test that leaves one in the list fails."""
    _blocked.clear()
    yield _blocked
    assert not _blocked, f"tried to connect to another machine: {', '.join(_blocked)}"


@pytest.fixture(scope="session")
def local_server() -> Iterator[LocalServer]:
    """A local Skytells with its real models on a free port, shared by the whole run."""
    from skytells_nb.local.server import LocalServer

    with LocalServer() as server:
        yield server


@pytest.fixture(scope="session")
def server(local_server: LocalServer) -> LocalServer:
    """Short name of ``local_server``."""
    return local_server


@pytest.fixture
def session(local_server: LocalServer, tmp_path: Path, isolated: None) -> Session:
    """The default session, connected to the local server by address and key, with its own cache."""
    from skytells_nb.session import connect

    return connect(local_server.api_key, base_url=local_server.base_url, cache=tmp_path / "answers.sqlite")


@pytest.fixture(scope="session")
def chat_weights() -> Path:
    """The chat model's file, downloaded once into the user's cache, for tests that need real text.

    Without it, or without its runtime, these tests are skipped with a message; in CI they fail.
    """
    from skytells_nb.errors import LocalServerError
    from skytells_nb.local.generation import llama, weights

    try:
        reason = llama.missing_requirement()
        if reason:
            raise LocalServerError(reason)
        return weights.find() or weights.install(progress=lambda *progress_arguments: None)
    except LocalServerError as problem:
        if CI:
            raise
        pytest.skip(f"no chat model: {problem}")
