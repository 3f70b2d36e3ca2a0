"""What made each column: what is recorded, what keeps it, and what a record must not hold."""

from __future__ import annotations

import enum
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from judges import WordJudge

import skytells_nb as sky
from skytells_nb import files
from skytells_nb.accessor import lineage as recording
from skytells_nb.accessor.call import timed
from skytells_nb.accessor.lineage import describe, plain_arguments, records_of
from skytells_nb.columns import from_matrix
from skytells_nb.errors import RowError, SkytellsWarning
from skytells_nb.partition import enrich

TEXTS = ["late one", "taste two", "late three", None, "taste four", "late five"]
EXAMPLES = [("a private row about taste", "taste")]


@pytest.fixture
def df() -> pd.DataFrame:
    return pd.DataFrame({"id": range(6), "text": TEXTS})


@pytest.fixture
def labeled(df: pd.DataFrame, judge: WordJudge) -> pd.DataFrame:
    return df.skytells.classify("text", ["late", "taste"], progress=False)


def found(frame: pd.DataFrame) -> dict[Any, tuple[str, str]]:
    """Of each column its method, and how its record was found."""
    lineage = frame.skytells.lineage
    return dict(zip(lineage.index, zip(lineage["method"], lineage["found"], strict=True), strict=True))


def test_a_record_says_what_made_the_column(df: pd.DataFrame, judge: WordJudge) -> None:
    made = df.skytells.complete("Say {text}", system="Be brief.", temperature=0.25, seed=7, progress=False)
    row = made.skytells.lineage.loc["completion"]

    assert row["method"] == "complete"
    assert row["model"] == made.skytells.report.model
    assert row["prompt"] == "Be brief.\n\nSay {text}"
    assert len(row["prompt_hash"]) == 64
    assert row["parameters"] == {"temperature": 0.25, "seed": 7}
    assert row["version"] == sky.__version__
    assert abs(pd.Timestamp.now("UTC") - row["time"]) < pd.Timedelta(minutes=5)
    assert row["cost"] == pytest.approx(made.skytells.report.cost)
    assert row["sources"] == ["text"]
    assert row["arguments"] == {"template": "Say {text}", "system": "Be brief.", "temperature": 0.25, "seed": 7}
    assert (row["rows"], row["sent"], row["tokens_out"]) == (6, 5, made.skytells.report.tokens_out)


def test_the_hash_changes_with_the_prompt_and_with_nothing_else(df: pd.DataFrame, judge: WordJudge) -> None:
    def hash_of(**options: Any) -> str:
        made = df.skytells.classify("text", ["late", "taste"], progress=False, **options)
        return str(made.skytells.lineage.loc["label", "prompt_hash"])

    assert hash_of() == hash_of(max_in_flight=2, fresh=True)
    different = [
        hash_of(),
        hash_of(instructions="What is it about?"),
        hash_of(examples=EXAMPLES),
        hash_of(other="none"),
    ]
    assert len(set(different)) == 4


def test_each_method_records_the_columns_that_it_made(df: pd.DataFrame, judge: WordJudge) -> None:
    embedded = df.skytells.embed("text", progress=False)
    calls = {
        "classify": df.skytells.classify("text", ["late", "taste"], multi=True, into="is", progress=False),
        "cluster": embedded.skytells.cluster("embedding", 2, name=False, progress=False),
        "dedupe": embedded.skytells.dedupe("embedding", keep="groups", progress=False),
        "extract": df.skytells.extract("text", {"late": bool}, progress=False),
        "filter": df.skytells.filter("text", "yes?", keep="column", progress=False),
        "join": df.skytells.join(df, on="text", progress=False),
        "moderate": df.skytells.moderate("text", progress=False),
        "search": df.skytells.search("late", "text", progress=False),
        "summarize": df.skytells.summarize("text", progress=False),
        "translate": df.skytells.translate("text", "French", progress=False),
    }
    made = {
        method: sorted(name for name, (by, _) in found(frame).items() if by == method)
        for method, frame in calls.items()
    }
    assert made == {
        "classify": ["is_late", "is_taste"],
        "cluster": ["cluster", "cluster_score"],
        "dedupe": ["group", "group_representative", "group_score"],
        "extract": ["late"],
        "filter": ["matches"],
        "join": ["score"],
        "moderate": [f"moderation_{name}" for name in ("categories", "checked", "filtered", "severity")],
        "search": ["score"],
        "summarize": ["summary"],
        "translate": [calls["translate"].columns[-1]],
    }
    assert found(calls["cluster"])["embedding"] == ("embed", "attrs")
    assert found(df) == {}


