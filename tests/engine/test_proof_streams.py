"""A streamed answer that has started is never retried: it is billed as far as it came."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from served import connected, served, wait_until_idle
from traitlets.config import Config

from skytells_nb import magics
from skytells_nb.errors import InvalidResponseError, SkytellsError, TruncatedStreamError


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    shell = InteractiveShell.instance(config=config)
    magics.load(shell)
    yield shell
    magics.unload(shell)
    InteractiveShell.clear_instance()


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        ("stream_cut_after=1", TruncatedStreamError),
        ("stream_cut_after=4", TruncatedStreamError),
        ("stream_error=4", SkytellsError),
        ("malformed_chunk=4", InvalidResponseError),
        ("no_done", TruncatedStreamError),
    ],
)
def test_a_cell_whose_stream_breaks_off_is_one_request(
    shell: InteractiveShell, faults: str, error: type[Exception]
) -> None:
    """The session allows five tries; the cell fails with what came, and the service counts one request."""
    with served(faults) as server, connected(server, "memory", max_retries=5), capture_output() as shown:
        result = shell.run_cell("%%skytells_chat\none two three four five six")
        assert wait_until_idle(server, "chat").requests == 1
    assert isinstance(result.error_in_exec, error)
    if faults != "stream_cut_after=1":
        assert "one two" in str([output.data for output in shown.outputs])
