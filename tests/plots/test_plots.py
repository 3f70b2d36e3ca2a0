"""What every figure promises: light imports, text shown as it is, words beside the picture."""

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


def test_importing_plots_loads_nothing_heavy() -> None:
    """Plotly, pandas and UMAP wait for the first figure: plots adds none of them to what the package itself loads."""
    code = (
        f"import sys, skytells_nb; before = set(sys.modules); import skytells_nb.plots;"
        f"print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_no_module_of_plots_imports_pandas_or_plotly_at_its_top() -> None:
    """Held on the source as well, because the package may have loaded pandas before plots is looked at."""
    for path in Path(plots.__file__).parent.rglob("*.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        named = {a.name.split(".")[0] for n in top if isinstance(n, ast.Import) for a in n.names}
        named |= {(n.module or "").split(".")[0] for n in top if isinstance(n, ast.ImportFrom)}
        assert not named & set(HEAVY), path.name


def test_public_names_are_functions_after_their_modules_were_imported() -> None:
    """``plots.safety`` is the chart, though a module of that name exists."""
    import skytells_nb.plots.maps.semantic_map  # noqa: F401

    assert callable(plots.safety)
    assert callable(plots.semantic_map)


@given(st.text(max_size=400))
def test_no_text_can_carry_markup_or_references_into_a_figure(text: str) -> None:
    """Tags, MathJax and template references are all written as entities, whatever the text."""
    shown = theme.wrapped(text, limit=100).replace("<br>", "")
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
def test_special_text_is_written_out(text: str, shown: str) -> None:
    """Plotly shows exactly the characters of the text."""
    assert theme.escaped(text) == shown


def test_long_text_is_cut_and_wrapped_before_it_is_escaped() -> None:
    """A cut never falls inside an entity, and the limit counts characters as the reader sees them."""
    lines = theme.wrapped("<" * 1_000, width=50, limit=100).split("<br>")
    assert lines == ["&lt;" * 50, "&lt;" * 49 + "…"]


@pytest.mark.parametrize(
    ("name", "ground"), [(None, "rgba(0,0,0,0)"), ("light", "#ffffff"), ("dark", "#111111")], ids=str
)
def test_each_theme_has_its_ground(name: theme.Theme | None, ground: str) -> None:
    """Transparent by default, white or near black where asked."""
    layout = theme.template(name).layout
    assert (layout.paper_bgcolor, layout.plot_bgcolor) == (ground, ground)


def test_an_unknown_theme_is_refused() -> None:
    """The error names the themes there are."""
    with pytest.raises(InputError, match='"light" or "dark", not \'solarized\''):
        theme.template("solarized")  # type: ignore[arg-type]


def test_the_default_template_of_the_user_stays() -> None:
    """A figure brings its own template and leaves plotly's default alone."""
    before = pio.templates.default
    figure = theme.apply_theme(go.Figure(), theme=None, title="t", caption="c", summary="s")
    assert pio.templates.default == before
    assert figure.layout.template.layout.font.color == theme.GREY


def test_the_summary_is_read_back() -> None:
    """``summary`` gives the words of a figure of ours, and nothing for any other."""
    figure = theme.apply_theme(go.Figure(), theme=None, title=None, caption="c", summary="12 rows")
    assert plots.summary(figure) == "12 rows"
    assert plots.summary(go.Figure()) == ""


def test_names_are_cut_in_their_middle() -> None:
    """Names of a kind differ at their ends; the limit counts characters as the reader sees them."""
    assert theme.short("a <b>", 30) == "a &lt;b&gt;"
    cut = [theme.short(f"The same long beginning of many names: {kind}", 20) for kind in ("bikes", "trams")]
    assert cut == ["The same lon…: bikes", "The same lon…: trams"]
    assert theme.short("<" * 50, 10) == "&lt;" * 6 + "…" + "&lt;" * 3
