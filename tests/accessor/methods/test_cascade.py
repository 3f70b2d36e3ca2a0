"""Cascades, ``agree=``: what the model is asked, what the proxy labels, and what the report says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from judges import WordJudge
from served import connected, served

from skytells_nb.columns import from_matrix
from skytells_nb.errors import BudgetExceededError, InputError, SkytellsWarning
from skytells_nb.session import current

LABELS = ["cat", "dog", "hen"]


def texts_about(rows: int, noise: float = 0.3) -> pd.DataFrame:
    """Different texts that name one label each, and vectors around a center for each label."""
    random = np.random.default_rng(0)
    label = random.integers(3, size=rows)
    vectors = 2 * np.eye(3, 8)[label] + noise * random.normal(size=(rows, 8))
    frame = pd.DataFrame({"text": [f"text {row} about a {LABELS[each]}" for row, each in enumerate(label)]})
    frame.index = [f"r{row}" for row in range(rows)]
    frame["truth"] = [LABELS[each] for each in label]
    return frame.assign(embedding=from_matrix(vectors.astype(np.float32), index=frame.index))


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[WordJudge]:
    judge = WordJudge()
    with served(generator=judge) as server, connected(server, tmp_path / "c.sqlite"):
        yield judge


def test_the_model_is_asked_about_a_sample_and_the_proxy_labels_the_rest(judge: WordJudge) -> None:
    frame = texts_about(1200)

    found = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert (found["label"].astype(str) == frame["truth"]).mean() > 0.98
    assert found["label"].cat.categories.tolist() == LABELS
    assert found.index.equals(frame.index)
    report = found.skytells.report
    cascade = report.cascade
    assert cascade.asked == len(judge.texts) == len(set(judge.texts)) < 500
    assert cascade.by_proxy + cascade.asked == cascade.rows == 1200
    assert cascade.bound >= 0.95
    assert (report.rows, report.answered, report.failed, report.nulls) == (1200, 1200, 0, 0)
    assert (report.sent, report.distinct) == (cascade.asked, 1200)
    assert f"{cascade.by_proxy:,} of 1,200 rows by a softmax on embeddings" in str(report)
    assert report.to_dict()["cascade"]["agree"] == 0.95
    assert frame.skytells.report == report


def test_a_second_call_sends_nothing_and_says_the_same(judge: WordJudge) -> None:
    frame = texts_about(900)
    first = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)
    asked = len(judge.texts)

    again = frame.copy().skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert len(judge.texts) == asked
    assert again["label"].equals(first["label"])
    assert again.skytells.report.sent == 0


def test_hard_texts_go_to_the_model(judge: WordJudge) -> None:
    """The vectors of a fifth of the texts say nothing: the proxy leaves them, and the column is right."""
    frame = texts_about(2000)
    vague = np.arange(2000) % 5 == 0
    frame["embedding"] = [
        np.full(8, 0.5, dtype=np.float32) if row else vector
        for row, vector in zip(vague, frame["embedding"], strict=True)
    ]

    found = frame.skytells.classify("text", LABELS, agree=0.95, details=True, progress=False)

    by_proxy = (found["label_model"] == "softmax on embeddings").to_numpy()
    assert by_proxy.sum() == found.skytells.report.cascade.by_proxy > 800
    assert not (by_proxy & vague).any()
    assert (found["label"].astype(str) == frame["truth"]).mean() > 0.98
    assert found["label_tokens_in"].isna().tolist() == by_proxy.tolist()


def test_a_proxy_that_disagrees_is_not_used_and_a_warning_says_so(judge: WordJudge) -> None:
    frame = texts_about(700)
    shuffled = np.random.default_rng(1).permutation(700)
    frame["embedding"] = frame["embedding"].to_numpy()[shuffled]

    with pytest.warns(SkytellsWarning, match=r"agree=0.95 cannot be guaranteed.*asked about every text.*too often"):
        found = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert (found["label"].astype(str) == frame["truth"]).all()
    assert len(judge.texts) == len(set(judge.texts)) == 700
    cascade = found.skytells.report.cascade
    assert (cascade.by_proxy, cascade.bound, cascade.asked) == (0, None, 700)
    assert "cannot be guaranteed" in str(found.skytells.report)


def test_too_few_texts_say_how_many_would_do(judge: WordJudge) -> None:
    with pytest.warns(SkytellsWarning, match="40 different texts are too few to certify it; 225 would do"):
        found = texts_about(40).skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert (found["label"].astype(str) == found["truth"]).all()
    assert len(judge.texts) == 40


def test_equal_and_missing_texts(judge: WordJudge) -> None:
    frame = texts_about(900)
    frame = pd.concat([frame, frame, pd.DataFrame({"text": [None, " "]}, index=["x", "y"])])
    frame.index = range(len(frame))

    found = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert found["label"].isna().sum() == 2
    assert found["label"][:900].tolist() == found["label"][900:1800].tolist()
    assert len(judge.texts) == len(set(judge.texts)) < 500
    report = found.skytells.report
    assert (report.rows, report.nulls, report.answered, report.distinct) == (1802, 2, 1800, 900)


def test_no_text_is_no_cause_to_warn(judge: WordJudge) -> None:
    for frame in (texts_about(30).head(0), texts_about(30).head(2).assign(text=None)):
        found = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)
        assert found["label"].isna().all()
        assert len(found) == len(frame)
    assert judge.texts == []


def test_texts_without_a_vector_go_to_the_model(judge: WordJudge) -> None:
    frame = texts_about(800)
    frame.loc["r3":"r9", "embedding"] = None

    found = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert set(frame["text"][3:10]) <= set(judge.texts)
    assert found["label"].notna().all()


def test_texts_are_embedded_where_no_column_has_vectors(judge: WordJudge) -> None:
    """What the embeddings took is in the report; whatever they say, the column is complete."""
    frame = texts_about(400).drop(columns="embedding")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        found = frame.skytells.classify("text", LABELS, agree=0.9, progress=False)

    assert found["label"].notna().all()
    report = found.skytells.report
    assert report.requests > len(judge.texts)
    assert "," in report.model


def test_filter_is_a_cascade_too(judge: WordJudge) -> None:
    frame = texts_about(1000)
    frame["text"] = frame["text"].str.replace("cat", "yes")

    found = frame.skytells.filter("text", "Is it a cat?", agree=0.95, keep="column", progress=False)
    rows = frame.skytells.filter("text", "Is it a cat?", agree=0.95, progress=False)

    assert (found["matches"] == (frame["truth"] == "cat")).mean() > 0.98
    assert found["matches"].dtype == "boolean"
    assert rows.index.equals(frame.index[found["matches"]])
    assert rows.skytells.report.cascade.by_proxy > 400
    assert len(judge.texts) == len(set(judge.texts)) < 500


def test_an_estimate_is_an_upper_limit(judge: WordJudge) -> None:
    planned = texts_about(900).skytells.classify("text", LABELS, agree=0.95, dry_run=True)

    assert planned.requests == 900
    assert "upper limit: texts that the proxy labels are not sent" in planned.notes
    assert judge.texts == []


def test_a_budget_is_for_all_of_it_and_what_is_finished_is_returned(judge: WordJudge) -> None:
    with pytest.raises(BudgetExceededError) as stopped:
        texts_about(900).skytells.classify("text", LABELS, agree=0.95, budget=1e-9, model="gpt-5", progress=False)

    assert stopped.value.frame["label"].isna().sum() > 800


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"agree": 1}, r"agree must be a number from 0.5 up to 1, such as 0.95, got 1"),
        ({"agree": 95}, r"agree must be a number from 0.5 up to 1"),
        ({"agree": "high"}, r"agree must be a number from 0.5 up to 1.*got 'high'"),
        ({"agree": 0.9, "level": 1.5}, r"level must be a number from 0.5 up to 1.*got 1.5"),
        ({"agree": 0.9, "multi": True}, r"agree is for one label for each text; leave out multi=True"),
        ({"agree": 0.9, "via": "embedding"}, r"agree is for a chat model"),
        ({"agree": 0.9, "embedding": "text"}, r"Column 'text' must hold embeddings"),
        ({"agree": 0.9, "embedding": "vectors"}, r"There is no column 'vectors'"),
        ({"embedding": "embedding"}, r"embedding is for a cascade, which agree= asks for"),
    ],
)
def test_bad_input_says_what_to_do(judge: WordJudge, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        texts_about(30).skytells.classify("text", LABELS, progress=False, **options)

    assert judge.texts == []


def test_errors_name_rows_of_the_frame(judge: WordJudge) -> None:
    """A blocked text is an error of its row, beside the rows of the sample, the proxy and the rest."""
    frame = texts_about(800)
    frame.loc["r5", ["text", "embedding"]] = ["violence:high cat", None]

    with pytest.warns(SkytellsWarning, match="1 of 800 rows failed"):
        found = frame.skytells.classify("text", LABELS, agree=0.95, progress=False)

    report = found.skytells.report
    assert list(report.errors) == [5]
    assert found.index[found["label"].isna()].tolist() == ["r5"]
    assert (report.answered, report.failed) == (799, 1)
    assert found.skytells.failed().index.tolist() == ["r5"]


def test_the_session_counts_it_once(judge: WordJudge) -> None:
    found = texts_about(900).skytells.classify("text", LABELS, agree=0.95, progress=False)

    assert current().reports == [found.skytells.report]
    assert current().last_report.requests == len(judge.texts)


def test_the_filter_is_asked_about_a_sample_and_the_proxy_tells_the_rest(judge: WordJudge) -> None:
    """Severity, filtered and categories of a row are those that the filter returned for a text like it."""
    frame = texts_about(1200)
    words = {"cat": "a nice day", "dog": "violence:high", "hen": "violence:low"}
    frame["text"] = [f"{words[truth]} {row}" for row, truth in enumerate(frame["truth"])]
    whole = frame.iloc[:300].skytells.moderate("text", progress=False)
    assert whole["moderation_severity"].nunique() == 3

    found = frame.skytells.moderate("text", agree=0.95, details=True, progress=False)

    cascade = found.skytells.report.cascade
    assert cascade.bound >= 0.95
    assert cascade.by_proxy + cascade.asked == cascade.rows == 1200
    assert cascade.by_proxy > 500
    expected = {truth: whole.loc[frame["truth"].iloc[:300] == truth, "moderation_severity"].iloc[0] for truth in LABELS}
    assert (found["moderation_severity"].astype(str) == frame["truth"].map(expected).astype(str)).mean() > 0.98
    assert found["moderation_checked"].all()
    by_proxy = found["moderation_model"] == "softmax on embeddings"
    assert by_proxy.sum() == cascade.by_proxy
    assert found.loc[by_proxy, "moderation_cost"].isna().all()
    assert found.loc[by_proxy, "moderation_request_id"].isna().all()
    assert len(found.skytells.safety("moderation")["row"].unique()) > 1000
    assert found.skytells.report.answered == 1200
    # An estimate, of texts that are of about one length.
    assert cascade.saved_cost / cascade.by_proxy == pytest.approx(found["moderation_cost"].mean(), rel=0.5)


def test_too_few_texts_to_moderate_are_all_sent(judge: WordJudge) -> None:
    frame = texts_about(100).assign(text=[f"a nice day {row}" for row in range(100)])
    with pytest.warns(SkytellsWarning, match="the model is asked about every text"):
        found = frame.skytells.moderate("text", agree=0.95, progress=False)
    assert found["moderation_checked"].all()
    assert found.skytells.report.cascade.by_proxy == 0


def pairs_of(rows: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Texts on the left, each with two near ones on the right, of which one is about the same."""
    random = np.random.default_rng(1)
    left = random.normal(size=(rows, 16))
    same, other = left + 0.05 * random.normal(size=left.shape), left + 0.5 * random.normal(size=left.shape)
    right = np.vstack([same, other]).astype(np.float32)
    texts = [f"number {row} says match" for row in range(rows)] + [f"number {row} differs" for row in range(rows)]
    return (
        pd.DataFrame({"name": [f"left {row}" for row in range(rows)], "v": from_matrix(left.astype(np.float32))}),
        pd.DataFrame({"text": texts, "v": from_matrix(right)}),
    )


