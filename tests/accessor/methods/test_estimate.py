"""What a call costs before it is paid: ``dry_run=True`` and ``sample=`` of every method, with and without a key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from judges import Judged, WordJudge
from served import connected, served

import skytells_nb as sky
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.estimate import ColumnMethod, FrameMethod, Sample
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.engine.operations.cached import CachedCompletion
from skytells_nb.engine.operations.jobs import completion_job
from skytells_nb.engine.report import Estimate
from skytells_nb.errors import InputError, MissingKeyError
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.types.models import LISTED_PRICES, Model

Frame = pd.DataFrame
QUIET: dict[str, Any] = {"progress": False}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
VARIANTS = [{"labels": ["cat", "dog"]}, {"labels": ["dog", "cat"]}]
METHODS: dict[str, Callable[..., Any]] = {
    "embed": lambda f, **o: f.skytells.embed("t", **o),
    "complete": lambda f, **o: f.skytells.complete("Say {t}", **o),
    "complete schema": lambda f, **o: f.skytells.complete("Say {t}", schema=SCHEMA, flatten=True, **o),
    "complete rows": lambda f, **o: f.skytells.complete("Say {t}", rows_per_request=2, **o),
    "classify": lambda f, **o: f.skytells.classify("t", ["cat", "dog"], **o),
    "classify embedding": lambda f, **o: f.skytells.classify("t", ["cat", "dog"], via="embedding", **o),
    "score": lambda f, **o: f.skytells.score("t", "how good", **o),
    "rank": lambda f, **o: f.skytells.rank("t", "how good", 1, **o),
    "rank scores": lambda f, **o: f.skytells.rank("t", "how good", 1, by="scores", **o),
    "compare": lambda f, **o: f.skytells.compare("t", VARIANTS, **o),
    "extract": lambda f, **o: f.skytells.extract("t", SCHEMA, **o),
    "filter": lambda f, **o: f.skytells.filter("t", "Is it?", **o),
    "translate": lambda f, **o: f.skytells.translate("t", "French", **o),
    "summarize": lambda f, **o: f.skytells.summarize("t", **o),
    "moderate": lambda f, **o: f.skytells.moderate("t", **o),
    "search": lambda f, **o: f.skytells.search("cats", "t", **o),
    "similar": lambda f, **o: f.skytells.similar(f.index[0], "t", **o),
    "dedupe": lambda f, **o: f.skytells.dedupe("t", **o),
    "cluster": lambda f, **o: f.skytells.cluster("t", 2, **o),
    "join": lambda f, **o: f.skytells.join(f.copy(), "t", confirm=True, **o),
    "series.embed": lambda f, **o: f["t"].skytells.embed(**o),
    "series.complete": lambda f, **o: f["t"].skytells.complete("Say it.", **o),
    "series.classify": lambda f, **o: f["t"].skytells.classify(["cat", "dog"], **o),
    "series.score": lambda f, **o: f["t"].skytells.score("how good", **o),
    "series.rank": lambda f, **o: f["t"].skytells.rank("how good", 1, **o),
    "series.compare": lambda f, **o: f["t"].skytells.compare(VARIANTS, **o),
    "series.extract": lambda f, **o: f["t"].skytells.extract(SCHEMA, **o),
    "series.filter": lambda f, **o: f["t"].skytells.filter("Is it?", **o),
    "series.translate": lambda f, **o: f["t"].skytells.translate("French", **o),
    "series.moderate": lambda f, **o: f["t"].skytells.moderate(**o),
    "series.dedupe": lambda f, **o: f["t"].skytells.dedupe(**o),
    "series.cluster": lambda f, **o: f["t"].skytells.cluster(2, **o),
    "series.summarize": lambda f, **o: f["t"].skytells.summarize(**o),
}
TEXTS = ["a cat A", "a dog B", "a cat A", None, "stocks fell C"]


@pytest.fixture
def df() -> Frame:
    return Frame({"t": TEXTS, "n": range(5)}, index=list("vwxyz"))


@pytest.fixture
def keyless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no local Skytells, no session."""
    for name in ("SKYTELLS_API_KEY", "SKYTELLS_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    sky.session.reset()
    yield
    sky.session.reset()


def test_the_methods_here_are_all_that_send() -> None:
    methods = {
        f"{prefix}{name}"
        for prefix, accessor in (("", FrameAccessor), ("series.", SeriesAccessor))
        for name in dir(accessor)
        if "dry_run" in getattr(getattr(accessor, name), "__options__", ())
    }
    assert methods == {name.partition(" ")[0] for name in METHODS}
    assert "estimate" not in methods
    assert methods == {*get_args(FrameMethod), *(f"series.{name}" for name in get_args(ColumnMethod))}


class _Estimated:
    """An accessor whose methods are estimated by their names."""

    def __init__(self, accessor: Any) -> None:
        self._accessor = accessor

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: self._accessor.estimate(name, *arguments, **options)


class _Asked:
    """A frame or column whose ``skytells`` estimates every call."""

    def __init__(self, data: Any) -> None:
        self.skytells = _Estimated(data.skytells)
        self._data = data

    def __getitem__(self, column: str) -> _Asked:
        return _Asked(self._data[column])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_estimated_by_its_name(method: str, df: Frame, place: Judged, keyless: None) -> None:
    before = place.requests
    estimate = METHODS[method](_Asked(df))
    assert estimate == METHODS[method](df, dry_run=True)
    assert (type(estimate), place.requests) == (Estimate, before)
    assert estimate.requests > 0


def test_an_estimate_by_name_reads_the_catalog_and_sends_nothing_else(df: Frame, tmp_path: Path) -> None:
    with served(generator=WordJudge()) as server, connected(server, tmp_path / "c.sqlite") as session:
        of_list = df.skytells.classify("t", ["cat", "dog"], model="gpt-5", dry_run=True)
        assert session._models is None
        estimate = df.skytells.estimate("classify", "t", ["cat", "dog"], model="gpt-5")
        assert session._models is not None
        assert server.stats.records == []
    assert (estimate.tokens_in, estimate.tokens_out) == (of_list.tokens_in, of_list.tokens_out)


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("classify", "t", ["a"]), {"sample": 2}, "takes no sample=; pass it to classify itself"),
        (("embed", "t"), {"dry_run": True}, "takes no dry_run="),
        (("preview", "{t}"), {}, "must be the name of a method when others follow it: embed, .*; got 'preview'"),
        (("{t}", "t"), {}, "got '{t}'"),
        (("classify", "t", ["a", "b"]), {"modle": "x"}, "Unknown keyword 'modle'"),
        (("classify", "nothing", ["a", "b"]), {}, "nothing"),
    ],
)
def test_what_cannot_be_estimated_is_said(
    arguments: tuple[Any, ...], options: dict[str, Any], words: str, df: Frame, keyless: None
) -> None:
    with pytest.raises(InputError, match=words):
        df.skytells.estimate(*arguments, **options)
    with pytest.raises(InputError, match="must be the name of a method"):
        df["t"].skytells.estimate("Say it.")  # type: ignore[arg-type]