def test_a_call_that_leaves_rows_out_is_recorded_without_a_column(df: pd.DataFrame, judge: WordJudge) -> None:
    kept = df.skytells.dedupe("text", progress=False)
    lineage = kept.skytells.lineage
    assert lineage.index.tolist() == [None]
    assert lineage["method"].tolist() == ["dedupe"]


def test_a_column_that_is_made_again_has_the_later_record(labeled: pd.DataFrame) -> None:
    again = labeled.skytells.classify("text", ["late", "taste"], instructions="Again?", progress=False)
    prompts = again.skytells.lineage["prompt"].tolist()
    assert len(prompts) == 1
    assert prompts[0].startswith("Again?")


def test_pandas_keeps_the_record(labeled: pd.DataFrame, tmp_path: Path) -> None:
    labeled.to_parquet(tmp_path / "frame.parquet")
    labeled.to_pickle(tmp_path / "frame.pickle")
    kept = {
        "mask": labeled[labeled["label"] == "late"],
        "columns": labeled[["label"]],
        "copy": labeled.copy(),
        "assign": labeled.assign(n=1),
        "sorted": labeled.sort_values("id", ascending=False).reset_index(drop=True),
        "pickle": pickle.loads(pickle.dumps(labeled)),
        "file": pd.read_pickle(tmp_path / "frame.pickle"),
        "parquet": pd.read_parquet(tmp_path / "frame.parquet"),
        "files.read": files.read(tmp_path / "frame.parquet"),
        "parts": pd.concat([labeled.iloc[:2], labeled.iloc[2:]]),
    }
    assert [name for name, frame in kept.items() if found(frame) != {"label": ("classify", "attrs")}] == []


def test_what_pandas_drops_is_found_by_values(df: pd.DataFrame, labeled: pd.DataFrame) -> None:
    prices = pd.DataFrame({"id": range(6), "price": 1.0})
    others = df.assign(text=["taste a", "taste b", "late c", "late d", "late e", "taste f"])
    second = others.skytells.classify("text", ["late", "taste"], progress=False)
    dropped = {
        "merge": labeled.merge(prices, on="id"),
        "merge on the right": prices.merge(labeled, on="id"),
        "join": prices.join(labeled.drop(columns="id")),
        "new frame": pd.DataFrame({name: labeled[name] for name in labeled}),
        "part": prices.merge(labeled.iloc[[1, 4]], on="id"),
    }
    assert {frame.attrs.get(files.LINEAGE) for frame in dropped.values()} == {None}
    assert [name for name, frame in dropped.items() if found(frame) != {"label": ("classify", "values")}] == []
    both = pd.concat([labeled, second], ignore_index=True).skytells.lineage
    assert both.index.tolist() == ["label", "label"]
    assert both["call"].nunique() == 2


def test_what_a_person_wrote_is_not_taken_for_a_models(df: pd.DataFrame, labeled: pd.DataFrame) -> None:
    """Even under the same name, with the same categories."""
    own = df.assign(label=pd.Categorical(["late"] * 6, categories=["late", "taste"]))
    assert found(own) == {}
    assert found(pd.DataFrame({"label": pd.Categorical(["late"], categories=["late", "taste"])})) == {}
    assert found(df.assign(gold=labeled["label"])) == {}


