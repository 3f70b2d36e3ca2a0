"""``skytells`` on Dask collections: lazy, paid once over all workers, and nothing of a key in the graph."""

from __future__ import annotations

import inspect
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import pandas as pd
import pytest
from local_fakes import fake_server
from store_servers import PASSWORD, SERVERS, shared_server

import skytells_nb as sky
from skytells_nb import files
from skytells_nb.accessor.call import BoundCall
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.results.folder_claims import claimed
from skytells_nb.accessor.results.parts import Parts, parquet_schema
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.engine.service.profile import forget_profiles
from skytells_nb.errors import (
    BudgetExceededError,
    CacheError,
    ConfigurationError,
    InputError,
    RowError,
    SkytellsWarning,
)
from skytells_nb.local.faults import Faults
from skytells_nb.local.server import LocalServer
from skytells_nb.partition import INSTEAD, ROW_METHODS
from skytells_nb.progress.events import Progress
from skytells_nb.progress.parts import PartsProgress
from skytells_nb.session import Session

dd = pytest.importorskip("dask.dataframe")
import dask  # noqa: E402
import distributed  # noqa: E402
from dask import delayed  # noqa: E402
from dask.callbacks import Callback  # noqa: E402
from dask.threaded import ContextAwareThreadPoolExecutor  # noqa: E402

import skytells_nb.dask as sky_dask  # noqa: E402
from skytells_nb.dask import call_budget, whole_frames  # noqa: E402
from skytells_nb.dask.partial_summaries import several_partials, whole_summaries  # noqa: E402
from skytells_nb.dask.result_dtypes import vector_dtype  # noqa: E402
from skytells_nb.dask.running_progress import PartitionProgress, show_progress  # noqa: E402

pytestmark = pytest.mark.timeout(300)  # starting two workers takes a minute on a busy machine
FRAME = pd.DataFrame({"text": [f"text {n % 10}" for n in range(60)], "n": range(60)}, index=range(100, 160))


@pytest.fixture(scope="module")
def cluster_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def service() -> Iterator[LocalServer]:
    """A service that takes a while for each request."""
    with fake_server(faults=Faults.parse("latency=0.1")) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(service: LocalServer, cluster_folder: Path) -> Iterator[Any]:
    """Two worker processes with the key in their environment."""
    environment = {
        "SKYTELLS_API_KEY": service.api_key,
        "SKYTELLS_BASE_URL": service.base_url,
        "SKYTELLS_CACHE": str(cluster_folder / "answers.sqlite"),
        "SKYTELLS_CACHE_DIR": str(cluster_folder),
        "SKYTELLS_CACHE_PASSWORD": PASSWORD,
        "PYTHONPATH": str(Path(sky.__file__).parent.parent),
    }
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, dashboard_address=None, worker_dashboard_address=None, env=environment
    ) as found:
        yield found


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    with distributed.Client(cluster) as found:
        yield found


@pytest.fixture
def driver(service: LocalServer, cluster_folder: Path, isolated: None) -> Session:
    """The session of the process that builds the graph."""
    path = cluster_folder / "answers.sqlite"
    return sky.connect(service.api_key, base_url=service.base_url, cache=path)


def collection(partitions: int = 4) -> Any:
    return dd.from_pandas(FRAME, npartitions=partitions)


def without_known_cache(ddf: Any) -> Any:
    """The same rows with texts that no other test used."""
    mark = os.urandom(4).hex()
    return ddf.assign(text=ddf["text"] + f" {mark}")


@pytest.mark.parametrize("scheduler", ["processes", "threads"])
def test_a_text_in_several_partitions_is_paid_once(
    client: Any, driver: Session, service: LocalServer, scheduler: str
) -> None:
    """Nothing is sent while the graph is built; rows keep their order, index and divisions."""
    ddf = without_known_cache(collection())
    service.stats.reset()
    result = ddf.skytells.embed("text", dimensions=8)
    assert result.divisions == ddf.divisions
    assert str(result.dtypes["embedding"]) == "fixed_size_list<item: float>[8][pyarrow]"
    assert not service.stats.records
    computed = result.compute() if scheduler == "processes" else result.compute(scheduler="threads")
    assert sum(record.inputs for record in service.stats.records) == 10
    assert computed.index.equals(FRAME.index)
    assert computed.dtypes.equals(result.dtypes)
    expected = sky.frame(ddf.compute(scheduler="sync")).embed("text", dimensions=8, dtype="arrow", progress=False)
    pd.testing.assert_frame_equal(computed, expected)


def test_neither_key_nor_password_is_in_the_graph(driver: Session, service: LocalServer) -> None:
    session = sky.connect(service.api_key, base_url=service.base_url, cache="redis://:hide%20me@127.0.0.1:1/0")
    result = collection().skytells.classify("text", ["a", "b"], cache="redis://:hide%20me@127.0.0.1:2/0")
    pickled = cloudpickle.dumps(dict(result.optimize().__dask_graph__()))
    for secret in (service.api_key, "hide me", "hide%20me"):
        assert secret.encode() not in pickled
    assert b"127.0.0.1:1/0" in pickled
    session.close()


CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("embed", ("text",), {"dimensions": 32}),
    ("classify", ("text", ["good", "bad"]), {"via": "embedding"}),
    ("classify", ("text", ["good", "bad"]), {"multi": True, "max_tokens": 20}),
    ("complete", ("Say {text}.",), {"max_tokens": 3, "details": True}),
    ("complete", ("Say {text}.",), {"schema": {"n": int, "words": list[str]}, "max_tokens": 30}),
    ("extract", ("text", {"n": int, "name": str}), {"max_tokens": 20, "details": True}),
    ("filter", ("text", "Is it a text?"), {"max_tokens": 8}),
    ("filter", ("text", "Is it a text?"), {"keep": "column", "max_tokens": 8}),
    ("translate", ("text", "German"), {"max_tokens": 3}),
    ("moderate", ("text",), {"safety": "STRICT"}),
    ("score", ("text", "how good", 1, 3), {}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "args", "options"), CALLS)
