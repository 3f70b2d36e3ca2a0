"""complete(rows_per_request=k): k rows share a request, and each still gets its own answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pydantic
import pytest
from local_fakes import Pairs, RowsGenerator, written
from served import connected, served, wait_until_idle
from serving import KEY, Exchange, serving

import skytells_nb as sky
from skytells_nb.errors import InputError, SkytellsWarning
from skytells_nb.local.api.rate_limits import LimitOptions
from skytells_nb.local.generation.generator import ContextLengthExceeded
from skytells_nb.local.server import LocalServer

WORDS = [f"word {n}" for n in range(12)]
FRAME = pd.DataFrame({"t": WORDS})


class Note(pydantic.BaseModel):
    text: str
    stars: int


def test_k_rows_share_a_request(tmp_path: Path) -> None:
    generator = RowsGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=5, progress=False)
        assert out["completion"].tolist() == WORDS
        assert wait_until_idle(server, "chat").requests == 3
    assert sorted(len(rows) for rows in generator.batches) == [2, 5, 5]
    assert sorted(word for rows in generator.batches for word in rows) == sorted(WORDS)


@pytest.mark.parametrize("rows", [None, 1])
def test_off_each_row_is_a_request_with_the_key_it_always_had(tmp_path: Path, rows: int | None) -> None:
    generator = RowsGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        FRAME.skytells.complete("{t}", progress=False)
        FRAME.skytells.complete("{t}", rows_per_request=rows, progress=False)
        assert wait_until_idle(server, "chat").requests == len(WORDS)
    assert generator.batches == []


def lost(pairs: Pairs) -> Pairs:
    return [pair for pair in pairs if pair[1] not in WORDS[2:4]]


def doubled(pairs: Pairs) -> Pairs:
    return [*pairs, *((name, "another answer") for name, answer in pairs if answer in WORDS[2:4])]


def renamed(pairs: Pairs) -> Pairs:
    return [(f"row {name}" if answer in WORDS[2:4] else name, answer) for name, answer in pairs]


def of_another_type(pairs: Pairs) -> Pairs:
    return [(name, {"answer": answer} if answer in WORDS[2:4] else answer) for name, answer in pairs]


def cut(pairs: Pairs) -> str:
    text = written(pairs)
    return text[: text.index(WORDS[2])] if WORDS[2] in text else text


@pytest.mark.parametrize(
    ("spoil", "again"),
    [
        (lost, WORDS[2:4]),
        (doubled, WORDS[2:4]),
        (renamed, WORDS[2:4]),
        (of_another_type, WORDS[2:4]),
        (cut, WORDS[2:6]),
        (lambda pairs: list(reversed(pairs)), []),
        (lambda pairs: [("r0", "nobody's"), *pairs, ("r99", "nobody's")], []),
        (lambda pairs: "Sorry, no.", WORDS),
    ],
    ids=["lost", "doubled", "renamed", "of another type", "cut", "in another order", "invented", "not JSON"],
)
def test_what_is_missing_or_bad_is_asked_again_alone_and_once(
    tmp_path: Path, spoil: Callable[[Pairs], Pairs | str], again: list[str]
) -> None:
    generator = RowsGenerator(spoil)
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=6, details=True, progress=False)
        assert out["completion"].tolist() == WORDS
        assert wait_until_idle(server, "chat").requests == 2 + len(again)
    assert sorted(generator.single_prompts) == sorted(again)
    assert out["completion_rows_in_request"].tolist() == [1 if word in again else 6 for word in WORDS]


def test_an_answer_cut_at_the_token_limit_keeps_its_whole_rows(tmp_path: Path) -> None:
    generator = RowsGenerator(most_words=7)
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=4, params={"max_tokens": 50}, progress=False)
    assert out["completion"].tolist() == WORDS
    assert sorted(generator.single_prompts) == sorted(word for n, word in enumerate(WORDS) if n % 4 >= 2)


def test_an_answer_that_nobody_can_read_is_asked_for_once_more_and_then_by_rows(tmp_path: Path) -> None:
    asked: list[str] = []

    def script(exchange: Exchange) -> None:
        prompt = exchange.json["messages"][-1]["content"]
        asked.append(prompt)
        choices = [] if prompt.startswith("[") else [{"message": {"content": prompt}, "finish_reason": "stop"}]
        exchange.reply({"model": "gpt-5", "choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2}})

    with serving(script) as server, sky.connect(KEY, base_url=server.url, cache=tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=12, progress=False)
    assert out["completion"].tolist() == WORDS
    assert sorted(asked[2:]) == sorted(WORDS)
    assert asked[0] == asked[1]


def test_a_service_without_schemas_is_asked_in_words_alone(tmp_path: Path) -> None:
    sent: list[int] = []

    def script(exchange: Exchange) -> None:
        rows = json.loads(exchange.json["messages"][-1]["content"])
        if "response_format" in exchange.json:
            problem = {"message": "Only text is supported.", "type": "invalid_request", "param": "response_format"}
            return exchange.reply({"error": problem}, status=400)
        sent.append(len(rows))
        said = json.dumps({row["id"]: row["message"] for row in rows})
        return exchange.reply({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]})

    with serving(script) as server, sky.connect(KEY, base_url=server.url, cache=tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=6, max_in_flight=1, progress=False)
    assert out["completion"].tolist() == WORDS
    assert sent == [3, 3, 6]


def test_an_answer_withheld_by_the_filter_spares_the_rows_that_are_not_at_fault(tmp_path: Path) -> None:
    def flare(pairs: Pairs) -> Pairs:
        return [(name, f"violence:high {answer}" if answer == WORDS[0] else answer) for name, answer in pairs]

    with served(generator=RowsGenerator(flare)) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=4, progress=False)
    assert out["completion"].tolist() == WORDS


def test_a_blocked_prompt_among_others_is_the_only_row_without_an_answer(tmp_path: Path) -> None:
    words = [*WORDS[:5], "violence:high now", *WORDS[5:]]
    frame = pd.DataFrame({"t": words})
    generator = RowsGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", rows_per_request=16, details=True, on_error="null", progress=False)
        sent = wait_until_idle(server, "chat").requests
        assert out["completion"].isna().tolist() == [word not in WORDS for word in words]
        assert out.loc[5, "completion_error"].startswith("ContentPolicyError")
        assert out.loc[5, "completion_finish_reason"] == "content_filter"
        assert sky.current().totals.blocked == 1
        assert sent < len(words)
        frame.skytells.complete("{t}", rows_per_request=16, on_error="null", progress=False)
        assert wait_until_idle(server, "chat").requests == sent


def test_a_service_that_takes_fewer_rows_is_asked_for_fewer(tmp_path: Path) -> None:
    class Narrow(RowsGenerator):
        def stream(self, messages: Any, **settings: Any) -> Any:
            if messages[-1]["content"].count('"message"') > 3:
                raise ContextLengthExceeded(tokens=300, limit=200)
            return super().stream(messages, **settings)

    generator = Narrow()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=12, progress=False)
        assert wait_until_idle(server, "chat").statuses == {400: 3, 200: 4}
    assert out["completion"].tolist() == WORDS
    assert [len(rows) for rows in generator.batches] == [3, 3, 3, 3]


def test_an_answer_that_fits_no_schema_alone_either_is_an_error_of_its_row(tmp_path: Path) -> None:
    class Short(pydantic.BaseModel):
        text: str = pydantic.Field(max_length=6)

    generator = RowsGenerator()
    with (
        served(generator=generator) as server,
        connected(server, tmp_path / "c.sqlite"),
        pytest.warns(SkytellsWarning, match=r"2 of 12 rows failed and are missing.*does not match the schema"),
    ):
        out = FRAME.skytells.complete("{t}", schema=Short, rows_per_request=6, repair=0, progress=False)
    assert sorted(generator.single_prompts) == ["word 10", "word 11"]
    assert out["completion"].tolist()[:10] == [{"text": word} for word in WORDS[:10]]
    assert list(out.skytells.report.errors) == [10, 11]


def test_with_a_schema_each_rows_answer_fits_it(tmp_path: Path) -> None:
    generator = RowsGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", schema=Note, flatten=True, rows_per_request=6, progress=False)
        assert wait_until_idle(server, "chat").requests == 2
    assert out["text"].tolist() == WORDS
    assert out["stars"].tolist() == [1] * len(WORDS)
    assert generator.single_prompts == []


def test_a_schema_with_definitions_of_its_own_is_packed_too(tmp_path: Path) -> None:
    class Pair(pydantic.BaseModel):
        one: Note
        other: Note

    with served(generator=RowsGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", schema=Pair, rows_per_request=6, progress=False)
        assert wait_until_idle(server, "chat").requests == 2
    assert out["completion"][3] == {"one": {"text": "word 3", "stars": 1}, "other": {"text": "word 3", "stars": 1}}


def test_classify_packs_too(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["a cat", "one dog", None, "the cat"]})
    with served(generator=RowsGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.classify("t", ["dog", "cat"], rows_per_request=3, progress=False)
        assert wait_until_idle(server, "chat").requests == 1
    assert out["label"].dtype == pd.CategoricalDtype(["dog", "cat"])
    assert out["label"].tolist()[:2] == ["cat", "dog"]
    assert out["label"].isna().tolist() == [False, False, True, False]


def test_the_series_form_packs_too_and_says_its_instructions_once(tmp_path: Path) -> None:
    with served(generator=RowsGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        said = FRAME["t"].skytells.complete("Repeat it.", rows_per_request=12, progress=False)
        assert wait_until_idle(server, "chat").requests == 1
    assert said.tolist() == WORDS


def test_equal_rows_are_asked_once_and_nulls_never(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["a", None, "b", "a", "c", "b"]}, index=list("uvwxyz"))
    generator = RowsGenerator()
    with served(generator=generator) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", rows_per_request=10, progress=False)
    assert generator.batches == [["a", "b", "c"]]
    assert out["completion"].tolist()[2:] == ["b", "a", "c", "b"]
    assert out["completion"].isna().tolist() == [False, True, False, False, False, False]


def test_details_add_up_to_the_report(tmp_path: Path) -> None:
    with served(generator=RowsGenerator(lost)) as server, connected(server, tmp_path / "c.sqlite"):
        out = FRAME.skytells.complete("{t}", rows_per_request=5, details=True, model="gpt-5", progress=False)
    report = out.skytells.report
    assert out["completion_tokens_in"].sum() == report.tokens_in > 0
    assert out["completion_tokens_out"].sum() == report.tokens_out > 0
    assert out["completion_cost"].sum() == pytest.approx(report.cost)
    assert out["completion_rows_in_request"].tolist() == [5, 5, 1, 1, 5, 5, 5, 5, 5, 5, 2, 2]
    assert set(out["completion_finish_reason"]) == {"stop"}


def test_details_without_packing_do_not_speak_of_it(server: LocalServer) -> None:
    out = FRAME.skytells.complete("{t}", details=True, progress=False)
    assert "completion_rows_in_request" not in out


def test_a_verdict_belongs_to_the_request_and_counts_once(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["fine", "well", "good", "nice"]})
    with (
        served("filter_down", generator=RowsGenerator()) as server,
        connected(server, tmp_path / "c.sqlite") as session,
    ):
        out = frame.skytells.complete("{t}", rows_per_request=2, details=True, on_error="null", progress=False)
        assert session.totals.unchecked == wait_until_idle(server, "chat").requests == 2
    assert out["completion_safety"].nunique() == 1


def test_a_finding_stands_at_every_row_of_its_request_and_at_no_other(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": ["fine", "violence:medium now", "good", "nice"]})
    with served(generator=RowsGenerator()) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", rows_per_request=2, details=True, progress=False)
    assert out["completion_severity"].tolist() == ["medium", "medium", "safe", "safe"]
    tidy = out.skytells.safety()
    assert set(tidy.loc[tidy["severity"] == "medium", "row"]) == {0, 1}


def test_what_was_answered_is_not_paid_for_again_with_another_k(tmp_path: Path) -> None:
    with served(generator=RowsGenerator()) as server:
        with connected(server, tmp_path / "c.sqlite"):
            first = FRAME.skytells.complete("{t}", rows_per_request=6, details=True, progress=False)
        sent = wait_until_idle(server, "chat").requests
        with connected(server, tmp_path / "c.sqlite"):
            second = FRAME.skytells.complete("{t}", rows_per_request=4, details=True, progress=False)
            assert wait_until_idle(server, "chat").requests == sent
            pd.testing.assert_frame_equal(first, second)
            FRAME.skytells.complete("{t}", progress=False)
            assert wait_until_idle(server, "chat").requests == sent + len(WORDS)


def test_under_a_limit_of_requests_packing_sends_that_many_times_fewer(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": [f"word {n}" for n in range(200)]})
    limits = LimitOptions(requests=5, window=1.0)
    with served(generator=RowsGenerator(), limits=limits) as server, connected(server, tmp_path / "c.sqlite"):
        out = frame.skytells.complete("{t}", rows_per_request=50, progress=False)
        assert wait_until_idle(server, "chat").answered == 4
    assert out["completion"].tolist() == frame["t"].tolist()


def test_passing_faults_lose_no_row(tmp_path: Path) -> None:
    frame = pd.DataFrame({"t": [f"word {n}" for n in range(120)]})
    with (
        served("cut=body, rate=0.2", generator=RowsGenerator(lost)) as server,
        connected(server, tmp_path / "c.sqlite"),
    ):
        out = frame.skytells.complete("{t}", rows_per_request=6, progress=False)
    assert out["completion"].tolist() == frame["t"].tolist()


def test_the_estimate_knows_of_packing(server: LocalServer) -> None:
    single = FRAME.skytells.estimate("{t}", system="Be brief. " * 100)
    packed = FRAME.skytells.estimate("{t}", system="Be brief. " * 100, rows_per_request=6)
    assert (single.requests, packed.requests) == (12, 2)
    assert packed.tokens_in < single.tokens_in
    assert not server.stats.records


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.skytells.complete("{t}", rows_per_request=0), "integer from 1 to 100, got 0"),
        (lambda d: d.skytells.complete("{t}", rows_per_request="5"), "integer from 1 to 100, got '5'"),
        (
            lambda d: d.skytells.complete("{t}", rows_per_request=5, params={"stop": "x"}),
            "stop cannot be combined with",
        ),
        (lambda d: d.skytells.classify("t", ["a", "b"], via="embedding", rows_per_request=5), "asks none"),
        (
            lambda d: d.skytells.complete(
                "{t}", rows_per_request=5, schema={"type": "object", "properties": {"a": {"$ref": "other.json"}}}
            ),
            r"\$ref must lead to a part of the schema itself, got 'other\.json'",
        ),
    ],
)
def test_what_cannot_be_packed_is_refused_before_anything_is_sent(server: LocalServer, call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(FRAME)
    assert not server.stats.records


@pytest.mark.slow
def test_a_real_model_answers_several_rows_in_one_request(
    chat_weights: Path, local_server: LocalServer, session: sky.session.Session
) -> None:
    class City(pydantic.BaseModel):
        country: str
        continent: Literal["Europe", "Asia", "Africa"]

    frame = pd.DataFrame({"city": ["Paris", "Tokyo", "Cairo"]})
    before = wait_until_idle(local_server, "chat").requests
    settings: Any = {"rows_per_request": 3, "progress": False}
    said = frame.skytells.complete("Write one short sentence about {city}.", params={"temperature": 0}, **settings)
    assert wait_until_idle(local_server, "chat").requests == before + 1
    assert said["completion"].str.len().gt(0).all()
    placed = frame.skytells.complete("Where is {city}?", schema=City, flatten=True, **settings)
    labels = frame.skytells.classify("city", ["in Europe", "not in Europe"], **settings)
    assert wait_until_idle(local_server, "chat").requests == before + 3
    assert set(placed["continent"]) <= {"Europe", "Asia", "Africa"}
    assert labels["label"].notna().all()
