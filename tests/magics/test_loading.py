"""Loading the magics into a shell and taking them out again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from magic_service import Notebook
from pydantic import BaseModel
from traitlets.config import Config

import skytells_nb
from skytells_nb import magics
from skytells_nb.magics.chat_arguments import option_names


@pytest.fixture
def ip() -> Iterator[InteractiveShell]:
    config = Config()
    config.HistoryManager.enabled = False
    config.SkytellsMagics.model = "from-the-file"
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def state(ip: InteractiveShell) -> dict[str, Any]:
    hooks = {
        name: {key: list(chain) for key, chain in dispatch.strs.items()} for name, dispatch in ip.strdispatchers.items()
    }
    return {
        "magics": {kind: dict(named) for kind, named in ip.magics_manager.magics.items()},
        "registry": dict(ip.magics_manager.registry),
        "configurables": list(ip.configurables),
        "hooks": hooks,
        "matchers": list(ip.Completer.custom_matchers),
        "names": dict(ip.user_ns),
    }


def test_unloading_gives_the_shell_back_as_found(ip: InteractiveShell) -> None:
    """Magics, registry, configurables, completers and names are what they were."""
    before = state(ip)
    skytells_nb.load_ipython_extension(ip)
    assert ip.find_cell_magic("skytells_chat")
    assert ip.find_line_magic("skytells")
    skytells_nb.unload_ipython_extension(ip)
    assert state(ip) == before


def test_loading_twice_changes_nothing(ip: InteractiveShell) -> None:
    """A second load leaves one set of magics, and one unload takes it out."""
    before = state(ip)
    magics.load(ip)
    once = state(ip)
    magics.load(ip)
    assert state(ip) == once
    magics.unload(ip)
    magics.unload(ip)
    assert state(ip) == before


def test_a_magic_of_the_same_name_comes_back(ip: InteractiveShell) -> None:
    """What the user had under a name before is there again."""

    def mine(line: str) -> None:
        """The user's own."""

    ip.register_magic_function(mine, magic_kind="line", magic_name="skytells")
    before = state(ip)
    magics.load(ip)
    assert ip.find_line_magic("skytells") is not mine
    magics.unload(ip)
    assert state(ip) == before


def test_a_magic_taken_over_since_is_left_alone(ip: InteractiveShell) -> None:
    """Unloading does not remove what someone registered in the meantime."""

    def mine(line: str) -> None:
        """The user's own."""

    magics.load(ip)
    ip.register_magic_function(mine, magic_kind="line", magic_name="skytells")
    magics.unload(ip)
    assert ip.find_line_magic("skytells") is mine


def test_settings_come_from_the_configuration_file(ip: InteractiveShell) -> None:
    """``c.SkytellsMagics.model`` in ipython_config.py is the default."""
    magics.load(ip)
    assert ip.magics_manager.registry["SkytellsMagics"].model == "from-the-file"
    magics.unload(ip)


def test_no_setting_holds_a_key(ip: InteractiveShell) -> None:
    """%config prints values into the notebook, so a key must not be one of them."""
    magics.load(ip)
    settings = set(ip.magics_manager.registry["SkytellsMagics"].trait_names(config=True))
    assert settings == {"model", "system", "stream", "remote_images"}
    magics.unload(ip)


def completions(ip: InteractiveShell, line: str) -> list[str]:
    with provisionalcompleter():
        found = list(ip.Completer.completions(line, len(line)))
    return [completion.text for completion in found]


def test_options_complete(ip: InteractiveShell) -> None:
    """A dash and Tab offer the options of the magic."""
    magics.load(ip)
    assert {"--model", "--max-tokens"} <= set(completions(ip, "%%skytells_chat --m"))
    assert {n for n in option_names("chat") if n.startswith("--")} <= set(
        completions(ip, "%%skytells_chat -m gpt-5 --")
    )
    magics.unload(ip)


def test_models_variables_formats_and_words_complete(ip: InteractiveShell) -> None:
    """Models follow -m, variables -v and -o, formats -f, and commands %skytells."""
    magics.load(ip)
    ip.user_ns["my_question"] = 1
    assert "deepbrain-router" in completions(ip, "%%skytells_chat -m deep")
    assert "gpt-5" in completions(ip, "%%skytells_chat --model ")
    assert "gpt-5" in completions(ip, "%%skytells_chat --model=gpt")
    assert completions(ip, "%%skytells_chat -v my_q") == ["my_question"]
    assert completions(ip, "%%skytells_chat -o my_q") == ["my_question"]
    assert completions(ip, "%%skytells_chat -f mark") == ["markdown"]
    assert completions(ip, "%skytells mod") == ["models"]
    magics.unload(ip)
    assert "models" not in completions(ip, "%skytells mod")


def test_every_option_with_choices_or_names_completes(
    ip: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes follow --schema, images and variables --image; commands have their options."""
    magics.load(ip)
    monkeypatch.chdir(tmp_path)

    class City(BaseModel):
        name: str

    ip.user_ns.update(city_class=City, city_text="Oslo")
    Path("cat.png").touch()
    assert completions(ip, "%%skytells_chat --schema city") == ["city_class"]
    assert set(completions(ip, "%%skytells_chat --image c")) >= {"cat.png", "city_text"}
    assert completions(ip, "%%skytells_respond --effort m") == ["medium"]
    assert completions(ip, "%%skytells_respond -f html") == ["html-source"]
    assert "--effort" in completions(ip, "%%skytells_respond --e")
    assert "--effort" not in completions(ip, "%%skytells_chat --e")
    assert completions(ip, "%skytells conversations ex") == ["export"]
    assert "--force" in completions(ip, "%skytells conversations export talk --f")
    magics.unload(ip)


def test_conversations_complete_by_name(notebook: Notebook) -> None:
    """Those that there are, of the API that the cell is for."""
    notebook.run("%%skytells_chat --conversation draft\none")
    notebook.run("%%skytells_respond --conversation dream\none")
    assert completions(notebook.shell, "%%skytells_chat --conversation dr") == ["draft"]
    assert completions(notebook.shell, "%%skytells_respond --conversation dr") == ["dream"]
    assert completions(notebook.shell, "%skytells conversations reset dr") == ["draft", "dream"]


def test_completing_a_model_does_not_connect(ip: InteractiveShell) -> None:
    """Tab starts no session and asks no service."""
    import skytells_nb.session as sessions
    from skytells_nb.magics.completer import complete_cell_line

    event = SimpleNamespace(text_until_cursor="%%skytells_chat -m gp", symbol="gp", line="", command="")
    assert "gpt-5" in complete_cell_line("chat", ip, event)
    assert not sessions.has_current()


def test_loading_stays_light() -> None:
    """Plots, Markdown and the local models load when they are used."""
    code = """
import sys
from IPython.core.interactiveshell import InteractiveShell
ip = InteractiveShell.instance()
import skytells_nb
before = set(sys.modules)
import skytells_nb.magics
skytells_nb.magics.load(ip)
new = set(sys.modules) - before
heavy = {"pandas", "plotly",
         "umap", "sklearn", "numba", "pyarrow", "markdown_it", "nh3", "ipywidgets", "skytells_nb.local",
         "skytells_nb.plots", "starlette", "uvicorn", "xllamacpp"}
print(sorted(new & heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
