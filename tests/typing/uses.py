"""Every public name, as a user writes it: read by type checkers, never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pydantic
from numpy.typing import NDArray

import skytells_nb as sky
import skytells_nb.polars
from skytells_nb import columns, files, plots, widgets
from skytells_nb.accessor.frame import FrameAccessor
from skytells_nb.accessor.methods.evaluation.comparison import Comparison
from skytells_nb.accessor.methods.evaluation.evaluate import Evaluation
from skytells_nb.accessor.series import SeriesAccessor
from skytells_nb.engine.report import Estimate, Report
from skytells_nb.types.chat import ChatCompletion
from skytells_nb.types.models import Model, Price
from skytells_nb.types.responses import Response
from skytells_nb.types.safety import Safety

df = pd.DataFrame({"text": ["a cat", "a dog"], "topic": ["pets", "pets"]})
reviews: pd.Series[str] = df["text"]
version: str = sky.__version__


def sessions() -> None:
    session: sky.Session = sky.connect(
        "sk-…",
        base_url="https://api.skytells.ai/v1",
        model="gpt-5.4",
        embedding_model="skytells-embed-3-small",
        cache=Path("answers.sqlite"),
        cache_dir="cache",
        max_in_flight=8,
        requests_per_minute=60,
        tokens_per_minute=90_000,
        max_retries=2,
        inputs_per_request=256,
        timeout=30,
    )
    with sky.connect(local=True, cache="off") as local:
        where: str = local.origin
    session = sky.current()
    models: list[Model] = session.models()
    names: list[str] = session.known_models()
    price: Price | None = session.price(models[0].namespace)
    dollars: float = price.cost(1_000, 200) if price else 0.0
    report: Report | None = session.last_report
    written: Path = session.export("recording.sqlite", replace=True).path
    print(where, names, dollars, report, written, session.client, session.settings.model, session.is_local)
    session.close()


def chat(client: sky.Skytells) -> str:
    answer: ChatCompletion = client.chat.completions.create(
        model="gpt-5.4",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hello."}],
        temperature=0.2,
        max_tokens=100,
        top_p=0.9,
        seed=7,
        stop=["\n"],
        n=1,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        logprobs=True,
        top_logprobs=2,
        tools=[{"type": "function", "function": {"name": "now"}}],
        tool_choice="auto",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        reasoning_effort="low",
        user="someone",
        extra_body={"a_new_parameter": 1},
    )
    message = answer.choices[0].message
    words: list[str] = message.content.split()
    calls: list[tuple[str, str]] = [(call.function.name, call.function.arguments) for call in message.tool_calls]
    again = client.chat.completions.create(model="gpt-5.4", messages=[message, {"role": "user", "content": "More."}])
    verdict: Safety = again.safety
    tokens_in, tokens_out = again.tokens
    reason: str | None = again.finish_reason
    request_id: str | None = again.request_id
    print(words, calls, verdict.checked, verdict.severity, tokens_in + tokens_out, reason, request_id)
    return again.text + str(again)


def chat_stream(client: sky.Skytells) -> ChatCompletion:
    with client.chat.completions.create(model="gpt-5.4", messages="Count.", stream=True) as stream:
        for chunk in stream:
            print(chunk.choices[0].delta.content.upper(), chunk.text)
    for text in client.chat.completions.create(model="gpt-5.4", messages="Count.", stream=True).text:
        print(text.upper())
    print(stream.partial().text, stream.request_id)
    stream.close()
    return stream.final


def whole_or_stream(client: sky.Skytells, stream: bool) -> str:
    answer = client.chat.completions.create(model="gpt-5.4", messages="Count.", stream=stream)
    return answer.text if isinstance(answer, ChatCompletion) else answer.final.text


def responses(client: sky.Skytells) -> Response:
    first: Response = client.responses.create(
        model="gpt-5.4",
        input="Say hello.",
        instructions="Be brief.",
        temperature=0.2,
        max_output_tokens=100,
        top_p=0.9,
        store=True,
        text={"format": {"type": "json_object"}},
        reasoning={"effort": "low"},
        tools=[{"type": "function", "name": "now"}],
        tool_choice="auto",
        truncation="auto",
        extra_body={"a_new_parameter": 1},
    )
    parts: list[str] = [part.text.strip() for item in first.output for part in item.content]
    stream = client.responses.create(model="gpt-5.4", input="More.", previous_response_id=first.id, stream=True)
    for event in stream:
        print(event.type.upper(), event.text, parts)
    print(first.output_text.upper(), first.finish_reason, first.safety.findings)
    return stream.final


def embeddings(client: sky.Skytells) -> NDArray[np.float32]:
    answer = client.embeddings.create(
        model="skytells-embed-3-small", input=["a", "b"], encoding_format="float", dimensions=256, user="someone"
    )
    print(answer.usage.total_tokens + 1, answer.data[0].index)
    return answer.matrix


def models(client: sky.Skytells) -> list[str]:
    one: Model = client.models.retrieve("gpt-5.4")
    print(one.vendor.name, one.capabilities, one.price)
    return [model.namespace for model in client.models.list() if model.openai_compatible]


def typed_client() -> None:
    with sky.Skytells("sk-…", base_url="https://api.skytells.ai/v1", timeout=30.0) as client:
        print(chat(client), chat_stream(client), whole_or_stream(client, True), responses(client))
        print(embeddings(client), models(client), client.base_url, client.origin, client.limits, client.aborted)
        client.abort()
    sky.Skytells(transport=None).close()


class Animal(pydantic.BaseModel):
    name: str
    legs: int


def frame_accessor() -> None:
    rows: FrameAccessor = sky.frame(df)
    embedded: pd.DataFrame = rows.embed("text", into="embedding", dimensions=256, on_error="raise", progress=False)
    path: Path = rows.embed("text", to="vectors.parquet", budget=1.0)
    completed: pd.DataFrame = rows.complete("Translate: {text}", system="Be brief.", details=True, cache="off")
    typed: pd.DataFrame = rows.complete("{text}", schema=Animal, flatten=True, temperature=0, params={"user": "u"})
    frames: list[pd.DataFrame] = [
        rows.classify("text", ["pet", "wild"], into="label", temperature=0.5, seed=7, budget=1.0),
        rows.extract("text", Animal, max_tokens=100, stop=["END"]),
        rows.filter("text", "Is it a pet?", top_p=0.9, tokens_per_minute=1e6),
        rows.translate("text", "French", presence_penalty=0.5, frequency_penalty=0.5),
        rows.summarize("text", by="topic", reasoning_effort="low"),
        rows.moderate("text", max_tokens=None, max_completion_tokens=16),
    ]
    vectors = sky.frame(embedded)
    frames += [
        vectors.search("cat", k=1),
        vectors.similar(0, k=1),
        vectors.cluster(n=2, temperature=0.2, params={"user": "u"}),
        vectors.dedupe(threshold=0.95),
        vectors.join(embedded, "embedding", k=1, confirm=True, max_tokens=20),
        sky.frame(frames[0]).topics(text="text"),
        sky.frame(completed).safety(),
    ]
    estimate: Estimate = rows.estimate("{text}", max_tokens=50, api="responses")
    report: Report | None = sky.frame(typed).report
    print(rows.extract("text", Animal, dry_run=True), rows.embed("text", sample=20))
    print(path, estimate.distinct, estimate.cost, report, rows.preview("{text}", n=1), vectors.style(), len(frames))
    made: pd.DataFrame = vectors.lineage
    shared: list[Path] = [vectors.html_report("report.html", method="pca"), vectors.to_excel(Path("rows.xlsx"))]
    print(made, shared)
    unfinished: pd.DataFrame = sky.frame(typed).failed()
    labeled = sky.frame(frames[0])
    sample: pd.DataFrame = labeled.gold_sample("label", 20, by="topic", seed=1)
    found: Evaluation = labeled.evaluate("label", gold=sample["gold"], level=0.9)
    compared: Comparison = labeled.compare(
        "text", ["gpt-5", "gpt-5-mini"], 20, sample["gold"], labels=["a", "b"], budget=1.0
    )
    print(compared.frame, compared.pairs, compared.kappa, compared.differing, compared.report.cost)
    print(sky.series(reviews).compare({"a": "Is it good?", "b": {"template": "{text}"}}, dry_run=True), compared.plot())
    sure: pd.DataFrame = rows.classify(
        "text", ["a", "b"], confidence="votes", votes=3, abstain=0.7, gold=sample["gold"]
    )
    print(sky.series(reviews).classify(["a", "b"], confidence="logprobs"), sky.plots.calibration(sure, sample["gold"]))
    ranked: pd.DataFrame = rows.rank("text", "how good", 5, prefilter=50, comparisons=100, budget=1.0)
    scored: pd.DataFrame = rows.score("text", "how good", 1, 5, meanings={1: "bad", 5: "good"}, temperature=0.2)
    print(ranked, scored, sky.series(reviews).score("how good"), sky.series(reviews).rank("how good", by="scores"))
    shares: pd.DataFrame = labeled.share("label", gold=sample["gold"], by="topic")
    print(
        unfinished,
        found.accuracy,
        found.accuracy_interval,
        sky.plots.shares(shares),
        labeled.mean("score", sample["gold"]),
    )


def series_accessor() -> None:
    column: SeriesAccessor = sky.series(reviews)
    embedded: pd.Series[Any] = column.embed(dimensions=256, max_in_flight=2)
    completed: pd.Series[Any] = column.complete("Translate to French.", model="gpt-5.4", session=sky.current())
    summary: str | None = column.summarize()
    labels: pd.Series[Any] | pd.DataFrame = column.classify(["pet", "wild"], other="none", temperature=0.5, budget=1)
    fields: pd.DataFrame = column.extract(Animal, prefix="animal_", max_tokens=100, cache="off")
    pets: pd.Series[Any] = column.filter("Is it a pet?", params={"user": "u"}, seed=7)
    subjects: pd.Series[Any] = column.cluster(n=2, chat_model="gpt-5.4", on_error="raise")
    distinct: pd.Series[Any] = column.dedupe(0.95, dimensions=256, progress=False)
    print(labels, fields, pets, summary, column.translate("French", instructions="Be formal.", stop="END"))
    print(column.moderate(details=True), subjects, distinct, completed)
    print(sky.series(embedded).report, sky.series(embedded).failed(), column.translate("French", sample=5))


def figures(embedded: pd.DataFrame, completed: pd.DataFrame) -> list[str]:
    drawn: list[go.Figure] = [
        plots.semantic_map(embedded, color="topic", hover=["text"], method="pca", theme="dark", title="Texts"),
        plots.safety(completed, into="completion", source="prompt"),
        plots.safety_by(completed, "topic", flag="medium", confidence=0.9),
        plots.safety_timeline(completed, "asked", every="day"),
        plots.topics_over_time(completed, "asked", into="topic", every="week", theme="light"),
        plots.semantic_map(embedded, color="topic", colors={"a": "teal"}, sort=["b", "a"], on_error="raise"),
        plots.usage(sky.current(), by="run"),
        plots.latency(sky.current()),
        plots.rate(sky.current()),
    ]
    table: pd.DataFrame = plots.filtered_rows(completed, "completion", text="text")
    saved: Path = plots.save(drawn[0], "map.html", width=800)
    print(table, saved, sky.plots.summary(drawn[0]))
    return [plots.summary(figure) for figure in drawn]


def panels(embedded: pd.DataFrame) -> None:
    with widgets.ChatPanel(model="gpt-5.4", system="Be brief.", title="Chat") as panel:
        turn = panel.send("Say hello.")
        panel.send("More.", wait=False)
        panel.wait(timeout=10)
        frame: pd.DataFrame = panel.to_frame()
        print(turn.text if turn else "", frame, panel.freeze().html(), panel.messages, panel.turns, panel.busy)
        print(panel.partial, panel.widget, panel.system)
        panel.model = "gpt-5"
        panel.stop()
        panel.clear()
        panel.close()
    explorer = sky.widgets.Explorer(embedded, "embedding", text="text", color="topic", method="pca")
    found: pd.DataFrame = explorer.ask("cat", k=2)
    figure: go.Figure = explorer.figure(theme="light")
    print(found, figure, explorer.search("cat"), explorer.select_shown(), explorer.name([0]).text, explorer.names)
    print(explorer.selection, explorer.nearest, explorer.cost, explorer.widget, explorer.color)
    explorer.close()
    review = sky.widgets.Review(embedded, "topic", labels=["a", "b"], text="text", file="gold.csv")
    print(review)


def vectors_and_files() -> None:
    column: pd.Series[Any] = columns.from_matrix([[1.0, 0.0]], rows=[0, -1], dtype="arrow", name="embedding")
    matrix, valid = columns.to_matrix(column)
    rows: NDArray[np.float32] = matrix
    mask: NDArray[np.bool_] = valid
    texts: pd.Series[Any] = files.to_text(column)
    back: pd.Series[Any] = files.from_text(texts)
    frame: pd.DataFrame = files.read("vectors.parquet")
    written: Path = files.write(frame, "copy.parquet")
    updated: pd.DataFrame = sky.recipe(frame).apply(frame, budget=1.0)
    print(written, updated, sky.recipe(frame).estimate(frame).cost)
    print(rows, mask, back, frame)
    print(columns.to_arrow(column))  # pyright: ignore[reportUnknownArgumentType] (pyarrow has no types)


def failures() -> None:
    try:
        sky.current()
    except sky.errors.MissingKeyError as missing:
        print(missing)
    except (sky.errors.RateLimitError, sky.errors.ServerError) as refused:
        print(refused.status + 1, refused.error_id, refused.request_id, refused.retry_after)
    except sky.errors.TruncatedStreamError as cut:
        print(cut.partial.upper())
    except sky.errors.RowError as failed:
        print(failed.report)
    except sky.SkytellsError as problem:
        print(problem)


def extension(shell: Any) -> None:
    sky.load_ipython_extension(shell)
    sky.unload_ipython_extension(shell)
    print(skytells_nb.polars.__name__)