def test_every_method_has_the_results_and_dtypes_of_pandas(
    session: Session, chat_weights: Path, name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    """In a frame, and in a column where it has the method, from partitions some of which have no text at all."""
    frame = pd.DataFrame({"text": ["a cat", "a dog", "a fish", None, None, "a cat"]})
    ddf = dd.from_pandas(frame, npartitions=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        result = getattr(ddf.skytells, name)(*args, **options)
        computed = result.compute(scheduler="threads")
        more = {"dtype": "arrow"} if name == "embed" else {"flatten": True} if "schema" in options else {}
        expected = getattr(sky.frame(ddf.compute()), name)(*args, **options, **more, progress=False)
    assert computed.dtypes.equals(result.dtypes)
    findings = [column for column in computed.columns if column.endswith("_safety")]
    expected = expected.astype({column: computed[column].dtype for column in findings})
    variable = [column for column in computed.columns if re.search("_(cost|request_id|tokens_in|tokens_out)$", column)]
    pd.testing.assert_frame_equal(computed.drop(columns=variable), expected.drop(columns=variable))


def test_columns_have_the_methods_too(driver: Session) -> None:
    column = collection()["text"]
    result = column.skytells.embed(dimensions=16)
    assert str(result.dtype) == "fixed_size_list<item: float>[16][pyarrow]"
    computed = result.compute(scheduler="threads")
    assert computed.index.equals(FRAME.index)
    assert computed.name == "text"
    severities = column.skytells.moderate().compute(scheduler="threads")
    assert len(severities) == 60


@pytest.mark.parametrize(
    ("method", "args", "options", "message"),
    [
        ("embed", ["nope"], {}, "no column 'nope'"),
        ("embed", ["n"], {}, "'n' must hold text"),
        ("embed", ["text"], {"bogus": 1}, "Unknown keyword 'bogus'"),
        ("embed", ["text"], {"dtype": "numpy"}, "dtype must be"),
        ("complete", ["{text}"], {"budget": -1.0}, "budget must be US dollars"),
        ("embed", ["text"], {"to": "x.parquet"}, "to must be a folder for the parts"),
        ("moderate", ["text"], {"to": "no/such"}, "folder that exists"),
        ("moderate", ["text"], {"to": "new", "safety_to": "new"}, "another folder"),
        ("moderate", ["text"], {"safety_to": "new"}, "safety_to must be left out without to="),
        ("score", ["text", "how good", 1, 3], {"to": "new"}, "to must be left out .* to_parquet"),
        ("embed", ["text"], {"progress": "yes"}, "progress must be True, False or a function"),
        ("classify", ["text", ["one"]], {}, "at least two labels"),
        ("complete", ["{nope}"], {}, "nope"),
        ("complete", ["{text}"], {"schema": {"a": int}, "flatten": False}, "flatten must be"),
        ("complete", ["{text}"], {"on_error": "explode"}, "on_error must be"),
        ("moderate", ["text"], {"session": "mine"}, "session must be left out"),
    ],
)
def test_wrong_arguments_are_refused_while_the_graph_is_built(
    driver: Session, service: LocalServer, method: str, args: list[Any], options: dict[str, Any], message: str
) -> None:
    service.stats.reset()
    with pytest.raises(InputError, match=message):
        getattr(collection().skytells, method)(*args, **options)
    assert not service.stats.records


def test_a_graph_can_be_built_without_a_key(service: LocalServer, isolated: None) -> None:
    """The workers have one."""
    result = collection().skytells.classify("text", ["a", "b"])
    assert result.dtypes["label"].categories.tolist() == ["a", "b"]


def test_methods_that_need_all_rows_say_what_to_do(driver: Session) -> None:
    """Each method of pandas either works by row or says so."""
    for pandas, accessor in (
        (FrameAccessor, sky_dask.DaskFrameAccessor),
        (SeriesAccessor, sky_dask.DaskSeriesAccessor),
    ):
        names = {name for name in dir(pandas) if not name.startswith("_")} - {"report"}
        assert names <= set(dir(accessor))
        done = {"cluster", "dedupe", "join", "similar", "topics"} if pandas is FrameAccessor else set()
        for name in (names & set(INSTEAD)) - {"estimate", "search", "summarize"} - done:
            with pytest.raises(InputError, match="needs all rows"):
                getattr(accessor(collection()), name)("text")
    assert set(ROW_METHODS) <= set(dir(sky_dask.DaskFrameAccessor))


def test_estimates_and_samples_of_a_collection(client: Any, driver: Session, service: LocalServer) -> None:
    """Without a request; by a sample with few; the same as in pandas where no text is in two partitions."""
    frame = pd.DataFrame({"text": [f"{os.urandom(4).hex()} words" for _ in range(40)]})
    ddf = dd.from_pandas(frame, npartitions=4)
    # The workers may know from another test how many bytes a token has, as this process does not.
    client.run(forget_profiles)
    service.stats.reset()
    for estimate, expected in [
        (ddf.skytells.embed("text", dry_run=True), frame.skytells.embed("text", dry_run=True)),
        (ddf.skytells.estimate("text"), frame.skytells.estimate("text")),
        (ddf.skytells.estimate("{text}", max_tokens=3), frame.skytells.estimate("{text}", max_tokens=3)),
        (ddf["text"].skytells.estimate("moderate"), frame["text"].skytells.estimate("moderate")),
        (ddf.skytells.estimate("moderate", "text"), frame.skytells.estimate("moderate", "text")),
        (ddf.skytells.dedupe("text", dry_run=True), frame.skytells.dedupe("text", dry_run=True)),
        (ddf.skytells.estimate("cluster", "text", 3), frame.skytells.estimate("cluster", "text", 3)),
    ]:
        assert (estimate.operation, estimate.rows, estimate.distinct) == (expected.operation, 40, 40)
        assert estimate.tokens_in == pytest.approx(expected.tokens_in, abs=4)
        assert estimate.tokens_out == expected.tokens_out
        assert any("paid for once" in note for note in estimate.notes)
    assert not service.stats["chat"].requests + service.stats["embeddings"].requests
    sample = ddf.skytells.complete("{text}", max_tokens=3, sample=8)
    assert (sample.rows, len(sample.result)) == (8, 8)
    assert service.stats["chat"].requests == 8
    assert (sample.estimate.rows, sample.estimate.calibrated) == (40, True)
    assert sample.estimate.requests == 40
    whole = ddf.skytells.complete("{text}", max_tokens=3)
    whole.compute()
    assert service.stats["chat"].requests == 40
    used = sample.report.tokens_in + whole.skytells.report.tokens_in
    assert sample.estimate.tokens_in == pytest.approx(used, rel=0.05)
    with pytest.raises(InputError, match="pass one of them"):
        ddf.skytells.embed("text", dry_run=True, sample=3)
    with pytest.raises(InputError, match="method must be one of"):
        ddf["text"].skytells.estimate()


@pytest.mark.parametrize("query", ["text 3", ["text 3", "text 7", "text 3"]])
def test_search_finds_the_best_rows_of_all_partitions(driver: Session, query: Any) -> None:
    """Those that pandas finds in one frame, in the same order; lazily."""
    expected = sky.frame(collection().compute(scheduler="sync")).search(query, "text", 9, progress=False)
    result = collection().skytells.search(query, "text", 9)
    assert result.dtypes.equals(expected.dtypes)
    pd.testing.assert_frame_equal(result.compute(scheduler="threads"), expected)


@pytest.mark.parametrize("by", ["shop", None])
def test_summaries_of_groups_in_several_partitions_are_summarized_again(
    driver: Session, service: LocalServer, by: Any
) -> None:
    """Lazily, in the order of the partitions; a group of one partition is not, and a blocked text is left out."""
    mark = os.urandom(4).hex()
    texts = [f"a {mark}", f"b {mark}", None, f"d {mark}", "violence:high", f"f {mark}", f"g {mark}", f"h {mark}", " "]
    frame = pd.DataFrame({"text": texts, "shop": ["X", "Y", "X", "Y", "Y", "Z", "Z", "X", "W"]})
    ddf = dd.from_pandas(frame, npartitions=3)
    service.stats.reset()
    result = ddf.skytells.summarize("text", by, progress=False)
    estimate = ddf.skytells.summarize("text", by, progress=False, dry_run=True)
    assert any("once more" in note for note in estimate.notes)
    assert not service.stats["chat"].requests
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        computed = result.compute(scheduler="threads")
        sent = service.stats["chat"].requests
        # The stand-in of the model repeats its input, so that a tree of any shape has the same summary.
        expected = sky.frame(ddf.compute()).summarize("text", by, progress=False)
    pd.testing.assert_frame_equal(computed, expected)
    assert computed.dtypes.equals(result.dtypes)
    assert result.skytells.report.requests == sent


def test_a_summary_without_what_one_partition_says_is_missing(driver: Session, service: LocalServer) -> None:
    """And one budget is for both levels."""
    partial = pd.DataFrame({"texts": [1, 2, 1, 0], "summary": ["x", None, "y", None]}, index=["A", "A", "B", "B"])
    assert several_partials(partial, "summary").empty
    again = pd.DataFrame({"texts": [], "summary": pd.Series([], dtype="str")})
    whole = whole_summaries(partial, again, "summary")
    assert whole["texts"].to_dict() == {"A": 3, "B": 1}
    assert whole["summary"].isna().to_dict() == {"A": True, "B": False}
    ddf = without_known_cache(collection()).assign(shop="A")
    service.stats.reset()
    with pytest.raises(BudgetExceededError):
        ddf.skytells.summarize("text", "shop", budget=1e-9, on_error="raise", progress=False).compute(
            scheduler="threads"
        )
    with pytest.raises(InputError, match="by must be one column"):
        ddf.skytells.summarize("text", ["shop", "n"])
    assert not service.stats["chat"].requests


def test_clusters_of_a_sample_are_given_to_all_rows(driver: Session) -> None:
    frame = FRAME.skytells.embed("text", dimensions=16, progress=False)
    sample = sky.frame(frame[:40]).cluster("embedding", 3, name="words", text="text", progress=False)
    ddf = collection().skytells.embed("text", dimensions=16)
    result = ddf.skytells.cluster("embedding", like=sample)
    computed = result.compute(scheduler="threads")
    assert computed.dtypes.equals(result.dtypes)
    expected = sky.frame(frame).cluster("embedding", like=sample, progress=False)
    pd.testing.assert_series_equal(computed["cluster"], expected["cluster"])
    with pytest.raises(InputError, match="embed\\(\\) both"):
        collection().skytells.cluster("text", like=sample)


def test_rows_that_need_all_others_have_the_results_of_pandas(driver: Session, service: LocalServer) -> None:
    """Clusters of a sample, here of all rows; near duplicates over partitions; the best rows of another frame."""
    kinds = {"cat": "kitten purr meow paw", "stock": "share market trade price", "rain": "storm cloud wet wind"}
    texts: list[str | None] = [
        f"{kind} {first} {second}"
        for first, second in itertools.product(range(4), range(4))
        for kind in (f"{name} {words.split()[first]} {words.split()[second]}" for name, words in kinds.items())
    ]
    texts[5] = texts[20] = None
    frame = pd.DataFrame({"text": texts, "n": range(48)}, index=range(100, 148))
    ddf = dd.from_pandas(frame, npartitions=5)
    vectors = frame.skytells.embed("text", dtype="arrow", progress=False)
    embedded = ddf.skytells.embed("text", progress=False)
    service.stats.reset()
    for given, expected in ((ddf, frame), (embedded, vectors)):
        column, whole = given.columns[-1] if given is embedded else "text", sky.frame(expected)
        clustered = given.skytells.cluster(column, name="words", text="text", progress=False)
        found = clustered.compute(scheduler="threads")
        assert found.dtypes.equals(clustered.dtypes)
        pd.testing.assert_frame_equal(
            found, whole.cluster(column, name="words", text="text", progress=False), check_dtype=False
        )
        topics = clustered.skytells.topics(text="text", examples=2).compute(scheduler="threads")
        pd.testing.assert_frame_equal(topics, sky.frame(found).topics(text="text", examples=2), check_dtype=False)
        for keep, threshold in (("first", 0.6), ("groups", 0.8)):
            lazy = given.skytells.dedupe(column, threshold, keep=keep, progress=False)
            computed = lazy.compute(scheduler="threads")
            assert (computed.dtypes.equals(lazy.dtypes), lazy.divisions) == (True, ddf.divisions)
            groups = whole.dedupe(column, threshold, keep=keep, progress=False)
            pd.testing.assert_frame_equal(computed, groups, check_dtype=False)
            assert 1 < len(groups if keep == "first" else groups["group"].unique()) < 48
        for label, collection_ in ((103, given), (146, given.clear_divisions())):
            lazy = collection_.skytells.similar(label, column, 7, progress=False)
            nearest = lazy.compute(scheduler="threads")
            assert nearest.dtypes.equals(lazy.dtypes)
            pd.testing.assert_frame_equal(
                nearest, whole.similar(label, column, 7, progress=False), check_dtype=False, atol=1e-6
            )
    other = pd.DataFrame(
        {"subject": ["rain storm", "stock market", None], "id": [1, 2, 3], "is_wet": [True, False, None]}
    )
    for how, right in (("inner", other), ("left", dd.from_pandas(other, npartitions=2))):
        call: Any = {"on": ("text", "subject"), "how": how, "threshold": 0.2, "progress": False}
        lazy = ddf.skytells.join(right, **call)
        computed = lazy.compute(scheduler="threads")
        assert computed.dtypes.equals(lazy.dtypes)
        rows = right if right is other else right.compute(scheduler="threads")
        pd.testing.assert_frame_equal(computed, sky.frame(frame).join(rows, **call), check_dtype=False)
        assert how == "left" or 0 < len(computed) < 48


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ddf: ddf.skytells.cluster("text", n=0), "n must be a positive integer"),
        (lambda ddf: ddf.skytells.cluster("text", like=FRAME, n=2), "no column 'cluster'"),
        (lambda ddf: ddf.skytells.cluster("text", text="no"), "no column 'no'"),
        (lambda ddf: ddf.skytells.cluster("text", budget=1.0), "embed\\(\\) it before"),
        (lambda ddf: ddf.skytells.cluster("text", dry_run=True, sample=3), "pass one of them"),
        (lambda ddf: ddf.skytells.dedupe("text", 2), "threshold must be"),
        (lambda ddf: ddf.skytells.dedupe("text", recall=0.9), "recall must be 1"),
        (lambda ddf: ddf.skytells.dedupe("text", keep="last"), "keep must be"),
        (lambda ddf: ddf.skytells.join(ddf["text"], on="text"), "pandas DataFrame"),
        (lambda ddf: ddf.skytells.join(ddf, on="no"), "no column 'no'"),
        (lambda ddf: ddf.skytells.similar(7, "text"), "no row 7"),
        (lambda ddf: ddf.skytells.similar("x", "text"), "no row 'x'"),
        (lambda ddf: ddf.skytells.similar(101, "text", 0), "k must be"),
        (lambda ddf: ddf.skytells.similar(101, "n"), "texts or embeddings"),
        (lambda ddf: ddf.skytells.similar(101, "text", sample=3), "dry_run=True instead"),
        (lambda ddf: dd.concat([ddf, ddf]).skytells.similar(101, "text"), "must name one row, got 2"),
        (lambda ddf: ddf.skytells.join(FRAME, on="text", confirm=True, agree=0.9), "learns from all rows"),
        (lambda ddf: ddf.skytells.topics("n"), "no column 'n_score'"),
        (lambda ddf: ddf.assign(c=ddf["text"].astype("category")).skytells.topics("c"), "known categories"),
        (lambda ddf: ddf.skytells.topics(levels=2), "levels must be 1"),
        (lambda ddf: ddf["text"].skytells.dedupe(), "on the Dask DataFrame"),
    ],
)
def test_wrong_arguments_of_methods_over_all_rows_send_nothing(
    driver: Session, service: LocalServer, call: Any, message: str
) -> None:
    service.stats.reset()
    with pytest.raises(InputError, match=message):
        call(without_known_cache(collection()))
    assert not service.stats.records


