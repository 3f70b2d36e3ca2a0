"""The page on loops, threads and pipelines, run as cells of a real kernel, whose event loop is running."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel
from local_fakes import fake_server
from served import KEY, wait_until_idle

PAGE = (Path(__file__).parent.parent.parent / "docs" / "pipelines.md").read_text()
CELLS: list[str] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MORE = """
async def within():
    await asyncio.sleep(0)
    return df.skytells.complete("Say: {text}", progress=False)

texts = (await within())["completion"].dropna().tolist()

def alone(row):
    return row.to_frame().T.skytells.complete("Say: {text}", progress=False)["completion"].iloc[0]

rows = df.dropna().apply(alone, axis=1)
"""


@pytest.mark.slow
def test_the_cells_of_the_page_run_in_a_kernel(tmp_path: Path) -> None:
    settings = {"SKYTELLS_API_KEY": KEY, "SKYTELLS_CACHE": str(tmp_path / "c.sqlite")}
    with fake_server(api_key=KEY) as server:
        environment = {**os.environ, **settings, "SKYTELLS_BASE_URL": server.base_url}
        manager, client = start_new_kernel(kernel_name="python3", env=environment)
        try:
            for cell in [*CELLS, MORE]:
                run(client, cell)
            seen = run(
                client,
                "",
                said="said['completion'].dropna().tolist()",
                both="[len(each) for each in both]",
                small="len(small)",
                texts="texts",
                rows="rows.tolist()",
            )
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
        counts = wait_until_idle(server, "chat")
    assert len(CELLS) == 3
    answers = ["Say: a cat sleeps", "Say: a dog runs", "Say: a cat sleeps"]
    assert seen == {
        "said": repr(answers),
        "both": "[4, 4]",
        "small": "2",
        "texts": repr(answers),
        "rows": repr(answers),
    }
    assert counts.inputs == counts.distinct == 4


def run(client: Any, code: str, **expressions: str) -> dict[str, str]:
    """Run a cell that must not fail; the text of each expression after it."""
    reply = client.execute_interactive(code, user_expressions=expressions, output_hook=lambda _: None, timeout=90)
    assert reply["content"]["status"] == "ok", reply["content"]
    return {name: found["data"]["text/plain"] for name, found in reply["content"]["user_expressions"].items()}
