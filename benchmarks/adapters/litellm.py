"""litellm: batch_completion in threads, embedding in batches that its user makes. No cache: see ``cells.py``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.contract import Run

IMPORT = "import litellm"
PACKAGES = ("litellm", "openai")


def setup(run: Run) -> None:
    # Without this it asks for a list of prices when it is imported.
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    litellm.suppress_debug_info = True


def embed(texts: list[str], run: Run) -> Any:
    import litellm

    step = run.inputs_per_request if run.tuned else 100

    def one(start: int) -> Any:
        return litellm.embedding(model=run.embedding_model, input=texts[start : start + step])

    with ThreadPoolExecutor(run.in_flight if run.tuned else 1) as threads:
        parts = list(threads.map(one, range(0, len(texts), step)))
    return [item["embedding"] for part in parts for item in part.data]


def chat(texts: list[str], run: Run) -> Any:
    import litellm

    settings = {"max_workers": run.in_flight, "num_retries": 8} if run.tuned else {}
    answers = litellm.batch_completion(
        model=f"openai/{run.chat_model}",
        messages=[[{"role": "user", "content": text}] for text in texts],
        **settings,
    )
    return [None if isinstance(a, Exception) else a.choices[0].message.content for a in answers]