def test_pairs_are_confirmed_by_the_model_or_by_the_proxy(judge: WordJudge) -> None:
    left, right = pairs_of(700)
    options: dict[str, Any] = {"on": "v", "k": 2, "confirm": True, "text": ("name", "text"), "progress": False}

    found = left.skytells.join(right, agree=0.95, **options)

    report = found.skytells.report
    assert report.cascade.rows == 1400
    assert report.cascade.bound >= 0.95
    assert len(set(judge.texts)) == report.cascade.asked < 1000
    assert report.cascade.by_proxy + report.cascade.asked == 1400
    assert (report.operation, report.rows) == (
        "join",
        left.skytells.join(right, on="v", progress=False).skytells.report.rows,
    )
    expected = left.skytells.join(right, **options)
    keys = [set(zip(each["name"], each["text"], strict=True)) for each in (found, expected)]
    assert len(keys[0] ^ keys[1]) <= 0.05 * report.cascade.by_proxy


def test_pairs_need_a_model_that_confirms(judge: WordJudge) -> None:
    left, right = pairs_of(4)
    with pytest.raises(InputError, match="agree is for a model that confirms pairs"):
        left.skytells.join(right, on="v", agree=0.95)
    with pytest.raises(InputError, match=r"agree must be a number from 0\.5 up to 1"):
        left.skytells.join(right, on="v", confirm=True, text=("name", "text"), agree=2)
    with pytest.warns(SkytellsWarning, match="too few to certify"):
        found = left.skytells.join(right, on="v", confirm=True, text=("name", "text"), agree=0.95, progress=False)
    assert len(found) == 4
    estimate = left.skytells.join(right, on="v", confirm=True, text=("name", "text"), agree=0.95, dry_run=True)
    assert estimate.rows == 4
