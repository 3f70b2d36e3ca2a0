"""The review without a page: what is judged, stored, taken back, read again, and what ``gold`` is."""

from __future__ import annotations

import doctest
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skytells_nb as sky
from skytells_nb.errors import InputError
from skytells_nb.widgets.review import judgments, review
from skytells_nb.widgets.review.judgments import Judgment, JudgmentFile
from skytells_nb.widgets.review.review import Review

LABELS = ["late", "taste", "price"]


@pytest.fixture
def frame() -> pd.DataFrame:
    texts = [f"text number {number}" for number in range(40)]
    labels = pd.Categorical([LABELS[number % 3] for number in range(40)], categories=LABELS)
    return pd.DataFrame(
        {"text": texts, "label": labels, "label_confidence": 0.5, "shop": "north"}, index=[f"r{n}" for n in range(40)]
    )


@pytest.fixture
def sample(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.skytells.gold_sample("label", 12)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "judged.jsonl"


def press(made: Review, kind: str, **content: Any) -> None:
    """What the page sends about the row that it shows."""
    made.widget._handle_custom_msg({"kind": kind, "row": made.widget.shown["row"], **content}, [])


def test_a_key_judges_the_row_and_shows_the_next(sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file)
    assert made.widget.labels == LABELS
    assert made.widget.shown["row"] == 0
    assert [each["name"] for each in made.widget.shown["fields"]] == ["text", "shop"]
    assert made.widget.shown["fields"][0]["text"] == sample["text"].iloc[0]

    press(made, "judge", label=1)
    assert made.gold.iloc[0] == "taste"
    assert made.widget.shown["row"] == 1
    assert made.progress == (1, 12)
    assert made.widget.status == f"Row 1: taste. The model said {_said(sample, 0, 'taste')}."


def _said(sample: pd.DataFrame, row: int, chosen: str) -> str:
    return "the same" if sample["label"].iloc[row] == chosen else str(sample["label"].iloc[row])


def test_the_models_label_is_on_the_page_only_after_the_row_is_judged(frame: pd.DataFrame, file: Path) -> None:
    """Nor anything else that would tell it, in any trait."""
    frame = frame.assign(label=pd.Categorical(["MARK"] * 40, categories=["MARK", "other"]), label_model="MARK")
    made = Review(frame, "label", labels=["one", "MARK"], file=file)
    state = {name: value for name, value in made.widget.get_state().items() if name not in ("labels", "_esm", "_css")}
    assert "MARK" not in json.dumps(state, default=str)
    press(made, "judge", label=0)
    assert made.widget.status == "Row 1: one. The model said MARK."
    press(made, "go", by=-1)
    assert made.widget.shown["model"] == "MARK"
    press(made, "judge", label=-1)
    assert "model" not in made.widget.shown
    with pytest.raises(InputError, match="text must not name 'label'"):
        Review(frame, "label", text="label", file=file)


def test_undo_takes_back_one_change_after_the_other(sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file)
    for label in (0, 1, 2):
        press(made, "judge", label=label)
    press(made, "note", text="unclear")
    press(made, "undo")
    assert made.notes.empty
    press(made, "undo")
    assert made.widget.shown["row"] == 2
    assert made.gold.dropna().tolist() == ["late", "taste"]
    made.undo()
    made.undo()
    press(made, "undo")
    assert made.widget.status == "Nothing to undo."
    assert made.gold.isna().all()
    assert not made.widget.can_undo or made.progress[0] == 0


def test_it_goes_on_in_another_process_where_it_ended(sample: pd.DataFrame, file: Path) -> None:
    """One that was killed while it wrote a line."""
    first = Review(sample, "label", file=file, annotators=["Ann", "Bo"])
    first.judge("late", note="says so")
    first.judge("taste")
    with file.open("ab") as torn:
        torn.write(b'{"kind": "skytells-review", "annot')
    sample.to_parquet(file.with_suffix(".parquet"))
    code = (
        "import sys, pandas as pd, skytells_nb as sky\n"
        "made = sky.widgets.Review(pd.read_parquet(sys.argv[1]), 'label', file=sys.argv[2], annotators=['Ann', 'Bo'])\n"
        "print(made.progress, made.widget.shown['row'], made.notes['note'].tolist(), made.widget.status)\n"
        "made.judge('price')\n"
    )
    command = [sys.executable, "-c", code, str(file.with_suffix(".parquet")), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.strip() == "(2, 12) 2 ['says so'] 2 rows were judged before.", done.stderr
    # The first one sees what the other process did.
    assert first.gold.dropna().tolist() == ["late", "taste", "price"]


def test_gold_is_what_evaluate_and_share_take(frame: pd.DataFrame, sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file)
    for row in sample.index[:11]:
        made.judge(sample["label"][row], row)
    gold = made.gold
    assert gold.name == "gold"
    assert gold.index.equals(sample.index)
    assert gold.isna().sum() == 1
    found = frame.skytells.evaluate("label", gold=gold)
    assert (found.accuracy, found.n_gold, found.weighted) == (1.0, 11, True)
    assert frame.skytells.share("label", gold=gold)["share"].sum() == pytest.approx(1)


def test_several_annotators_judge_apart(frame: pd.DataFrame, sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file, annotators=["Ann", "Bo"])
    for label in sample["label"]:
        made.judge(label)
    assert isinstance(made.gold, pd.Series)
    press(made, "annotator", name="Bo")
    assert made.annotator == "Bo"
    assert (made.widget.judged, made.widget.shown["row"], made.widget.shown["label"]) == (0, 0, -1)
    for label in ["late", *sample["label"][1:]]:
        made.judge(label)
    gold = made.gold
    assert gold.columns.tolist() == ["Ann", "Bo", "weight"]
    found = frame.skytells.evaluate("label", gold=gold)
    assert found.alpha is not None
    assert found.weighted
    differ = int(sample["label"].iloc[0] != "late")
    assert len(made.examples) == 12 - differ
    with pytest.raises(InputError, match="annotator must be one of 'Ann', 'Bo', got 'Cy'"):
        made.annotator = "Cy"


def test_examples_are_those_of_classify(sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file)
    made.judge("price")
    assert made.examples.to_dict("list") == {"text": [sample["text"].iloc[0]], "label": ["price"]}


def test_hard_rows_give_examples_and_no_interval(frame: pd.DataFrame, file: Path) -> None:
    hard = frame.assign(label_confidence=range(40)).skytells.gold_sample("label", 5, pick="uncertain")
    made = Review(hard, "label", file=file)
    assert "not for intervals" in made.widget.caption
    for label in hard["label"]:
        made.judge(label)
    assert len(made.examples) == 5
    for method in ("evaluate", "share"):
        with pytest.raises(InputError, match="picked by uncertainty"):
            getattr(frame.skytells, method)("label", gold=made.gold)
    with pytest.raises(InputError, match="picked by uncertainty"):
        pd.DataFrame({"label": [1.0, 2.0]}).skytells.mean("label", gold=made.gold.set_axis(range(5)).iloc[:2])


def test_booleans_and_numbers_are_labels_too(file: Path) -> None:
    frame = pd.DataFrame({"text": list("abc"), "ok": [True, False, True], "stars": [1, 2, 3]})
    made = Review(frame, "ok", file=file)
    made.judge(False)
    assert made.gold.tolist() == [False, pd.NA, pd.NA]
    assert frame.skytells.evaluate("ok", gold=made.gold).accuracy == 0.0
    stars = Review(frame, "stars", file=file.with_name("stars.jsonl"))
    stars.judge(3)
    assert stars.gold.tolist()[:1] == [3]


def test_the_file_has_no_text_of_a_row_and_is_named_for_the_rows(
    sample: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = Review(sample, "label")
    made.judge("late")
    assert made.file.parent == tmp_path
    assert made.file.name.startswith("review-label-")
    assert "text number" not in made.file.read_text()
    assert Review(sample, "label").progress == (1, 12)
    assert Review(sample.iloc[:5], "label").progress == (0, 5)
    assert repr(made).endswith(f"in {made.file.name})")
    assert str(tmp_path) not in json.dumps(made.widget.get_state(), default=str)


def test_what_stays_without_a_kernel_says_how_far_each_is(sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file, annotators=["Ann", "<b>Bo"], title="<img src=x>")
    made.judge("late")
    shown = made._static()
    assert "Ann: 1 of 12 judged" in shown["text/plain"]
    assert "<img" not in shown["text/html"]
    assert "<b>" not in shown["text/html"]
    assert "text number" not in shown["text/html"]


def test_odd_messages_of_a_page_change_nothing(sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file)
    for content in (
        None,
        {},
        {"kind": "judge"},
        {"kind": "judge", "row": 99, "label": 0},
        {"kind": "judge", "row": 0, "label": 9},
        {"kind": "judge", "row": 0, "label": "x"},
        {"kind": "annotator", "name": "Eve"},
    ):
        made.widget._handle_custom_msg(content, [])
    assert made.gold.isna().all()


def test_a_full_disk_is_said_and_the_row_stays(sample: pd.DataFrame, file: Path) -> None:
    made = Review(sample, "label", file=file)
    file.mkdir()
    press(made, "judge", label=0)
    assert "The judgment was not stored" in made.widget.status
    assert made.widget.shown["row"] == 0


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda f: f.to_dict(), {}, "frame must be a pandas DataFrame, got dict"),
        (lambda f: f.iloc[:0], {}, "frame must have rows to judge, got none"),
        (lambda f: f.set_axis(["x"] * len(f)), {}, "The index of frame must be unique"),
        (lambda f: f.drop(columns="label"), {}, "label"),
        (lambda f: f.assign(label=0.5), {}, "got numbers with fractions"),
        (lambda f: f, {"labels": ["late"]}, "There must be 2 to 200 labels to choose from, got 1"),
        (lambda f: f, {"labels": ["late", "late"]}, "labels must differ"),
        (lambda f: f, {"labels": "late"}, "labels must be a list of labels"),
        (lambda f: f, {"text": "nothing"}, "nothing"),
        (lambda f: f[["label"]], {}, "no column to show"),
        (lambda f: f, {"annotators": []}, "annotators must be a name"),
        (lambda f: f, {"annotators": ["text", "Bo"]}, "annotators must differ from the columns"),
        (lambda f: f, {"file": "/nowhere/at/all.jsonl"}, "file must be in a folder that exists"),
        (lambda f: f, {"file": __file__}, "which is neither"),
    ],
)
def test_what_cannot_be_reviewed_is_refused(
    sample: pd.DataFrame, file: Path, change: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Review(change(sample), "label", **{"file": file, **options})


CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("judge"), st.integers(0, 3), st.integers(-1, 2)),
        st.tuples(st.just("note"), st.integers(0, 3), st.sampled_from(["", "x", "ü\n"])),
        st.tuples(st.just("undo"), st.just(0), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(CHANGES, st.data())
def test_what_is_read_again_is_what_was_said(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any], data: st.DataObject
) -> None:
    """Against a list of the states so far; also where the file was cut within its last line."""
    path = tmp_path_factory.mktemp("judged") / "file.jsonl"
    file = JudgmentFile(path, [0, "0", ("a", 1), 2.5], LABELS)
    states: list[dict[int, Judgment]] = [{}]
    for kind, row, value in changes:
        if kind == "undo":
            file.undo("me")
            states = states[:-1] or [{}]
            continue
        state = dict(states[-1])
        before = state.get(row, Judgment())
        state[row] = Judgment(value, before.note) if kind == "judge" else Judgment(before.label, value)
        (file.judge if kind == "judge" else file.note)("me", row, value)
        states.append(state)

    def said(rows: dict[int, Judgment]) -> dict[int, tuple[int, str]]:
        return {row: (each.label, each.note) for row, each in rows.items() if each != Judgment()}

    assert said(file.of("me")) == said(states[-1])
    assert said(JudgmentFile(path, [0, "0", ("a", 1), 2.5], LABELS).of("me")) == said(states[-1])
    if changes and path.exists():
        size = path.stat().st_size
        last = len(path.read_bytes().splitlines(keepends=True)[-1])
        os.truncate(path, size - data.draw(st.integers(1, last)))
        cut = JudgmentFile(path, [0, "0", ("a", 1), 2.5], LABELS)
        cut.judge("me", 0, 1)
        assert JudgmentFile(path, [0, "0", ("a", 1), 2.5], LABELS).of("me")[0].label == 1


def test_two_files_open_at_once_see_each_other(file: Path) -> None:
    one, two = (JudgmentFile(file, range(3), LABELS) for _ in range(2))
    one.judge("Ann", 0, 0)
    two.judge("Bo", 0, 1)
    two.judge("Ann", 1, 2)
    one.refresh()
    assert {row: said.label for row, said in one.of("Ann").items()} == {0: 0, 1: 2}
    assert one.annotators == two.annotators == ["Ann", "Bo"]
    assert JudgmentFile(file, [7], LABELS).unknown == 3


def test_the_examples_of_the_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (judgments, review):
        assert doctest.testmod(module).failed == 0


def test_it_is_closed_by_its_context(sample: pd.DataFrame, file: Path) -> None:
    with sky.widgets.Review(sample, "label", file=file) as made:
        made.judge("late")
    made.close()
    assert made.gold.notna().sum() == 1
