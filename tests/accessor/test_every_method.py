"""What holds for every public method of both accessors: an example that runs, a line in the read-me."""

from __future__ import annotations

import atexit
import inspect
import warnings
from pathlib import Path
from typing import Any

import jedi
import numpy as np
import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell
from judges import WordJudge, run_examples
from served import connected, served

from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.columns import from_matrix, to_arrow
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.session import Session

README = (Path(__file__).parent.parent.parent / "README.md").read_text()
SIMILARITY = ("search", "similar", "dedupe", "cluster", "topics", "join")
"""Methods whose examples compare meanings, which takes the real embedder."""


def methods(*, near: bool) -> list[Any]:
    found = [
        (accessor, name)
        for accessor in (FrameAccessor, SeriesAccessor)
        for name in dir(accessor)
        if not name.startswith("_") and (name in SIMILARITY) is near
    ]
    return [pytest.param(*each, id=f"{each[0].__name__}.{each[1]}") for each in found]


def function(accessor: type, name: str) -> Any:
    found = inspect.getattr_static(accessor, name)
    return found.fget if isinstance(found, property) else found


@pytest.mark.parametrize(("accessor", "name"), methods(near=True) + methods(near=False))
def test_it_has_an_example_and_is_in_the_read_me(accessor: type, name: str) -> None:
    docstring = inspect.getdoc(function(accessor, name)) or ""
    assert "Examples\n--------\n>>> " in docstring
    assert f"`{name}`" in README


@pytest.mark.parametrize(("accessor", "name"), methods(near=False))
def test_its_example_runs(accessor: type, name: str, judge: WordJudge) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        run_examples(function(accessor, name))


@pytest.mark.parametrize(("accessor", "name"), methods(near=True))
def test_its_example_of_similarity_runs(accessor: type, name: str, session: Session) -> None:
    run_examples(function(accessor, name))