def test_a_sample_has_every_row_alike_and_keeps_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of partitions of any size; the same each time."""
    monkeypatch.setattr(whole_frames, "SAMPLE_ROWS", 2_000)
    sizes = [9_000, 0, 300, 700, *[100] * 10]
    ddf = dd.from_map(lambda size: pd.DataFrame({"size": [size] * size}), sizes, meta={"size": "int64"})
    with dask.config.set(scheduler="sync"):
        rows = whole_frames.sample_rows(ddf)["size"]
        assert rows.equals(whole_frames.sample_rows(ddf)["size"])
    assert len(rows) == 2_000
    assert rows.drop_duplicates().tolist() == [9_000, 300, 700, 100]
    assert (rows == 9_000).mean() == pytest.approx(9_000 / 11_000, abs=0.04)


def test_a_sample_of_clusters_and_near_duplicates_is_small(driver: Session, service: LocalServer) -> None:
    """With the names of its clusters; the estimate is that of all rows."""
    ddf = without_known_cache(dd.from_pandas(FRAME.drop_duplicates("text"), npartitions=2))
    service.stats.reset()
    deduped = ddf.skytells.dedupe("text", 0.99, sample=4)
    clustered = ddf.skytells.cluster("text", 2, name="words", sample=4)
    assert (len(deduped.result), len(clustered.result), clustered.result["cluster"].nunique()) == (4, 4, 2)
    assert (deduped.estimate.rows, clustered.estimate.rows) == (10, 10)
    assert sum(record.inputs for record in service.stats.records) == 4


def test_a_collection_of_many_rows_is_not_joined_with(driver: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_frames, "MAX_JOINED", 59)
    with pytest.raises(InputError, match="other must have at most 59 rows"), dask.config.set(scheduler="sync"):
        collection().skytells.join(collection(), on="text")


def test_a_cache_that_keeps_nothing_is_warned_of(service: LocalServer, isolated: None) -> None:
    sky.connect(service.api_key, base_url=service.base_url, cache="off")
    with pytest.warns(SkytellsWarning, match="paid for twice"):
        collection().skytells.embed("text")


def test_a_meta_that_does_not_fit_is_an_error(driver: Session) -> None:
    """Of the vectors' length here, which the graph promised for every partition."""
    call = sky_dask.PartitionCall(
        "embed",
        ("text",),
        {"dimensions": 8},
        sky_dask.GraphConnection.of(driver),
        pd.DataFrame(
            {"text": [], "n": [], "embedding": pd.Series([], dtype=vector_dtype(16))},
        ),
    )
    with pytest.raises(InputError, match="does not fit"):
        call(FRAME[:3])
    with pytest.raises(InputError, match="does not fit its partitions"):
        call(FRAME[:3].rename(columns={"n": "m"}))