def test_a_column_that_is_called_like_a_method_is_one(keyless: None) -> None:
    frame = Frame({"filter": ["a", "b", "b"], "t": ["x", "y", "z"]})
    assert frame.skytells.estimate("filter").operation == "embed"
    assert frame.skytells.estimate("filter", "t", "Is it?").operation == "filter"


@pytest.mark.parametrize("method", METHODS)
def test_a_dry_run_sends_nothing_and_says_what_the_call_then_sends(
    method: str, df: Frame, place: Judged, judge: WordJudge
) -> None:
    before, asked = place.requests, df.copy()
    session = sky.current()
    estimate = METHODS[method](df, dry_run=True, **QUIET)
    assert type(estimate) is Estimate
    assert (place.requests, session.reports, session.totals.requests) == (before, [], 0)
    assert session.safety_checked == 0
    pd.testing.assert_frame_equal(df, asked)
    METHODS[method](df, on_error="null", **QUIET)
    sent = place.requests - before
    report = session.last_report
    assert report is not None
    assert estimate.requests == sent
    assert estimate.rows == len(df)
    assert estimate.operation == method.removeprefix("series.").partition(" ")[0]
    assert estimate.model == report.model
    again = METHODS[method](df, dry_run=True, **QUIET)
    assert (again.requests, again.tokens_in, again.tokens_out) == (0, 0, 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_dry_run_needs_no_key(method: str, df: Frame, keyless: None) -> None:
    estimate = METHODS[method](df, dry_run=True)
    assert estimate.tokens_in > 0
    assert "needs an API key" in str(estimate)
    with pytest.raises(MissingKeyError):
        METHODS[method](df, **QUIET)


def test_list_prices_stand_without_a_key(df: Frame, keyless: None) -> None:
    price = LISTED_PRICES["gpt-5"]
    for estimate in (
        df.skytells.complete("Say {t}", model="gpt-5", max_tokens=100, dry_run=True),
        df.skytells.estimate("Say {t}", model="gpt-5", max_tokens=100),
    ):
        assert estimate.cost == pytest.approx(price.cost(estimate.tokens_in, 300))
        assert estimate.unit_price == price
        assert "built-in list price" in str(estimate)
    unknown = df.skytells.embed("t", dry_run=True, model="some-embedder")
    assert unknown.cost is None
    assert "no price is listed for 'some-embedder'" in str(unknown)
    assert len(df.skytells.preview("Say {t}")) == 3


def test_the_dry_run_of_a_file_writes_none(df: Frame, tmp_path: Path, keyless: None) -> None:
    path = tmp_path / "vectors.parquet"
    assert df.reset_index().skytells.embed("t", to=path, dry_run=True).requests == 1
    assert list(tmp_path.glob("*.parquet")) == []


@pytest.mark.parametrize("method", METHODS)
def test_a_wrong_argument_is_an_error_of_the_dry_run_too(method: str, df: Frame, keyless: None) -> None:
    for options, words in (
        ({"budget": "much"}, "budget must be US dollars"),
        ({"on_error": "never"}, "on_error must be"),
        ({"max_in_flight": 0}, "max_in_flight must be"),
        ({"modle": "x"}, "Unknown keyword 'modle'"),
    ):
        with pytest.raises(InputError, match=words):
            METHODS[method](df, dry_run=True, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dry_run": "yes"}, "dry_run must be True or False, got 'yes'"),
        ({"dry_run": 1}, "dry_run must be True or False, got 1"),
        ({"sample": 0}, "sample must be a number of rows, 1 or more, got 0"),
        ({"sample": True}, "sample must be a number of rows"),
        ({"sample": 2.5}, "sample must be a number of rows"),
        ({"sample": 2, "dry_run": True}, "pass one of them"),
    ],
)
def test_options_that_say_nothing_clear_are_refused(options: dict[str, Any], words: str, df: Frame) -> None:
    for method in METHODS.values():
        with pytest.raises(InputError, match=words):
            method(df, **options)


