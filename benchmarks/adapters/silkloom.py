"""silkloom-core's ``df.llm.extract``: threads, and a SQLite cache that is always on. Completions only."""

from __future__ import annotations

import os
from typing import Any

import pandas as pd

from benchmarks.contract import Run

IMPORT = "import silkloom_core"
PACKAGES = ("silkloom-core", "openai", "pandas")


def setup(run: Run) -> None:
    import silkloom_core

    name = "answers.db" if run.cached else f"unused-{os.getpid()}.db"
    silkloom_core.configure(api_key=run.api_key, base_url=run.base_url, cache_path=str(run.cache_dir / name))


def chat(texts: list[str], run: Run) -> Any:
    settings = {"max_workers": run.in_flight, "max_retries": 8} if run.tuned else {}
    done = pd.DataFrame({"text": texts}).llm.extract(
        "Answer: {{ text }}", model=run.chat_model, verbose=False, join=False, **settings
    )
    return done["answer"] if "answer" in done else done.iloc[:, 0]
