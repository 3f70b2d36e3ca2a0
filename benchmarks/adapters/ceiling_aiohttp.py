"""No library: what this machine and the server allow, without retries, limits, cache, checks or a frame."""

from __future__ import annotations

import asyncio
import binascii
import importlib
from typing import Any

from benchmarks.contract import Run

IMPORT = "import aiohttp, orjson"
PACKAGES = ("aiohttp", "uvloop", "orjson", "numpy")
KEY = b'"embedding":"'


def setup(run: Run) -> None:
    for name in PACKAGES:
        importlib.import_module(name)


def embed(texts: list[str], run: Run) -> Any:
    """Base64 decoded straight from the body into one matrix: no JSON is parsed."""
    import aiohttp
    import numpy as np
    import orjson
    import uvloop

    dimensions, step = run.workload.dimensions, run.inputs_per_request
    matrix = np.empty((len(texts), dimensions), np.float32)
    raw = matrix.view(np.uint8)
    length = -(-(dimensions * 4) // 3) * 4

    async def main() -> None:
        gate = asyncio.Semaphore(run.in_flight)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, read_bufsize=1 << 22) as session:

            async def one(start: int) -> None:
                asked = {
                    "model": "m",
                    "input": texts[start : start + step],
                    "encoding_format": "base64",
                    "dimensions": dimensions,
                }
                async with gate, session.post(f"{run.base_url}/embeddings", data=orjson.dumps(asked)) as answer:
                    body = await answer.read()
                for row, piece in enumerate(body.split(KEY)[1:], start):
                    raw[row] = np.frombuffer(binascii.a2b_base64(piece[:length]), np.uint8)

            await asyncio.gather(*(one(start) for start in range(0, len(texts), step)))

    uvloop.run(main())
    return matrix


def chat(texts: list[str], run: Run) -> Any:
    import aiohttp
    import orjson
    import uvloop

    async def main() -> list[str | None]:
        gate = asyncio.Semaphore(run.in_flight)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one(text: str) -> str | None:
                asked = {"model": "m", "messages": [{"role": "user", "content": text}]}
                async with gate, session.post(f"{run.base_url}/chat/completions", data=orjson.dumps(asked)) as answer:
                    body = orjson.loads(await answer.read())
                return str(body["choices"][0]["message"]["content"]) if answer.status == 200 else None

            return await asyncio.gather(*(one(text) for text in texts))

    return uvloop.run(main())
