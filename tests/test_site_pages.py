"""The pages of the site: every error, setting and variable is on one, and their code runs."""

from __future__ import annotations

import importlib.util
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from skytells_nb import errors
from skytells_nb.config import SettingOptions, Settings
from skytells_nb.local.errors import ERROR_CATALOG
from skytells_nb.local.server import LocalServer
from skytells_nb.session import Session

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROWS = re.compile(r"^\| `([\w.]+)` \| (.*) \|$", re.MULTILINE)


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text("utf-8")


def test_every_error_id_has_a_line_with_its_status_and_class() -> None:
    lines = {name: rest.split(" | ") for name, rest in ROWS.findall(page("errors").partition("## Errors of the")[0])}
    assert lines.keys() == ERROR_CATALOG.keys()
    for error_id, (status, name, retried, _) in lines.items():
        entry = ERROR_CATALOG[error_id]
        body = {"error": {"message": "m", "error_id": error_id, "code": entry.code, "status": entry.status}}
        error = errors.api_error(entry.status, body)
        assert int(status) == entry.status
        assert name == f"`{type(error).__name__}`"
        assert retried.startswith("yes") is isinstance(error, errors.Retryable)
        assert ("ends the call" in retried) is isinstance(error, errors.AccountError)


def test_every_class_of_errors_is_on_the_page() -> None:
    classes = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    general = {"APIError", "AccountError", "Retryable", "SkytellsError", "SkytellsWarning", "TransportError"}
    assert classes - general - set(re.findall(r"`(\w+)`", page("errors"))) == set()


def test_every_setting_has_a_line_with_its_variable_and_default() -> None:
    lines = {name: rest.split(" | ") for name, rest in ROWS.findall(page("settings")) if name in Settings.model_fields}
    assert lines.keys() == Settings.model_fields.keys()
    assert SettingOptions.__annotations__.keys() <= lines.keys()
    for name, (variable, default, _) in lines.items():
        assert variable == f"`SKYTELLS_{name.upper()}`"
        value = Settings.model_fields[name].default
        if isinstance(value, (int, float)):
            assert float(default) == float(value)


def test_every_variable_that_the_package_reads_is_on_the_page() -> None:
    read = set()
    for module in (ROOT / "skytells_nb").rglob("*.py"):
        read |= set(re.findall(r"\bSKYTELLS_[A-Z_]*[A-Z]\b", module.read_text("utf-8")))
    assert read - set(re.findall(r"`(SKYTELLS_\w+)`", page("settings"))) == set()


@pytest.mark.parametrize("name", ["getting_started", "gallery"])
def test_the_code_of_a_page_runs(
    name: str, local_server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page(name), re.MULTILINE | re.DOTALL):
        # UMAP takes most of the time of the gallery; its own tests have it.
        exec(re.sub(r"(semantic_map\(.*?), title=", r'\1, method="pca", title=', block, flags=re.DOTALL), namespace)
    assert isinstance(namespace["session"], Session)
    assert (tmp_path / "map.html").exists() is (name == "getting_started")


@pytest.mark.slow
def test_the_script_for_users_of_the_openai_sdk_runs(chat_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is shown, and it comes to its end: an error that it catches would be printed instead."""
    _, script, loop = re.findall(r"^ *```python\n(.*?)^ *```$", page("openai"), re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(script, namespace)
    assert "(2, 512)\ntopic=" in capsys.readouterr().out
    exec(textwrap.dedent(loop).replace("stream=True", "stream=True, max_tokens=4"), namespace)
    assert capsys.readouterr().out.endswith("length\n")


def test_every_error_of_the_openai_sdk_has_its_class_here() -> None:
    openai = pytest.importorskip("openai")
    rows = re.findall(r"^\| (.*) \| (.*) \|$", page("openai").partition("## Errors")[2], re.MULTILINE)
    theirs = {name for left, _ in rows for name in re.findall(r"`(\w+Error)`", left)}
    ours = {name for _, right in rows for name in re.findall(r"`(\w+Error)`", right)} - {"ValueError"}
    tree = [openai.APIError]
    for kind in tree:
        tree += kind.__subclasses__()
    public = {kind.__name__ for kind in tree if hasattr(openai, kind.__name__)}
    assert {"APITimeoutError", "UnprocessableEntityError"} <= public
    assert (public | {"OpenAIError"}) - theirs == set()
    assert ours - set(errors.__all__) == set()


def test_a_page_of_a_tutorial_draws_its_figures() -> None:
    """They are saved in a form that only notebooks show: on a page each is drawn, by the script of the site."""
    spec = importlib.util.spec_from_file_location("site_conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    notebook = json.loads((ROOT / "notebooks" / "03_see_it.ipynb").read_text("utf-8"))
    saved = [
        output for cell in notebook["cells"] for output in cell.get("outputs", ()) if conf.FIGURE in output["data"]
    ]
    assert len(saved) == 5
    conf.draw_figures(notebook)
    for output in saved:
        assert conf.FIGURE not in output["data"]
        assert output["data"]["text/html"].count("Plotly.newPlot(") == 1
        assert re.findall(r'<script[^>]* src="([^"]+)"', output["data"]["text/html"]) == ["../_static/plotly.min.js"]
    assert len({re.findall(r'id="(figure-\d)"', output["data"]["text/html"])[0] for output in saved}) == 5


def test_every_picture_of_a_page_is_there_in_both_themes_and_described() -> None:
    for path in DOCS.glob("*.md"):
        shown = re.findall(r"\{image\} (\S+)\n:alt: (.+)\n:class: only-(\w+)", path.read_text("utf-8"))
        assert len(shown) == path.read_text("utf-8").count("{image}")
        for image, description, theme in shown:
            assert (DOCS / image).is_file()
            assert image.endswith(f"-{theme}.webp")
            assert len(description) > 15
        assert {image.rpartition("-")[0] for image, _, theme in shown if theme == "light"} == {
            image.rpartition("-")[0] for image, _, theme in shown if theme == "dark"
        }
