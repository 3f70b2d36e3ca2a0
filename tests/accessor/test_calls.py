"""What every call of df.skytells keeps to: any kind of column, any place it runs in, and a report of every end."""

from __future__ import annotations

import asyncio
import pickle
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from local_fakes import EchoGenerator
from served import connected, served

import skytells_nb as sky
from skytells_nb.errors import InputError, Interrupted, ModelNotFoundError, SkytellsWarning
from skytells_nb.local.server import LocalServer
from skytells_nb.progress.events import Progress


def test_nulls_of_every_kind_are_null(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": pd.Series(["a", None, float("nan"), pd.NA, pd.NaT, "b"], dtype=object)})
    assert frame.skytells.embed("t", progress=False)["embedding"].isna().tolist() == [False, *[True] * 4, False]
    assert server.stats["embeddings"].inputs == 2


def test_half_a_character_is_a_bad_row_and_spares_its_neighbours(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": pd.Series(["a", "\ud800b", "c"], dtype=object)})
    with pytest.warns(SkytellsWarning, match="invalid Unicode"):
        out = frame.skytells.embed("t", progress=False)
    assert out["embedding"].isna().tolist() == [False, True, False]


def test_columns_of_several_levels_are_named_in_full(server: LocalServer) -> None:
    frame = pd.DataFrame({("a", "x"): ["p", "q"], ("a", "y"): [1, 2]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = frame.skytells.embed(("a", "x"), progress=False)
        found = frame.skytells.search("p", column=("a", "x"), k=1, progress=False)
    assert out.columns.tolist()[-1] == ("embedding", "")
    assert found[("score", "")].tolist() == [pytest.approx(1.0)]
    with pytest.raises(InputError, match=r"such as \('a', 'x'\)"):
        frame.skytells.embed("a", progress=False)


def test_a_call_works_inside_a_running_event_loop(server: LocalServer, df: pd.DataFrame) -> None:
    async def cell() -> pd.DataFrame:
        return df.skytells.embed("text", progress=False)

    assert len(asyncio.run(cell())) == len(df)


def test_a_call_works_from_a_thread(server: LocalServer, df: pd.DataFrame) -> None:
    with ThreadPoolExecutor(2) as pool:
        outs = list(pool.map(lambda _: df.skytells.complete("{text}", progress=False), range(2)))
    pd.testing.assert_frame_equal(outs[0], outs[1])


def test_reports_and_their_errors_can_be_pickled(server: LocalServer) -> None:
    out = pd.DataFrame({"t": ["fine", "violence:high"]}).skytells.complete("{t}", on_error="null", progress=False)
    report = pickle.loads(pickle.dumps(out.skytells.report))
    assert str(report) == str(out.skytells.report)


def test_an_interrupted_call_leaves_what_it_had_in_report_partial(tmp_path: Path) -> None:
    """Also where the frame has the report of an earlier call."""
    gate = threading.Event()
    frame = pd.DataFrame({"t": ["one", "two", "held back", None]}, index=list("abcd"))

    def stop(event: Progress) -> None:
        if event.state == "running" and event.processed == 2:
            raise KeyboardInterrupt

    with served(generator=EchoGenerator(gate=gate)) as server, connected(server, tmp_path / "c.sqlite"):
        frame.skytells.embed("t", progress=False)
        with pytest.raises(Interrupted):
            frame.skytells.complete("{t}", progress=stop)
        gate.set()
        report = frame.skytells.report
    assert (report.state, report.operation, report.skipped) == ("interrupted", "complete", 1)
    assert report.partial.dropna().to_dict() == {"a": "one", "b": "two"}
    assert report.partial.index.equals(frame.index)


def test_a_call_that_failed_is_the_frames_report_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["one", "two"]})
    with served() as server, connected(server, "off") as session:
        frame.skytells.embed("t", progress=False)
        with pytest.raises(ModelNotFoundError):
            frame.skytells.complete("{t}", model="gpt-99", progress=False)
        assert frame.skytells.report.state == "failed"
        assert session.last_report is frame.skytells.report


class OtherLabel(EchoGenerator):
    """A model that does not keep to its schema."""

    def stream(self, messages: Any, **settings: Any) -> Any:
        return super().stream([{"role": "user", "content": '{"label": "neither"}'}], **{**settings, "schema": None})


def test_an_answer_that_is_none_of_the_labels_is_an_error_of_its_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["one"]})
    with served(generator=OtherLabel()) as server, connected(server, tmp_path / "c.sqlite"):
        with pytest.warns(SkytellsWarning, match=r"label must be one of 'pos', 'neg', got 'neither'"):
            out = frame.skytells.classify("t", ["pos", "neg"], progress=False)
        assert out["label"].isna().all()
        report = out.skytells.report
        assert (report.rows, report.answered, report.failed, report.skipped) == (1, 0, 1, 0)
        assert sky.current().last_report is report


def test_one_error_in_many_requests_is_one_reason(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["violence:high one", "violence:high two"]})
    with pytest.warns(SkytellsWarning, match=r"2 of 2 rows failed and are missing. 2 rows: ContentPolicyError"):
        frame.skytells.complete("{t}", progress=False)


@pytest.mark.parametrize(
    "dtype", ["str", "string[pyarrow]", "string[python]", "category", "object", "large_string[pyarrow]"]
)
def test_text_columns_of_every_kind(server: LocalServer, dtype: Any) -> None:
    frame = pd.DataFrame({"t": pd.Series(["one", None, "two"], dtype=dtype)}).set_axis([5, 5, 6])
    before = frame.copy(deep=True)
    out = frame.skytells.complete("{t}", progress=False)
    assert out["completion"].isna().tolist() == [False, True, False]
    assert frame["t"].skytells.embed(progress=False).isna().tolist() == [False, True, False]
    assert out.index.equals(frame.index)
    pd.testing.assert_frame_equal(frame, before)


def test_an_index_of_several_levels_is_kept(server: LocalServer) -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("a", 1), ("b", 2)], names=["x", "y"])
    out = pd.DataFrame({"t": ["one", "two", "three"]}, index=index).skytells.complete("{t}", progress=False)
    assert out.index.equals(index)
    assert out["completion"].tolist() == ["one", "two", "three"]


def test_a_call_works_within_apply(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["one", "two"]})
    said = frame.apply(lambda row: row.to_frame().T.skytells.complete("{t}", progress=False)["completion"].iloc[0], 1)
    assert said.tolist() == ["one", "two"]


def test_a_warning_does_not_promise_a_cache_that_is_off(server: LocalServer) -> None:
    frame = pd.DataFrame({"t": ["one", "half \ud83d"]}, dtype=object)
    with pytest.warns(SkytellsWarning) as caught:
        frame.skytells.complete("{t}", cache="off", progress=False)
    assert "cache" not in str(caught[0].message)


@pytest.mark.parametrize("name", ["logit_bias", "tools", "max_output_tokens"])
def test_a_parameter_that_is_not_a_keyword_goes_into_params(name: str) -> None:
    """It is a keyword of other clients, so many will try it."""
    frame = pd.DataFrame({"text": ["a"]})
    with pytest.raises(InputError, match=rf"params=\{{'{name}': 7\}}"):
        frame.skytells.complete("{text}", **{name: 7})
