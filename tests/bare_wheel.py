"""Run by .ci/run in an environment that holds the wheel and no extras: it imports, and says what it lacks."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

import skytells_nb as sky


def error_message(call: Callable[[], object]) -> str:
    """The message of an entry point whose extra is not installed."""
    try:
        call()
    except sky.errors.MissingExtraError as error:
        return str(error)
    return "it worked"


def main() -> None:
    home = Path(sysconfig.get_paths()["purelib"])
    assert Path(sky.__file__).is_relative_to(home), f"{sky.__file__} is not the installed wheel"
    assert (home / "skytells_nb" / "py.typed").exists(), "py.typed is not in the wheel"
    for module in ("IPython", "plotly", "umap", "starlette", "xllamacpp"):
        assert find_spec(module) is None, f"{module} is installed: this environment is not bare"

    frame = pd.DataFrame({"embedding": [[0.0, 1.0], [1.0, 0.0]]})
    drawn = error_message(lambda: sky.plots.semantic_map(frame))
    assert "pip install 'skytells-nb[plots]'" in drawn, drawn
    started = error_message(lambda: sky.connect(local=True))
    assert "pip install 'skytells-nb[local]'" in started, started

    assert sky.Skytells("sk-none").base_url.startswith("https://")
    print(f"skytells-nb {sky.__version__} imports without extras and names the extra of each entry point")


if __name__ == "__main__":
    main()