def test_a_column_that_was_renamed_is_found(df: pd.DataFrame, labeled: pd.DataFrame) -> None:
    renamed = {
        "alone": labeled.rename(columns={"label": "kind"}),
        "with its source": labeled.rename(columns={"label": "kind", "text": "message"}),
        "part": labeled.rename(columns={"label": "kind"})[["text", "kind"]].iloc[::2],
    }
    assert [name for name, frame in renamed.items() if found(frame) != {"kind": ("classify", "values")}] == []
    details = df.skytells.classify("text", ["late", "taste"], details=True, progress=False)
    several = details.rename(columns={"label": "kind"})
    assert found(several)["kind"] == ("classify", "values")
    assert found(several)["label_model"] == ("classify", "attrs")
    # A person's own column in place of the one that was dropped, and a copy beside it, are no models'.
    own = labeled.drop(columns="label").assign(gold=pd.Categorical(["late"] * 6, categories=["late", "taste"]))
    assert found(own) == {}
    assert found(labeled.assign(copy=labeled["label"])) == {"label": ("classify", "attrs")}


def test_vectors_and_long_texts_are_found_without_their_source(df: pd.DataFrame, judge: WordJudge) -> None:
    judge.say = lambda text: f"An answer that is long enough to tell: {text}"  # type: ignore[method-assign]
    made = df.skytells.embed("text", progress=False).skytells.complete("{text}", progress=False)
    bare = pd.DataFrame({"id": range(6)}).merge(made.drop(columns="text"), on="id")
    assert found(bare) == {"embedding": ("embed", "values"), "completion": ("complete", "values")}


def test_no_text_of_a_row_and_no_key_is_recorded(df: pd.DataFrame, judge: WordJudge) -> None:
    class Kind(enum.Enum):
        LATE = "late"
        TASTE = "taste"

    key = sky.current().client.key.reveal() if hasattr(sky.current().client, "key") else "sk-local"
    made = df.skytells.classify("text", Kind, examples=EXAMPLES, progress=False)
    made = made.skytells.complete(
        "{text}",
        examples=pd.DataFrame({"text": ["a private row"], "reply": ["secret"]}),
        answer="reply",
        progress=False,
    )
    made = made.skytells.complete(lambda row: row.text, into="by_function", system=f"key {key}", progress=False)
    made = made.skytells.join(df.add_suffix("_y"), on=("text", "text_y"), progress=False)
    stored = json.dumps(made.attrs)

    assert not [text for text in TEXTS if text and text in stored]
    assert "private" not in stored
    assert "secret" not in stored
    assert made.skytells.lineage.loc["label", "prompt"].endswith("[1 examples]")
    assert made.skytells.lineage.loc["label", "arguments"]["labels"] == ["late", "taste"]
    assert "list of 1" in made.skytells.lineage.loc["label", "arguments"]["examples"]


def test_files_keep_the_record_at_the_field(labeled: pd.DataFrame, tmp_path: Path) -> None:
    path = files.write(labeled, tmp_path / "written.parquet")
    vectors = labeled.skytells.embed("text", to=tmp_path / "vectors.parquet", progress=False)
    fields = {field.name: field.metadata for file in (path, vectors) for field in pq.read_schema(file)}

    assert json.loads(fields["label"][b"skytells_lineage"])[0]["method"] == "classify"
    record = json.loads(fields["embedding"][b"skytells_lineage"])[0]
    assert (record["method"], record["columns"], record["sources"]) == ("embed", ["embedding"], ["text"])
    assert record["requests"] > 0
    assert fields["text"] is None
    assert set(found(files.read(vectors))) == set(found(pd.read_parquet(vectors))) == {"label", "embedding"}
    # Another program may keep the fields' metadata and not that of pandas.
    plain = pq.read_table(path).replace_schema_metadata(None)
    pq.write_table(plain, tmp_path / "plain.parquet")
    assert set(found(files.read(tmp_path / "plain.parquet"))) == {"label"}


def test_a_batch_of_another_engine_has_the_record_at_its_field(judge: WordJudge) -> None:
    table = enrich(pa.table({"text": ["late", "taste"]}), "classify", column="text", labels=["late", "taste"])
    assert json.loads(table.schema.field("label").metadata[b"skytells_lineage"])[0]["method"] == "classify"


def test_attributes_that_json_lacks_are_refused_with_their_reason(labeled: pd.DataFrame, tmp_path: Path) -> None:
    labeled.attrs["own"] = {1, 2}
    with pytest.raises(sky.errors.InputError, match=r"frame\.attrs must hold what JSON can store"):
        files.write(labeled, tmp_path / "frame.parquet")
    assert list(tmp_path.glob("*frame*")) == []