@pytest.mark.parametrize(("accessor", "name"), methods(near=True) + methods(near=False))
def test_no_keyword_is_taken_and_forgotten(accessor: type, name: str) -> None:
    """A misspelt one is an error before anything is sent, also without a server or a key."""
    if isinstance(inspect.getattr_static(accessor, name), property):
        return
    parameters = inspect.signature(function(accessor, name)).parameters
    asked: Any = pd.DataFrame({"t": ["a"]}) if accessor is FrameAccessor else pd.Series(["a"])
    needed = [p.name for p in parameters.values() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    given = {"column": "t", "labels": ["a", "b"], "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
    given |= {"template": "{t}", "question": "q", "to": "French", "query": "q", "row": 0, "other": asked, "on": "t"}
    given |= {"method": "embed"}
    with pytest.raises((ValueError, TypeError), match="modle"):
        getattr(asked.skytells, name)(**{each: given.get(each, "words") for each in needed}, modle="x")


DEFAULTS = {
    **dict.fromkeys(("model", "params", "rows_per_request", "budget", "max_in_flight", "cache", "session", "retry")),
    **dict.fromkeys(("requests_per_minute", "tokens_per_minute", "sample", "top_p", "stop", "reasoning_effort")),
    **{"on_error": "warn", "progress": True, "safety": "keep", "details": False, "fresh": False, "dry_run": False},
}
"""Of the parameters that mean the same in every method."""


@pytest.mark.parametrize(("accessor", "name"), methods(near=True) + methods(near=False))
def test_common_parameters_have_the_same_default_everywhere(accessor: type, name: str) -> None:
    if isinstance(inspect.getattr_static(accessor, name), property):
        return
    parameters = inspect.signature(function(accessor, name)).parameters
    found = {each: parameters[each].default for each in DEFAULTS if each in parameters}
    assert found == {each: DEFAULTS[each] for each in found}


def test_a_shell_completes_and_explains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TAB and ? do in a notebook."""
    # Jedi fails without a word where another process is just writing to the folder that all of them share.
    monkeypatch.setattr(jedi.settings, "cache_directory", str(tmp_path))
    shell = InteractiveShell.instance()
    shell.Completer.debug = True
    try:
        shell.run_cell("import pandas as pd, skytells_nb; df = pd.DataFrame({'text': ['a']}); s = df['text']")
        for code, accessor in (("df.skytells.", FrameAccessor), ("s.skytells.", SeriesAccessor)):
            public = {name for name in dir(accessor) if not name.startswith("_")}
            with provisionalcompleter():
                assert public <= {each.text.removeprefix(".") for each in shell.Completer.completions(code, len(code))}
        for call, keyword in (
            ("s.skytells.classify(lab", "labels="),
            ("s.skytells.classify(tempe", "temperature="),
            ("df.skytells.extract(max_t", "max_tokens="),
            ("df.skytells.embed(budg", "budget="),
        ):
            with provisionalcompleter():
                assert keyword in {each.text for each in shell.Completer.completions(call, len(call))}
        told = shell.object_inspect_mime("s.skytells.classify")["text/plain"]
        assert "labels" in told
        assert "rows_per_request" in told
        assert "fits each text best" in told
        assert "budget : float, optional" in told
    finally:
        shell.reset(new_session=False)
        InteractiveShell.clear_instance()
        # Its history is in a folder that ends with this test.
        atexit.unregister(shell.atexit_operations)


def test_a_column_has_the_methods_of_its_frame(tmp_path: Path, judge: WordJudge) -> None:
    texts = pd.Series(["good cat", None, "bad dog", "good cat"], index=[3, 3, 1, 0], name="label")
    labels = texts.skytells.classify(["good", "bad"], progress=False)
    assert labels.tolist()[0::2] == ["good", "bad"]
    assert labels.index.equals(texts.index)
    assert (labels.name, labels.isna().sum()) == ("label", 1)
    assert labels.skytells.report.distinct == texts.skytells.report.distinct == 2
    several = texts.skytells.classify(["good", "dog"], multi=True, progress=False)
    assert several.columns.tolist() == ["label_good", "label_dog"]
    assert texts.skytells.translate("French", details=True, progress=False).shape == (4, 11)
    verdicts = texts.skytells.moderate(progress=False)
    assert verdicts["moderation_filtered"].isna().tolist() == [False, True, False, False]
    assert len(verdicts.skytells.safety("moderation")) > 0
    kept = texts.skytells.filter("good?", progress=False)
    assert kept.name == "label"


def test_a_column_in_groups(tmp_path: Path) -> None:
    texts = pd.Series(["same", "same", None, "other"], index=list("abca"), name="t")
    with served(generator=WordJudge()) as server, connected(server, tmp_path / "c.sqlite"):
        assert texts.skytells.dedupe(progress=False).dropna().tolist() == ["same", "other"]
        for word in ("keep", "details"):
            with pytest.raises(InputError, match=f"Unknown keyword '{word}'"):
                texts.skytells.dedupe(progress=False, **{word: "groups"})
        groups = texts.skytells.cluster(2, name=False, progress=False)
        assert groups.isna().tolist() == [False, False, True, False]
        assert pd.Series(["Ann came", "Bob left"]).skytells.summarize(progress=False) == "Ann Bob"


def test_a_styled_frame_can_be_read(tmp_path: Path) -> None:
    cells = from_matrix(np.ones((2, 512), dtype=np.float32), rows=[1, -1])
    frame = pd.DataFrame(
        {"<i>": ["<b>", None], "v": cells, "arrow": to_arrow(cells), "n": [0.5, None]}
    ).convert_dtypes()
    html = frame.assign(label=pd.Categorical(["x", None])).skytells.style().to_html()
    assert html.count("[1, 1, 1, … 512]") == 2
    assert html.count(">—<") == 5
    assert "<b>" not in html
    assert "<i>" not in html
    assert len(html) < 8000