def test_partitions_with_other_columns_than_the_meta_send_nothing(driver: Session, service: LocalServer) -> None:
    """As of a collection whose meta was given by hand."""
    rename = {"columns": {"n": "m"}}
    ddf = collection().map_partitions(lambda part: part.rename(**rename), meta=FRAME[:0], enforce_metadata=False)
    result = ddf.skytells.embed("text", dimensions=8)
    service.stats.reset()
    with pytest.raises(InputError, match="Nothing was sent"):
        result.compute(scheduler="threads")
    assert not service.stats.records


@pytest.mark.parametrize("what", ["version", "address", "model"])
def test_a_worker_that_differs_from_the_driver_sends_nothing(
    client: Any, driver: Session, service: LocalServer, what: str
) -> None:
    """Its version, its address, which the graph does not choose for it, or its models."""
    elsewhere = {"base_url": "http://127.0.0.1:1/v1"} if what == "address" else {"model": "another-model"}
    if what != "version":
        sky.connect(service.api_key, cache="memory", **{"base_url": service.base_url, **elsewhere})
    connection = sky_dask.GraphConnection.of(sky.current())
    version = "0.0.1" if what == "version" else sky.__version__
    call = sky_dask.PartitionCall("embed", ("text",), {"dimensions": 8}, connection, FRAME[:0], version=version)
    client.run(_connect_worker)
    service.stats.reset()
    with pytest.raises(ConfigurationError, match="Nothing was sent"):
        client.submit(call, FRAME, pure=False).result(200)
    assert not service.stats.records


