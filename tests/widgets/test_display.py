"""The display mode for each front end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from skytells_nb.errors import ConfigurationError
from skytells_nb.widgets.display import cell_publish, display_mode


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A real shell that is the running one."""
    shell = InteractiveShell.instance()
    yield shell
    InteractiveShell.clear_instance()


def test_without_a_notebook_text_goes_to_the_stream() -> None:
    """Outside IPython the mode is plain, whatever was asked for."""
    assert display_mode("auto", {}) == "plain"
    assert display_mode("live", {}) == "plain"


def test_a_shell_with_outputs_is_live(shell: InteractiveShell) -> None:
    """Where outputs can be updated they are."""
    assert display_mode("auto", {}) == "live"


def test_captured_output_is_final(shell: InteractiveShell) -> None:
    """Under %%capture every update would be an output of its own."""
    with capture_output():
        assert display_mode("auto", {}) == "final"


def test_under_pytest_output_is_final(shell: InteractiveShell) -> None:
    """Tools that check notebooks ignore updates, so there is one output."""
    assert display_mode("auto", {"PYTEST_CURRENT_TEST": "x"}) == "final"


@pytest.mark.parametrize("mode", ["live", "final", "plain"])
def test_the_variable_decides(shell: InteractiveShell, mode: str) -> None:
    """SKYTELLS_NB_STREAM names the mode; an argument comes before it."""
    assert display_mode("auto", {"SKYTELLS_NB_STREAM": mode}) == mode
    assert display_mode(mode, {"SKYTELLS_NB_STREAM": "live"}) == mode


def test_an_unknown_mode_is_an_error() -> None:
    """A misspelled variable is named instead of ignored."""
    with pytest.raises(ConfigurationError, match="SKYTELLS_NB_STREAM must be auto, live, final or plain, got 'fast'"):
        display_mode("auto", {"SKYTELLS_NB_STREAM": "fast"})


def test_output_reaches_the_running_cell(shell: InteractiveShell) -> None:
    """What is published is what the cell captures."""
    with capture_output() as captured:
        cell_publish()({"text/html": "<p>a</p>", "text/plain": "a"}, {"k": 1}, display_id="d", update=False)
    assert captured.outputs[0].data == {"text/html": "<p>a</p>", "text/plain": "a"}
    assert captured.outputs[0].metadata == {"k": 1}


def test_importing_the_widgets_stays_light() -> None:
    """Markdown, the sanitizer and IPython load when something is shown."""
    code = (
        "import sys, skytells_nb.widgets.live, skytells_nb.progress.long_step;"
        "print([m for m in ('markdown_it', 'nh3', 'IPython', 'ipywidgets', 'plotly', 'umap') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert found.stdout.strip() == "[]"
