"""langchain-openai: OpenAIEmbeddings with CacheBackedEmbeddings, ChatOpenAI.batch with SQLiteCache."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.contract import Run

IMPORT = "from langchain_openai import ChatOpenAI, OpenAIEmbeddings"
PACKAGES = ("langchain-openai", "langchain-core", "openai")


def setup(run: Run) -> None:
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    step = {"chunk_size": run.inputs_per_request, "check_embedding_ctx_length": False} if run.tuned else {}
    chat_settings: dict[str, Any] = {"max_retries": 8} if run.tuned else {}
    if run.tuned and run.permitted_per_s:
        from langchain_core.rate_limiters import InMemoryRateLimiter

        # The one peer that is told the limit: it has a setting for it.
        chat_settings["rate_limiter"] = InMemoryRateLimiter(
            requests_per_second=run.permitted_per_s, check_every_n_seconds=0.01, max_bucket_size=run.permitted_per_s
        )
    run.state["chat"] = ChatOpenAI(model=run.chat_model, **chat_settings)
    run.state["embed"] = OpenAIEmbeddings(model=run.embedding_model, **step)
    if run.cached and run.workload.kind == "embed":
        from langchain_classic.embeddings import CacheBackedEmbeddings
        from langchain_classic.storage import LocalFileStore

        run.state["embed"] = CacheBackedEmbeddings.from_bytes_store(
            run.state["embed"],
            LocalFileStore(str(run.cache_dir / "vectors")),
            namespace=run.embedding_model,
            key_encoder="sha256",
            batch_size=run.inputs_per_request,
        )
    elif run.cached:
        from langchain_community.cache import SQLiteCache
        from langchain_core.globals import set_llm_cache

        set_llm_cache(SQLiteCache(str(run.cache_dir / "answers.db")))


def embed(texts: list[str], run: Run) -> Any:
    embedder, step = run.state["embed"], run.inputs_per_request
    if not run.tuned or run.cached:
        return embedder.embed_documents(texts)

    async def main() -> list[Any]:
        # embed_documents sends one request after the other: its users fan out by hand.
        gate = asyncio.Semaphore(run.in_flight)

        async def one(start: int) -> Any:
            async with gate:
                return await embedder.aembed_documents(texts[start : start + step])

        parts = await asyncio.gather(*(one(start) for start in range(0, len(texts), step)))
        return [vector for part in parts for vector in part]

    return asyncio.run(main())


def chat(texts: list[str], run: Run) -> Any:
    config = {"max_concurrency": run.in_flight} if run.tuned else None
    answers = run.state["chat"].batch(texts, config=config, return_exceptions=run.tuned)
    return [None if isinstance(answer, Exception) else answer.content for answer in answers]