def _connect_worker() -> None:
    sky.current()


def test_errors_of_a_partition_reach_the_driver(client: Any, driver: Session, service: LocalServer) -> None:
    """Typed, and without the rows of the partition."""
    ddf = without_known_cache(collection(2)).assign(text="violence:high")
    with pytest.raises(RowError, match="rows failed") as caught:
        ddf.skytells.complete("{text}", on_error="raise", max_tokens=3).compute()
    assert caught.value.frame is None


@pytest.mark.parametrize("scheduler", ["processes", "threads"])
def test_the_driver_has_one_report_of_all_workers(
    client: Any, driver: Session, service: LocalServer, scheduler: str
) -> None:
    """With the rows that failed by position and by label, also of a collection that was made from the result."""
    ddf = without_known_cache(collection(3))
    ddf = ddf.assign(text=ddf["text"].where(ddf["n"] % 20 != 3, "violence:high"))
    result = ddf.skytells.complete("{text}", max_tokens=3)
    with pytest.raises(InputError, match="computed yet"):
        result.skytells.report  # noqa: B018
    with pytest.raises(InputError, match="No method"):
        ddf.skytells.report  # noqa: B018
    service.stats.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        result.compute() if scheduler == "processes" else result.compute(scheduler="threads")
    report = result[["completion"]].skytells.report
    assert (report.state, report.rows, report.failed, report.answered) == ("done", 60, 3, 57)
    assert report.requests == service.stats["chat"].requests >= 10
    assert sorted(report.errors) == [3, 23, 43]
    failed = result.skytells.failed()
    assert failed.index.tolist() == [103, 123, 143]
    assert failed["error"].str.startswith("ContentPolicyError").all()
    result.partitions[0].compute(scheduler="threads")
    again = result.skytells.report
    assert (again.rows, again.requests) == (60, report.requests)


