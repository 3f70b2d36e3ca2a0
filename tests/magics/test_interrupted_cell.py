"""Ctrl-C in a cell closes its connection, while the service is silent."""

from __future__ import annotations

from typing import Any

import pytest
from magic_service import Notebook, interrupt_when, scripted
from serving import PATIENCE_S, Exchange

from skytells_nb.errors import Interrupted

FIRST = {
    "chat": {"choices": [{"index": 0, "delta": {"content": "word "}}]},
    "respond": {"type": "response.output_text.delta", "delta": "word "},
}


@pytest.mark.parametrize("magic", ["chat", "respond"])
def test_an_interrupted_stream_is_left_and_its_text_kept(shell: Notebook, magic: str) -> None:
    """The server sees the disconnect without having sent another byte; -o holds what arrived."""

    def script(exchange: Exchange) -> None:
        exchange.begin()
        exchange.event(FIRST[magic])
        server.hold(exchange)

    shell.run("%config SkytellsMagics.stream = 'live'")
    with scripted(script) as server:
        interrupter = interrupt_when(server.asked, lambda: getattr(shell.shell.display_pub, "outputs", None))
        ran = shell.run(f"%%skytells_{magic} -o part\nHello")
        interrupter.join(60)
        assert server.left.wait(PATIENCE_S)
    part: Any = shell.shell.user_ns["part"]
    assert isinstance(ran.error, Interrupted)
    assert (str(part), part.finish_reason) == ("word ", "interrupted")
    assert part is shell.shell.user_ns["_sky"]


@pytest.mark.parametrize("magic", ["chat", "respond"])
def test_an_interrupted_whole_answer_is_left_too(shell: Notebook, magic: str) -> None:
    """Nothing had arrived, and the answer in the variable says so."""
    with scripted(lambda exchange: server.hold(exchange)) as server:
        interrupter = interrupt_when(server.asked)
        ran = shell.run(f"%%skytells_{magic} --no-stream -o part\nHello")
        interrupter.join(60)
        assert server.left.wait(PATIENCE_S)
    part: Any = shell.shell.user_ns["part"]
    assert isinstance(ran.error, Interrupted)
    assert (str(part), part.finish_reason) == ("", "interrupted")
