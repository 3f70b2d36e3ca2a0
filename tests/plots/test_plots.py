"""Properties of all figures: fast imports, escaped text, themes and summaries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import plotly.graph_objects as go
import plotly.io as pio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytells_nb import plots
from skytells_nb.errors import InputError
from skytells_nb.plots import theme

HEAVY = ("umap", "numba", "sklearn", "plotly", "pandas")


def test_importing_plots_is_light() -> None:
    """plots does not import plotly, pandas or UMAP before the first figure."""
    code = (
        f"import sys, skytells_nb; before = set(sys.modules); import skytells_nb.plots;"
        f"print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_no_module_of_plots_imports_pandas_or_plotly_at_its_top() -> None:
    """Checked in the source as well, because the package may have imported pandas before."""
    for path in Path(plots.__file__).parent.rglob("*.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        named = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        named |= {(n.module or "").split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
        assert not named & set(HEAVY), path.name


def test_public_names_are_functions_after_imports_of_modules() -> None:
    """``plots.semantic_map`` is the function, although a module has that name."""
    import skytells_nb.plots.maps.semantic_map  # noqa: F401

    assert callable(plots.safety)
    assert callable(plots.semantic_map)


@given(st.text(max_size=400))
def test_no_text_adds_markup_or_references_to_a_figure(text: str) -> None:
    """Tags, MathJax and template references of any text are written as entities."""
    shown = theme.wrap_text(text, limit=100).replace("<br>", "")
    assert "<" not in shown
    assert ">" not in shown
    assert "$" not in shown
    assert "%{" not in shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('<a href="x">y</a>', '&lt;a href="x"&gt;y&lt;/a&gt;'),
        ("R&D &lt;", "R&amp;D &amp;lt;"),
        ("$x^2$", "&#36;x^2&#36;"),
        ("%{meta.summary}", "&#37;{meta.summary}"),
        ("a\u202eb\x00c\nd", "a b c d"),
        ("100 %", "100 %"),
    ],
)
def test_special_characters_are_escaped(text: str, shown: str) -> None:
    """Plotly shows the characters of the text literally."""
    assert theme.escape_text(text) == shown


def test_long_text_is_cut_and_wrapped_before_it_is_escaped() -> None:
    """A cut is never inside an entity, and the limit counts visible characters."""
    lines = theme.wrap_text("<" * 1_000, width=50, limit=100).split("<br>")
    assert lines == ["&lt;" * 50, "&lt;" * 49 + "…"]


@pytest.mark.parametrize(
    ("name", "background"),
    [(None, "rgba(0,0,0,0)"), ("light", "#ffffff"), ("print", "#ffffff"), ("dark", "#111111")],
    ids=str,
)
def test_each_theme_has_its_background(name: theme.Theme | None, background: str) -> None:
    """Transparent by default, white for light, nearly black for dark."""
    layout = theme.template(name).layout
    assert (layout.paper_bgcolor, layout.plot_bgcolor) == (background, background)


def test_an_unknown_theme_raises() -> None:
    """The error names the themes."""
    with pytest.raises(InputError, match='"light", "dark" or "print", got \'solarized\''):
        theme.template("solarized")  # type: ignore[arg-type]


def test_the_default_template_is_not_changed() -> None:
    """A figure has its own template; plotly's default stays the same."""
    before = pio.templates.default
    figure = theme.apply_theme(go.Figure(), theme=None, title="t", caption="c", summary="s")
    assert pio.templates.default == before
    assert figure.layout.template.layout.font.color == theme.GRAY


def test_the_summary_of_a_figure_is_returned() -> None:
    """``summary`` is empty for figures of others."""
    figure = theme.apply_theme(go.Figure(), theme=None, title=None, caption="c", summary="12 rows")
    assert plots.summary(figure) == "12 rows"
    assert plots.summary(go.Figure()) == ""


def test_names_are_shortened_in_the_middle() -> None:
    """Similar names differ at their ends; the limit counts visible characters."""
    assert theme.shorten("a <b>", 30) == "a &lt;b&gt;"
    cut = [theme.shorten(f"The same long beginning of many names: {kind}", 20) for kind in ("bikes", "trams")]
    assert cut == ["The same lon…: bikes", "The same lon…: trams"]
    assert theme.shorten("<" * 50, 10) == "&lt;" * 6 + "…" + "&lt;" * 3
