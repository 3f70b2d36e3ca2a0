"""Redis and PostgreSQL for the tests of shared stores: servers of their own, on free ports, with temporary folders."""

from __future__ import annotations

import atexit
import contextlib
import functools
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

CI = os.environ.get("CI", "").lower() in ("1", "true")
PASSWORD = "p@ss/word:1"
QUOTED = "p%40ss%2Fword%3A1"
_numbers = itertools.count(1)


class StoreServer:
    """A server that tests start, stop, suspend and kill. Each ``address()`` is an empty store of its own on it."""

    kind: str
    programs: tuple[str, ...]

    def __init__(self) -> None:
        missing = [name for name in self.programs if _program(name) is None]
        if missing:
            message = f"{', '.join(missing)} is not installed (Debian: apt-get install redis-server postgresql)"
            if CI:
                pytest.fail(message, pytrace=False)
            pytest.skip(message)
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        atexit.register(self._remove)

    def start(self) -> None:
        """Start it where it is not running, and wait until it responds."""
        if self.process is not None and self.process.poll() is None:
            return
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, **_unprivileged())
        deadline = time.monotonic() + 60
        while not self.responds():
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in an orderly way."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def crash(self) -> None:
        """End it, and all of its processes, at once."""
        assert self.process is not None
        children = self._signal_all(signal.SIGKILL)
        self.process.wait(60)
        # PostgreSQL does not start again beside one that is still there.
        deadline = time.monotonic() + 60
        while any(map(_is_alive, children)):
            assert time.monotonic() < deadline, "the server's processes did not end"
            time.sleep(0.01)

    def suspend(self) -> None:
        """Let it hang: connections stay open and nothing responds."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> list[int]:
        """Send it to the server and to its other processes; their ids."""
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        children = [int(pid) for pid in listed]
        os.kill(self.process.pid, number)
        for pid in children:
            with contextlib.suppress(ProcessLookupError):  # it may have come to its end
                os.kill(pid, number)
        return children

    def _remove(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.crash()
        # Its other processes end a moment later, and may still write.
        for _ in range(50):
            shutil.rmtree(self.folder, ignore_errors=True)
            if not self.folder.exists():
                break
            time.sleep(0.1)

    def command(self) -> list[str]:
        raise NotImplementedError

    def responds(self) -> bool:
        raise NotImplementedError

    def address(self) -> str:
        raise NotImplementedError


class RedisServer(StoreServer):
    kind = "redis"
    programs = ("redis-server",)

    def command(self) -> list[str]:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--requirepass", PASSWORD, "--databases", "1000"]
        _give_to_user(self.folder)
        # Each write is in its file before the response, so a crash loses nothing: with "everysec" it may come later,
        # and "always" would wait for a disk that stalls.
        options += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "no"]
        return [str(_program("redis-server")), *options]

    def responds(self) -> bool:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", self.port)):
                return False
            # While it loads its file, it responds to this with an error.
            connection.sendall(b"AUTH %b\r\nDBSIZE\r\n" % PASSWORD.encode())
            return b":" in connection.recv(100)

    def address(self) -> str:
        return f"redis://:{QUOTED}@127.0.0.1:{self.port}/{next(_numbers)}"


class PostgresServer(StoreServer):
    kind = "postgresql"
    programs = ("initdb", "postgres")

    def __init__(self) -> None:
        super().__init__()
        password = self.folder / "password"
        password.write_text(PASSWORD)
        _give_to_user(self.folder)
        _give_to_user(password)
        command = [str(_program("initdb")), "-D", str(self.folder / "data"), "-U", "sky", "-A", "scram-sha-256"]
        command += ["--pwfile", str(password), "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, timeout=100, **_unprivileged())

    def command(self) -> list[str]:
        options = ["-k", str(self.folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        return [str(_program("postgres")), "-D", str(self.folder / "data"), "-p", str(self.port), *options]

    def responds(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def address(self) -> str:
        import psycopg

        name = f"store_{next(_numbers)}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://sky:{QUOTED}@127.0.0.1:{self.port}/{database}"


SERVERS: dict[str, Callable[[], StoreServer]] = {"redis": RedisServer, "postgresql": PostgresServer}


@functools.cache
def _shared_server(kind: str) -> StoreServer:
    return SERVERS[kind]()


def shared_server(kind: str) -> StoreServer:
    """The server of this kind that the tests of this process share, running."""
    server = _shared_server(kind)
    server.start()
    return server


def _program(name: str) -> str | None:
    places = [*os.environ.get("PATH", "").split(os.pathsep), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    return shutil.which(name, path=os.pathsep.join(places))


def _unprivileged() -> dict[str, object]:
    """How to start what refuses to run as root."""
    if os.getuid() != 0:
        return {}
    user = pwd.getpwuid(65_534)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}


def _give_to_user(path: Path) -> None:
    if os.getuid() == 0:
        user = pwd.getpwuid(65_534)
        os.chown(path, user.pw_uid, user.pw_gid)


def _is_alive(pid: int) -> bool:
    """Whether a process has not yet ended; a zombie has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _free_port() -> int:
    """Return a free port below those that the system chooses: no other program gets it before the server binds it."""
    for port in random.SystemRandom().sample(range(15_000, 32_000), 200):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free")