def test_attributes_that_are_no_records_are_passed_over(labeled: pd.DataFrame) -> None:
    for value in ("not JSON", "[1, {}]", "{}", 3, None):
        labeled.attrs[files.LINEAGE] = value
        assert records_of(labeled.attrs) == []


def test_a_column_has_its_record(df: pd.DataFrame, judge: WordJudge) -> None:
    labels = df["text"].skytells.classify(["late", "taste"], progress=False)
    assert labels.skytells.lineage["method"].tolist() == ["classify"]
    assert df["text"].skytells.embed(progress=False).skytells.lineage["method"].tolist() == ["embed"]


def test_a_partial_frame_has_its_record(df: pd.DataFrame, judge: WordJudge) -> None:
    with pytest.raises(sky.errors.BudgetExceededError) as stopped:
        df.skytells.classify("text", ["late", "taste"], budget=1e-9, progress=False)
    assert stopped.value.frame is not None
    assert found(stopped.value.frame) == {"label": ("classify", "attrs")}


def test_kept_calls_have_a_limit(df: pd.DataFrame, judge: WordJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_MOST_CALLS", 2)
    for word in ("one", "two", "three"):
        df.skytells.classify("text", ["late", word], progress=False)
    assert len(recording.known_calls) == 2


Kinds = Literal["late", "taste"]


@pytest.mark.parametrize(
    "labels",
    [
        ["late", "taste"],
        ("late", "taste"),
        np.array(["late", "taste"]),
        pd.Index(["late", "taste"]),
        pd.Series(["late", "taste"]),
        pd.Series(["taste", "late", "late"], dtype=pd.CategoricalDtype(["late", "taste"])),
        pd.CategoricalDtype(["late", "taste"]),
        Kinds,
    ],
)
def test_labels_are_recorded_however_they_were_given(labels: Any) -> None:
    assert plain_arguments({"labels": labels}) == ({"labels": ["late", "taste"]}, {})


def test_a_frame_that_was_an_argument_is_told_from_others_by_names_texts_and_vectors() -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "embedding": from_matrix(np.eye(2, dtype=np.float32))})
    others = [
        frame.rename(columns={"embedding": "vector"}),
        frame.assign(text=["a", "c"]),
        frame.assign(embedding=from_matrix(np.array([[1, 0], [0, 2]], dtype=np.float32))),
        frame.assign(embedding=[frame["embedding"][0], None]),
        frame.assign(embedding=[[1.0], [2.0, 3.0]]),
        frame.iloc[::-1],
    ]
    assert describe(frame.copy()) == describe(frame)
    assert len({describe(each) for each in [frame, *others]}) == 7


def test_the_record_of_a_large_frame_takes_less_memory_than_its_vectors() -> None:
    """A join records its other frame, which was written as text, several times the size of its vectors."""
    matrix = np.random.default_rng(0).standard_normal((10_000, 64)).astype(np.float32)
    frame = pd.DataFrame({"embedding": from_matrix(matrix)})
    tracemalloc.start()
    try:
        describe(frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < matrix.nbytes


def test_columns_that_are_named_in_a_list_are_sources(df: pd.DataFrame, judge: WordJudge) -> None:
    frame = df.assign(kind=["a", "b"] * 3, place=["x"] * 6)
    made = frame.skytells.summarize("text", by=["kind", "place"], progress=False)
    assert made.skytells.lineage.loc["summary", "sources"] == ["text", "kind", "place"]


def test_what_was_paid_for_is_returned_whatever_comes_of_its_record(df: pd.DataFrame, judge: WordJudge) -> None:
    def record(clock: Any, result: Any) -> None:
        raise ValueError("an argument of another kind")

    call = timed(lambda accessor: accessor._frame.assign(made=1), record)
    with pytest.warns(SkytellsWarning, match=r"could not be recorded \(ValueError\)"):
        assert call(df.skytells)["made"].tolist() == [1] * 6

    def fail(accessor: Any) -> None:
        raise RowError("row 1 failed")

    with pytest.warns(SkytellsWarning), pytest.raises(RowError, match="row 1 failed"):
        timed(fail, record)(df.skytells)