def test_workers_write_parts_and_the_same_call_goes_on(
    client: Any, driver: Session, service: LocalServer, tmp_path: Path
) -> None:
    """What pandas would return, with the safety table, report and lineage; parts are not done twice."""
    whole = pd.DataFrame({"text": [f"{os.urandom(4).hex()} word" for _ in range(40)]})
    broken = whole.assign(text=whole["text"].where(whole.index != 33, "violence:high"))
    arguments: dict[str, Any] = {"max_tokens": 3, "details": True, "progress": False}
    to = {"to": tmp_path / "out", "safety_to": tmp_path / "safety"}
    with pytest.raises(RowError) as caught:
        dd.from_pandas(broken, npartitions=4).skytells.complete("{text}", **arguments, **to, on_error="raise")
    assert any("of 4 parts are in" in note for note in caught.value.__notes__)
    _wait_until(lambda: not any(client.run(_tasks_there).values()))

    def parts() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in tmp_path.rglob("part-*")}

    before = parts()
    ddf = dd.from_pandas(whole, npartitions=4)
    path = ddf.skytells.complete("{text}", **arguments, **to)
    assert path == tmp_path / "out"
    assert before.items() <= parts().items()
    assert len(parts()) == 8
    expected = sky.frame(whole).complete("{text}", **arguments)
    read, variable = files.read(path), ["completion_cost", "completion_safety"]
    pd.testing.assert_frame_equal(read.drop(columns=variable), expected.drop(columns=variable), check_dtype=False)
    assert len(dd.read_parquet(path)) == 40
    safety = files.read(tmp_path / "safety")
    pd.testing.assert_frame_equal(safety, sky.frame(expected).safety("completion"), check_dtype=False)
    report, made = ddf.skytells.report, read.skytells.lineage
    assert (report.state, report.rows, report.answered) == ("done", 40, 40)
    assert (made["call"].nunique(), made["rows"].tolist()[0]) == (1, 40)
    written = parts()
    service.stats.reset()
    ddf.skytells.complete("{text}", **arguments, **to)
    assert parts() == written
    with pytest.raises(InputError, match="not a part of this call"):
        ddf.skytells.complete("Say {text}", **arguments, **to)
    other = dd.from_pandas(whole[::-1].reset_index(drop=True), npartitions=4)
    for places, refused in ((to, "out"), ({"to": tmp_path / "new", "safety_to": to["safety_to"]}, "safety")):
        with pytest.raises(InputError, match=f"{refused} holds 4 parts of other rows"):
            other.skytells.complete("{text}", **arguments, **places)
    assert parts() == written
    assert not service.stats["chat"].requests
    with claimed(tmp_path / "third", "a call", "its rows"), pytest.raises(InputError, match="another call writes now"):
        ddf.skytells.complete("{text}", **arguments, to=tmp_path / "third")
    assert not service.stats["chat"].requests
    # Of a collection whose other partitions have the same rows, one is done again.
    changed = dd.from_pandas(whole.assign(text=whole["text"].where(whole.index != 33, "other")), npartitions=4)
    changed.skytells.complete("{text}", **arguments, **to)
    assert {name for name, time in parts().items() if time != written[name]} == {
        str(folder / "part-00003.parquet") for folder in to.values()
    }


def test_a_worker_without_the_folder_sends_nothing(driver: Session, service: LocalServer, tmp_path: Path) -> None:
    """Its disk is not that of the process that built the graph."""
    bound = BoundCall(FrameAccessor.moderate, FRAME, ("text",), {})
    parts = Parts.of(tmp_path / "out", None, bound, driver, (1,), parquet_schema(FRAME))
    call = sky_dask.PartitionCall("moderate", ("text",), {}, sky_dask.GraphConnection.of(driver), FRAME, parts=parts)
    service.stats.reset()
    with pytest.raises(InputError, match="on a disk that all workers"):
        call(FRAME)
    assert not service.stats.records


@pytest.mark.parametrize("counted_by", ["scheduler", "redis", "process", "share"])
def test_one_budget_holds_over_all_workers(
    request: pytest.FixtureRequest, driver: Session, service: LocalServer, counted_by: str
) -> None:
    """It is used up, and not exceeded; what it covers is done."""
    if counted_by in ("scheduler", "redis"):
        request.getfixturevalue("client")
    options: dict[str, Any] = {"max_tokens": 3, "on_error": "raise", "progress": False}
    if counted_by == "redis":
        address = shared_server("redis").address()
        sky.connect(service.api_key, base_url=service.base_url, cache=address)
        options["cache"] = address
    texts = pd.DataFrame({"text": [f"{os.urandom(4).hex()} word" for _ in range(48)]})
    ddf = dd.from_pandas(texts, npartitions=6)
    one = sky.frame(texts[:1]).complete("{text}", **options)
    price = one.skytells.report.cost
    assert price is not None
    service.stats.reset()
    limited = ddf.skytells.complete("{text}", budget=18.5 * price, **options)
    if counted_by == "share":
        # As in a process of its own, of which there is no worker.
        monkeypatch = request.getfixturevalue("monkeypatch")
        monkeypatch.setattr(call_budget, "_PROCESS", b"another")
    compute: dict[str, Any] = {"scheduler": "threads"} if counted_by in ("process", "share") else {}
    with pytest.raises(BudgetExceededError, match="The budget of"):
        limited.compute(**compute)
    found = request.getfixturevalue("client") if counted_by in ("scheduler", "redis") else None
    _wait_until(lambda: not (_partitions_here() or (found and any(found.run(_tasks_there).values()))))
    assert service.stats["chat"].requests <= 18
    assert service.stats["chat"].requests >= (3 if counted_by == "share" else 12)
    if counted_by == "scheduler":
        enough = ddf.skytells.complete("{text}", budget=1.0, **options)
        assert enough.compute()["completion"].tolist() == [text.strip() for text in texts["text"]]
        # Those in flight where the budget ended may be asked for again.
        assert service.stats["chat"].distinct == 47


def test_a_budget_is_not_begun_where_its_counter_is_not_there(client: Any, service: LocalServer) -> None:
    """At the driver; and a worker with another cache than the one that counts sends nothing."""
    sky.connect(service.api_key, base_url=service.base_url, cache="redis://127.0.0.1:1/0")
    with pytest.raises(CacheError, match="Nothing was sent"):
        collection().skytells.complete("{text}", budget=1.0)
    connected = sky.connect(service.api_key, base_url=service.base_url, cache=shared_server("redis").address())
    result = without_known_cache(collection()).skytells.complete("{text}", budget=1.0, max_tokens=3)
    service.stats.reset()
    with pytest.raises(ConfigurationError, match="Set SKYTELLS_CACHE"):
        result.compute()
    assert not service.stats["chat"].requests
    connected.close()