def test_preview_and_estimate_have_neither() -> None:
    for method in (FrameAccessor.preview, FrameAccessor.estimate):
        with pytest.raises(InputError, match="Unknown keyword 'sample'"):
            method(Frame({"t": ["a"]}).skytells, "{t}", sample=2)  # type: ignore[call-arg]


def test_a_budget_that_does_not_reach_is_said(df: Frame, keyless: None) -> None:
    reaches = df.skytells.classify("t", ["a", "b"], model="gpt-5", budget=1.0, dry_run=True)
    short = df.skytells.classify("t", ["a", "b"], model="gpt-5", budget=0.0001, dry_run=True)
    assert "budget" not in str(reaches)
    assert "exceeds budget=0.0001" in str(short)


def test_rows_that_cannot_be_sent_are_said(keyless: None) -> None:
    estimate = Frame({"t": pd.Series(["a", "\ud800", "b"], dtype=object)}).skytells.embed("t", dry_run=True)
    assert "1 row cannot be sent; row 1: the text has invalid Unicode" in str(estimate)


def test_limits_of_the_call_are_in_the_minutes(df: Frame, keyless: None) -> None:
    frame = Frame({"t": [f"text {n}" for n in range(120)]})
    estimate = frame.skytells.complete("Say {t}", requests_per_minute=60, dry_run=True)
    assert estimate.minutes == pytest.approx(2.0)
    assert "60 requests per 60 s" in str(estimate)
    tokens = frame.skytells.complete("Say {t}", tokens_per_minute=6_000, dry_run=True)
    assert tokens.minutes == pytest.approx((tokens.tokens_in + tokens.tokens_out) / 6_000)


