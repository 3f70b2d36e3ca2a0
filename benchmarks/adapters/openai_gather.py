"""What a careful user writes with the OpenAI SDK: one asynchronous client, a semaphore, gather."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from benchmarks.contract import Run

IMPORT = "import openai"
PACKAGES = ("openai",)


def setup(run: Run) -> None:
    for name in ("openai", "numpy"):
        importlib.import_module(name)
    run.state.update(in_flight=run.in_flight if run.tuned else 10, step=run.inputs_per_request if run.tuned else 100)


def embed(texts: list[str], run: Run) -> Any:
    step = run.state["step"]

    async def main() -> list[list[float]]:
        client, gate = _client(run), asyncio.Semaphore(run.state["in_flight"])

        async def one(start: int) -> list[list[float]]:
            async with gate:
                answer = await client.embeddings.create(model=run.embedding_model, input=texts[start : start + step])
            return [item.embedding for item in answer.data]

        parts = await asyncio.gather(*(one(start) for start in range(0, len(texts), step)))
        return [vector for part in parts for vector in part]

    return asyncio.run(main())


def chat(texts: list[str], run: Run) -> Any:
    async def main() -> Any:
        client, gate = _client(run), asyncio.Semaphore(run.state["in_flight"])

        async def one(text: str) -> Any:
            async with gate:
                answer = await client.chat.completions.create(
                    model=run.chat_model, messages=[{"role": "user", "content": text}]
                )
            return answer.choices[0].message.content

        return await asyncio.gather(*(one(text) for text in texts))

    return asyncio.run(main())


def _client(run: Run) -> Any:
    from openai import AsyncOpenAI

    return AsyncOpenAI(max_retries=10) if run.tuned else AsyncOpenAI()