@pytest.mark.parametrize("scheduler", ["processes", "threads"])
def test_progress_of_all_workers_is_shown_at_the_driver(client: Any, driver: Session, scheduler: str) -> None:
    """Rows, rate, dollars and failures of all partitions, in one line that ends with them."""
    events: list[Progress] = []
    frame = pd.DataFrame({"text": [f"{os.urandom(4).hex()} word" for _ in range(80)]})
    frame.loc[[3, 43], "text"] = ["violence:high", "violence:high"]
    ddf = dd.from_pandas(frame, npartitions=4)
    result = ddf.skytells.complete("{text}", max_tokens=3, max_in_flight=2, progress=events.append)
    assert not events
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkytellsWarning)
        result.compute() if scheduler == "processes" else result.compute(scheduler="threads")
    _wait_until(lambda: events and events[-1].state == "done")
    assert (events[-1].done, events[-1].rows, events[-1].failed) == (80, 80, 2)
    running = [event for event in events if event.state == "running"]
    assert any(0 < event.done < 80 for event in running)
    assert {event.label for event in events} == {"complete"}
    assert [event.done for event in events] == sorted(event.done for event in events)
    assert events[-1].cost == pytest.approx(result.skytells.report.cost)
    assert events[-1].requests == result.skytells.report.requests


