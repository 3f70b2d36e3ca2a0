"""openaivec's ``.aio`` accessor. Tuned: one row a request for completions, fixed batches for embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pandas as pd

from benchmarks.contract import Run

IMPORT = "import openaivec.pandas_ext"
PACKAGES = ("openaivec", "openai", "pandas")
INSTRUCTIONS = "Answer each message."


def setup(run: Run) -> None:
    import openaivec
    import openaivec.pandas_ext

    openaivec.set_embeddings_model(run.embedding_model)
    openaivec.set_responses_model(run.chat_model)
    # Its client is bound to the first loop that used it, so one loop serves all calls, as in a notebook.
    run.state["loop"] = asyncio.new_event_loop()


def embed(texts: list[str], run: Run) -> Any:
    series: Any = pd.Series(texts)
    if run.cached:
        return _with_cache(run, lambda cache: series.aio.embeddings_with_cache(cache=cache), run.inputs_per_request)
    if run.tuned:
        return _finish(run, series.aio.embeddings(batch_size=run.inputs_per_request, max_concurrency=run.in_flight))
    return _finish(run, series.aio.embeddings())


def chat(texts: list[str], run: Run) -> Any:
    series: Any = pd.Series(texts)
    if run.cached:
        return _with_cache(run, lambda cache: series.aio.responses_with_cache(INSTRUCTIONS, cache=cache), 1)
    if run.tuned:
        from openaivec._retry import RetryPolicy

        policy = RetryPolicy(max_attempts=10)
        asked = series.aio.responses(INSTRUCTIONS, batch_size=1, max_concurrency=run.in_flight, retry_policy=policy)
        return _finish(run, asked)
    return _finish(run, series.aio.responses(INSTRUCTIONS))


def _with_cache(run: Run, call: Any, batch_size: int) -> Any:
    """Its DuckDB store has no public name yet."""
    from openaivec._cache import AsyncBatchCache
    from openaivec._cache._backend import DuckDBCacheBackend

    async def go() -> Any:
        store = DuckDBCacheBackend.of(str(run.cache_dir / "answers.duckdb"))
        cache = AsyncBatchCache(batch_size=batch_size, max_concurrency=run.in_flight, cache=store)
        try:
            return await call(cache)
        finally:
            store.close()

    return _finish(run, go())


def _finish(run: Run, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return run.state["loop"].run_until_complete(coroutine)