def test_levels_of_a_summary_are_counted(place: Judged, judge: WordJudge) -> None:
    """Texts of 40 windows are summarized in parts, the summaries of these again."""
    frame = Frame({"t": [f"{n} " + "word " * 390 for n in range(40)], "by": [n % 2 for n in range(40)]})
    estimate = frame.skytells.summarize("t", by="by", window=600, max_tokens=200, dry_run=True)
    assert estimate.requests > 40 + 2
    assert estimate.rows == 40
    assert estimate.distinct == 2


def test_an_upper_limit_is_called_one(df: Frame, keyless: None) -> None:
    other = Frame({"t": [f"text {n}" for n in range(30)]})
    joined = df.skytells.join(other, "t", k=3, threshold=0.5, confirm=True, dry_run=True)
    assert joined.requests == 1 + 3 * 3
    assert "upper limit: pairs below threshold=" in str(joined)
    named = other.skytells.cluster("t", dry_run=True)
    assert named.requests == 1 + 20
    assert "upper limit for 20 clusters" in str(named)
    assert other.skytells.cluster("t", name=False, dry_run=True).requests == 1


def test_vectors_that_are_there_are_not_counted(place: Judged, judge: WordJudge, df: Frame) -> None:
    embedded = df.skytells.embed("t", **QUIET)
    before = place.requests
    assert embedded.skytells.dedupe(dry_run=True).requests == 0
    assert embedded.skytells.search("cats", dry_run=True).requests == 1
    assert embedded.skytells.cluster(n=2, text="t", dry_run=True).requests == 2
    assert place.requests == before
    assert embedded.skytells.report.operation == "embed"


@pytest.mark.parametrize("method", METHODS)
def test_a_sample_runs_some_rows_and_estimates_all(
    method: str, place: Judged, judge: WordJudge, tmp_path: Path
) -> None:
    frame = Frame({"t": [f"Text {n} " + "word " * (n % 7) for n in range(60)] + [None] * 20})
    sample = METHODS[method](frame, sample=8, on_error="null", **QUIET)
    assert type(sample) is Sample
    assert sample.rows == 8
    assert sample.report.requests > 0
    assert sample.estimate.rows == 80
    before, tokens = place.requests, sky.current().totals
    sampled = tokens.input_tokens, tokens.output_tokens
    assert sampled == (sample.report.tokens_in, sample.report.tokens_out)
    METHODS[method](frame, on_error="null", **QUIET)
    rest = place.requests - before
    whole = tokens.input_tokens, tokens.output_tokens
    if method.removeprefix("series.") in ("summarize", "cluster"):
        return  # The prompts of groups are not the sum of those of their rows.
    assert sample.estimate.tokens_in == pytest.approx(whole[0], rel=0.15)
    assert sample.estimate.tokens_out == pytest.approx(whole[1], rel=0.25, abs=2)
    assert rest > 0
    assert "sample    8 rows" in str(sample)
    assert "all rows" in sample._repr_html_()


def test_answers_of_a_sample_are_not_paid_again(place: Judged, judge: WordJudge) -> None:
    frame = Frame({"t": [f"Text {n}" for n in range(20)]})
    frame.skytells.complete("{t}", sample=5, **QUIET)
    assert len(judge.asked) == 5
    frame.skytells.complete("{t}", **QUIET)
    assert len(judge.asked) == 20


def test_a_sample_takes_different_rows_that_can_be_sent(place: Judged, judge: WordJudge) -> None:
    frame = Frame({"t": [None] * 50 + ["Same"] * 50 + [f"Text {n}" for n in range(50)]})
    sample = frame.skytells.complete("{t}", sample=10, **QUIET)
    assert sample.result["t"].nunique() == 10
    assert sample.result["completion"].notna().all()
    assert frame.skytells.complete("{t}", sample=500, **QUIET).rows == 51
    assert Frame({"t": [None, None]}).skytells.complete("{t}", sample=2, **QUIET).report.requests == 0
    assert Frame({"t": []}, dtype=object).skytells.complete("{t}", sample=2, **QUIET).rows == 0