def test_what_comes_after_the_end_of_a_partition_begins_no_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of a run that was stopped may still have an event."""
    monkeypatch.setattr("skytells_nb.dask.running_progress.EVENT_INTERVAL_S", 0.0)
    events: list[Progress] = []
    show_progress("skytells-late", PartsProgress("embed", 1, events.append))
    part = PartitionProgress("skytells-late", 0, 3)
    part(Progress("embed", "running", 3, 1))
    part.end(None, "interrupted")
    part(Progress("embed", "running", 3, 2))
    assert [(event.state, event.done) for event in events] == [("running", 0), ("running", 1), ("interrupted", 1)]


def _press_ctrl_c(ended: threading.Event) -> None:
    """Interrupt the main thread, as often as a person would until something happens.

    Dask waits for its threads without an end, and ten seconds for its scheduler. An interrupt that comes between
    Python's check and that system call is seen only after it. Here it often comes just then: where the main thread
    begins to wait, this one can go on.
    """
    os.kill(os.getpid(), signal.SIGINT)
    while not ended.wait(1) and _waits_in_dask(threading.main_thread()):
        os.kill(os.getpid(), signal.SIGINT)


def _waits_in_dask(thread: threading.Thread) -> bool:
    """Whether a thread waits for what the threads of a computation have done."""
    assert thread.ident is not None
    stack = traceback.extract_stack(sys._current_frames()[thread.ident])
    return stack[-1].filename == threading.__file__ and any(step.name in ("queue_get", "sync") for step in stack)


ENDINGS = ["cancelled", "interrupted", "interrupted threads"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_is_paid_once_a_computation_has_ended(
    client: Any, driver: Session, service: LocalServer, ending: str
) -> None:
    """By ``future.cancel()`` or Ctrl-C at the driver no partition goes on; the next computation is whole."""
    frame = pd.DataFrame({"text": [f"{os.urandom(6).hex()}" for _ in range(8_000)]})
    events: list[Progress] = []
    result = dd.from_pandas(frame, npartitions=4).skytells.moderate("text", max_in_flight=4, progress=events.append)
    client.run(_connect_worker)
    service.stats.reset()

    def is_under_way() -> bool:
        return service.stats["chat"].requests > 40

    has_ended = threading.Event()

    def interrupt() -> None:
        _wait_until(is_under_way)
        _press_ctrl_c(has_ended)

    if ending == "cancelled":
        future = client.compute(result)
        _wait_until(is_under_way)
        future.cancel()
    else:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            result.compute(**({"scheduler": "threads"} if ending == "interrupted threads" else {}))
        has_ended.set()
    _wait_until(lambda: not (any(client.run(_tasks_there).values()) or _partitions_here()))
    requests = service.stats["chat"].requests
    assert requests < 2_000, "a partition went on to its end"
    _wait_until(lambda: events and events[-1].state == "interrupted")
    small = without_known_cache(collection(2)).skytells.embed("text", dimensions=8)
    assert len(small.compute()) == 60
    # The service may take a while to read what was in flight.
    assert service.stats["chat"].requests <= requests + 4 * 4


def test_partitions_that_had_not_begun_send_nothing_after_ctrl_c(driver: Session, service: LocalServer) -> None:
    """Their threads come to them only then. Also where Polars was imported, which lets waits go on after Ctrl-C."""
    frame = pd.DataFrame({"text": [os.urandom(6).hex() for _ in range(40)]})
    signal.siginterrupt(signal.SIGINT, False)
    result = dd.from_pandas(frame, npartitions=2).skytells.moderate("text", progress=False)
    service.stats.reset()
    interrupted, both_wait = threading.Event(), threading.Barrier(3)

    def wait() -> None:
        both_wait.wait(100)
        interrupted.wait(100)

    with ContextAwareThreadPoolExecutor(2) as threads:
        for _ in range(2):
            threads.submit(wait)
        both_wait.wait(100)

        def interrupt() -> None:
            _wait_until(lambda: threads._work_queue.qsize() == 2)
            _press_ctrl_c(interrupted)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            result.compute(scheduler="threads", pool=threads)
        interrupted.set()
    assert not service.stats["chat"].requests


def test_computations_are_watched_also_after_two_ran_at_the_same_time(driver: Session) -> None:
    """Which Dask ends by forgetting what watches all of them."""
    begun, ends = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def wait(number: int) -> None:
        begun[number].set()
        ends[number].wait(60)

    def compute(number: int) -> None:
        delayed(wait)(number).compute(scheduler="threads")

    computations = [threading.Thread(target=compute, args=(number,)) for number in (0, 1)]
    for number in (0, 1):
        computations[number].start()
        assert begun[number].wait(60)
    for number in (0, 1):
        ends[number].set()
        computations[number].join()
    collection().skytells.moderate("text", progress=False)
    assert Callback.active


def test_a_partition_that_fails_ends_the_others_in_a_pool_of_the_caller(driver: Session, service: LocalServer) -> None:
    """Which does not say whom its threads work for."""
    _begun.clear()
    frame = pd.DataFrame({"text": [os.urandom(6).hex() for _ in range(4_000)]})
    ddf = dd.from_pandas(frame, npartitions=2).map_partitions(_first_fails, meta=frame[:0])
    service.stats.reset()

    def begin() -> None:
        _wait_until(lambda: service.stats["chat"].requests > 4)
        _begun.set()

    threading.Thread(target=begin).start()
    with ThreadPoolExecutor(2) as threads, pytest.raises(ValueError, match="the first fails"):
        ddf.skytells.moderate("text", max_in_flight=4, progress=False).compute(scheduler="threads", pool=threads)
    assert service.stats["chat"].requests < 1_500


_begun = threading.Event()


def _first_fails(part: Any, partition_info: Any = None) -> Any:
    if partition_info["number"] == 0:
        _wait_until(_begun.is_set)
        raise ValueError("the first fails")
    return part


def _tasks_there(dask_worker: Any) -> int:
    """Return how many tasks a worker has, cancelled ones that still run included."""
    return len(dask_worker.state.tasks)


def _partitions_here() -> int:
    """Return how many partitions are being done by threads of this process."""
    return sum(thread.name == "skytells-dask" for thread in threading.enumerate())


@pytest.mark.slow
def test_a_killed_worker_costs_only_what_it_had_in_flight(client: Any, driver: Session, service: LocalServer) -> None:
    """Its partitions are done again by another, from the cache."""
    frame = pd.DataFrame({"text": [f"{os.urandom(6).hex()}" for _ in range(400)]})
    ddf = dd.from_pandas(frame, npartitions=4)
    service.stats.reset()
    future = client.compute(ddf.skytells.moderate("text", max_in_flight=8))
    _wait_until(lambda: service.stats["chat"].requests > 100)
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)
    result = future.result(200)
    assert len(result) == 400
    assert result["moderation_severity"].notna().all()
    assert result["text"].tolist() == frame["text"].tolist()
    assert service.stats["chat"].requests <= 400 + 2 * 8


@pytest.mark.slow
@pytest.mark.timeout(900)  # four processes that import everything
def test_a_scheduler_that_restarts_costs_only_what_was_in_flight(
    service: LocalServer, isolated: None, tmp_path: Path
) -> None:
    """Dask forgets the computation and its workers end: the same call is then answered from the cache, but for that."""
    environment = {
        **os.environ,
        "SKYTELLS_API_KEY": service.api_key,
        "SKYTELLS_BASE_URL": service.base_url,
        "SKYTELLS_CACHE": str(tmp_path / "answers.sqlite"),
        "PYTHONPATH": str(Path(sky.__file__).parent.parent),
    }
    sky.connect(service.api_key, base_url=service.base_url, cache=tmp_path / "answers.sqlite")
    frame = pd.DataFrame({"text": [os.urandom(6).hex() for _ in range(120)]})
    result = dd.from_pandas(frame, npartitions=4).skytells.moderate("text", max_in_flight=2, progress=False)
    processes: list[subprocess.Popen[bytes]] = []

    def started(number: int) -> distributed.Client:
        """Start a scheduler and a worker, each in a process."""
        place = [
            "--scheduler-file",
            str(tmp_path / f"scheduler-{number}.json"),
            "--no-dashboard",
            "--host",
            "127.0.0.1",
        ]
        for name, more in (("scheduler", ["--port", "0"]), ("worker", ["--nthreads", "2", "--no-nanny"])):
            command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *place, *more]
            processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL))
            # The client reads the file for a tenth of a second only, and it may be there before it is written.
            _wait_until(lambda: Path(place[1]).exists() and Path(place[1]).read_text().endswith("}"))
        return distributed.Client(scheduler_file=place[1], timeout=100)

    service.stats.reset()
    try:
        with started(1) as client:
            future = client.compute(result)
            _wait_until(lambda: service.stats["chat"].requests > 30)
            processes[0].kill()
            with pytest.raises(distributed.client.FutureCancelledError):
                future.result(100)
        with started(2):
            computed = result.compute()
        processes[1].wait(100)
    finally:
        for process in processes:
            process.kill()
            process.wait(100)
    assert computed["text"].tolist() == frame["text"].tolist()
    assert computed["moderation_severity"].notna().all()
    assert service.stats["chat"].distinct == 120
    assert service.stats["chat"].requests <= 120 + 2 * 2


@pytest.mark.slow
def test_a_worker_that_is_added_and_a_store_that_restarts_change_nothing(
    client: Any, cluster: Any, service: LocalServer, isolated: None
) -> None:
    """The result is complete, in order, and paid for once, but for what was in flight while the store was away."""
    server = SERVERS["redis"]()
    server.start()
    session = sky.connect(service.api_key, base_url=service.base_url, cache=server.address())
    frame = pd.DataFrame({"text": [os.urandom(6).hex() for _ in range(600)]})
    ddf = dd.from_pandas(frame, npartitions=6)
    service.stats.reset()
    future = client.compute(ddf.skytells.moderate("text", cache=server.address(), max_in_flight=2))
    try:
        _wait_until(lambda: service.stats["chat"].requests > 50)
        server.crash()
        cluster.scale(3)
        _wait_until(lambda: len(client.scheduler_info()["workers"]) == 3)
        server.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SkytellsWarning)
            result = future.result(200)
    finally:
        cluster.scale(2)
        session.close()
    assert result["text"].tolist() == frame["text"].tolist()
    assert result["moderation_severity"].notna().all()
    # No text is in two partitions, so that even without the store's leases none is asked for twice.
    assert service.stats["chat"].requests <= 600 + 3 * 2 * 2


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < deadline, f"waited for {inspect.getsource(condition).strip()}"
        time.sleep(0.02)
