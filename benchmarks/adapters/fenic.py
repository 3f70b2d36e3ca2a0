"""fenic's semantic.map and semantic.embed. It has to be told limits; they are far away unless the workload has one."""

from __future__ import annotations

import logging
from typing import Any

from benchmarks.contract import Run

IMPORT = "import fenic"
PACKAGES = ("fenic", "openai")


def setup(run: Run) -> None:
    import fenic as fc

    logging.disable(logging.WARNING)
    limits: dict[str, Any] = {
        "rpm": int(run.permitted_per_s * 60) or 10_000_000,
        "tpm": 2_000_000_000,
        "base_url": run.base_url,
    }
    cache = {}
    if run.cached:
        from fenic.api.session.config import LLMResponseCacheConfig

        cache["llm_response_cache"] = LLMResponseCacheConfig(ttl="7d", max_size_mb=4000)
    semantic = fc.SemanticConfig(
        language_models={"chat": fc.OpenAILanguageModel(model_name=run.chat_model, **limits)},
        embedding_models={"embed": fc.OpenAIEmbeddingModel(model_name=run.embedding_model, **limits)},
        **cache,
    )
    config = fc.SessionConfig(app_name="bench", db_path=run.cache_dir, semantic=semantic)
    run.state["session"] = fc.Session.get_or_create(config)


def embed(texts: list[str], run: Run) -> Any:
    import fenic as fc

    frame = run.state["session"].create_dataframe({"text": texts})
    return frame.with_column("vector", fc.semantic.embed(fc.col("text"))).to_polars()["vector"]


def chat(texts: list[str], run: Run) -> Any:
    import fenic as fc

    frame = run.state["session"].create_dataframe({"text": texts})
    asked = fc.semantic.map("Answer: {{ text }}", text=fc.col("text"))
    return frame.with_column("answer", asked).to_polars()["answer"].to_list()
