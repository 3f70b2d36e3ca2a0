"""A process that may open few files sends fewer requests at once, and says which limit it met."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading

import pytest

resource = pytest.importorskip("resource", reason="limits of open files are those of POSIX")

CLIENT = """
import os, resource, sys, warnings
import pandas as pd
import skytells_nb as sky

url, held, cache = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sky.connect("sk-x", base_url=url, cache=cache)
from skytells_nb.progress import long_step
frame = pd.DataFrame({"t": [f"row {n}" for n in range(120)]})
frame.head(1).skytells.complete("{t}", progress=False)
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 8,) * 2)
files = []
for _ in range(held):
    try:
        files.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        break
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    try:
        answered = frame.skytells.complete("{t}", progress=False, max_in_flight=40)["completion"].notna().sum()
        print("answered", answered)
    except sky.SkytellsError as problem:
        print("raised", type(problem).__name__, problem)
for warning in caught:
    print("warned", warning.message)
"""


def answer(listener: socket.socket) -> None:
    """Answer every request of every connection, each a moment later."""
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    }
    data = json.dumps(body).encode()
    response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data) + data

    def serve(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while stream.readline():
                length = 0
                while line := stream.readline().strip():
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                stream.read(length)
                over.wait(0.02)
                connection.sendall(response)

    over = threading.Event()
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def lines_of(url: str, held: int, cache: str) -> list[str]:
    command = [sys.executable, "-c", CLIENT, url, str(held), cache]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def url() -> str:
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=answer, args=(listener,), daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the open files are counted in /proc")
@pytest.mark.parametrize("cache", ["off", "memory"])
def test_a_run_goes_on_with_the_connections_that_there_are(url: str, cache: str) -> None:
    first, *warnings = lines_of(url, 0, cache)
    assert first == "answered 120"
    (warning,) = warnings
    assert "ulimit -n" in warning
    assert "max_in_flight" in warning


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the open files are counted in /proc")
def test_one_idle_connection_is_enough(url: str) -> None:
    """Nothing more can be opened, but the first call has left a connection."""
    assert lines_of(url, 1000, "off")[0] == "answered 120"