def test_a_sample_measures_dollars_and_minutes(tmp_path: Path) -> None:
    limits = LimitOptions(requests=100, window=60.0)
    frame = Frame({"t": [f"say {n}" for n in range(500)]})
    with served(limits=limits) as server, connected(server, tmp_path / "c.sqlite") as session:
        sample = frame.skytells.complete("{t}", model="gpt-5", sample=20, **QUIET)
        price = session.price("gpt-5")
    assert price is not None
    used = price.cost(sample.report.tokens_in, sample.report.tokens_out)
    assert sample.cost == pytest.approx(used * 500 / 20, rel=0.2)
    assert sample.minutes == pytest.approx(480 / 100, rel=0.3)


def test_what_a_sample_shows_is_escaped(place: Judged, judge: WordJudge) -> None:
    frame = Frame({"t": ["<script>Alert</script>", "<img src=x>"]})
    for sample in (
        frame.skytells.complete("{t}", into="<b>", sample=2, **QUIET),
        frame["t"].skytells.complete("Say", sample=2, **QUIET),
        frame["t"].skytells.summarize(sample=2, **QUIET),
    ):
        shown = sample._repr_html_()
        assert "<script" not in shown
        assert "<img" not in shown
        assert "<b>" not in shown


def test_the_local_models_have_minutes(tmp_path: Path) -> None:
    with sky.connect(local=True, cache="memory"):
        frame = Frame({"t": [f"text {n}" for n in range(3000)]})
        chat = frame.skytells.estimate("Classify: {t}")
        fewer = frame[:30].skytells.complete("Classify: {t}", dry_run=True)
        vectors = frame.skytells.embed("t", dry_run=True)
    assert chat.minutes is not None
    assert chat.minutes > 10
    assert fewer.minutes == pytest.approx(chat.minutes / 100, rel=0.1)
    assert vectors.minutes is not None
    assert 0 < vectors.minutes < 2
    assert "the speed of the local models" in str(chat)


def test_a_price_that_cannot_be_used_is_refused_in_words(tmp_path: Path) -> None:
    per_second = {"criterias": [{"field": "input_tokens", "billable_price": 0.5, "unit": "second"}]}
    models = [Model.model_validate({"namespace": name, "pricing": per_second}) for name in ("some-model", "gpt-5")]
    frame = Frame({"t": ["a"]})
    with served() as server, connected(server, tmp_path / "c.sqlite") as session:
        session._models = models
        why = "the catalog's price of 'some-model' cannot be used: it is 0.5 US dollars per second, not per token"
        estimate = frame.skytells.complete("{t}", model="some-model", dry_run=True)
        assert (estimate.cost, estimate.notes) == (None, (why,))
        with pytest.raises(InputError, match=f"budget=1 cannot be enforced: {why}"):
            frame.skytells.complete("{t}", model="some-model", budget=1, **QUIET)
        listed = frame.skytells.complete("{t}", model="gpt-5", dry_run=True)
        assert listed.cost is not None
        assert listed.notes[0].endswith("the list price is used")


def test_an_estimate_reads_keys_and_not_the_answers(tmp_path: Path) -> None:
    """But for a sample, from which it takes the usual length of an answer."""
    session = sky.connect("sk-offline", base_url="http://127.0.0.1:9/v1", cache=tmp_path / "c.sqlite")
    frame = pd.DataFrame({"t": [f"text {n}" for n in range(600)]})
    job = completion_job(session.settings.model)
    for text in frame["t"][:500]:
        session.engine.store(session.engine.prepare(job), text, CachedCompletion("word " * 9, "stop", "m").to_bytes())
    estimate = frame.skytells.estimate("{t}")
    assert (estimate.distinct, estimate.cached, estimate.requests) == (600, 500, 100)
    assert session.cache.stats().hits == 200
    assert frame.skytells.complete("{t}", fresh=True, dry_run=True).cached == 0
    assert session.cache.stats().hits == 200
    schema = frame.skytells.estimate("{t}", schema={"label": str})
    assert (schema.cached, schema.requests) == (0, 600)
