"""``df.skytells``: language models over the columns of a frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import pandas as pd

from skytells_nb.accessor.call import RunOptions, VectorizedCall, check_options, get_report
from skytells_nb.accessor.methods import TextMethods
from skytells_nb.accessor.methods.preview import PreviewMethod
from skytells_nb.accessor.methods.search import VectorMethods
from skytells_nb.accessor.methods.style import StyleMethod
from skytells_nb.accessor.parquet import embed_to_file
from skytells_nb.accessor.prompts.build import PromptArguments, PromptSource, prompts_of, split_options, with_effort
from skytells_nb.accessor.prompts.few_shot import Examples
from skytells_nb.accessor.results import build_job, check_prompts, complete_texts, embed_texts, merge_row_errors
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, apply_policy
from skytells_nb.accessor.structured.columns import column_names
from skytells_nb.accessor.structured.repair import REPAIRS, check_repair
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import column_of, texts_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.conversation import Api
from skytells_nb.engine.operations.jobs import embedding_job
from skytells_nb.engine.report import Estimate, ProgressCallback, Report
from skytells_nb.errors import InputError
from skytells_nb.session import current

SAFETY_COLUMNS = ["row", "source", "index", "category", "severity", "filtered", "detected", "checked"]


class FrameAccessor(PreviewMethod, TextMethods, VectorMethods, StyleMethod):
    """Language models over the columns of a frame.

    Every method gives a new frame with the same index and leaves its input as it was. Equal texts are sent once, what
    the cache knows is not sent, nulls stay null and are never sent. Common keywords: ``model``, ``on_error`` ("warn":
    failed rows are null and one warning says why; "raise"; "null"), ``progress`` (``False`` or a listener), ``budget``
    (US dollars), ``max_in_flight``, ``cache``, ``session``.
    """

    @overload
    def embed(
        self,
        column: Any,
        *,
        into: Any = ...,
        model: str | None = ...,
        dimensions: int | None = ...,
        dtype: Literal["numpy", "arrow"] = ...,
        to: None = ...,
        on_error: OnError = ...,
        progress: bool | ProgressCallback = ...,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame: ...
    @overload
    def embed(
        self,
        column: Any,
        *,
        into: str = ...,
        model: str | None = ...,
        dimensions: int | None = ...,
        to: str | Path,
        on_error: OnError = ...,
        progress: bool | ProgressCallback = ...,
        **options: Unpack[RunOptions],
    ) -> Path: ...
    def embed(
        self,
        column: Any,
        *,
        into: Any = "embedding",
        model: str | None = None,
        dimensions: int | None = None,
        dtype: Literal["numpy", "arrow"] = "numpy",
        to: str | Path | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame | Path:
        """The frame with a column of embeddings of the texts in ``column``.

        Each cell is a float32 array (d,), a view of one matrix; ``dtype="arrow"`` gives a fixed-size-list column
        instead. ``to`` is for frames whose vectors do not fit into memory: the frame goes into that Parquet file with
        its vectors as a ``fixed_size_list<float>[d]``, a row group at a time, and its path is returned. Raises
        InputError for a column that is missing or not text, before anything is sent.

        >>> df = pd.DataFrame({"text": ["a cat", "a dog", None]})
        >>> df.skytells.embed("text", progress=False)["embedding"].isna().tolist()
        [False, False, True]
        """
        check_options(options)
        texts = texts_of(column_of(self._frame, column), name=column)
        self._check_into(into, column)
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
        if to is not None:
            return embed_to_file(call, self._frame, texts, model, dimensions, into, to)
        series, report = embed_texts(call, texts, self._frame.index, model, dimensions, dtype, into)
        return self._with({into: series}, report)

    def complete(
        self,
        template: PromptSource,
        *,
        into: Any = "completion",
        model: str | None = None,
        system: str | None = None,
        schema: Schema | None = None,
        flatten: bool = False,
        prefix: str = "",
        repair: int = REPAIRS,
        safety: SafetyChoice = "keep",
        details: bool = False,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        examples: Examples | None = None,
        answer: Any = None,
        images: Any = None,
        conversation: Any = None,
        row_params: Mapping[str, Any] | None = None,
        api: Api = "chat",
        reasoning_effort: str | None = None,
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RunOptions],
    ) -> pd.DataFrame:
        """The frame with a column of the model's answers to ``template``, filled for each row.

        Fields of the template are column names: ``"Summarise: {text}"``. A function of the row in its place gives a
        text, a list of messages, or None; it sees ``row["text"]``, ``row.text`` and ``row.label``. ``system`` is a text
        sent before each prompt, as it stands.

        ``schema`` (a pydantic model, or a JSON schema of an object) makes each answer a dict that fits it, and
        ``flatten=True`` a column for each of its fields, named ``prefix`` and the field's name. The schema decides the
        dtypes: strings, Int64, Float64, boolean, datetime64 (in UTC), categories for enums and literals, Arrow structs
        and lists for what is nested, object where values may be of several kinds. An answer that does not fit is asked
        for again with what is wrong, ``repair`` times at most; after that it is null and an error of its row.
        ``details=True`` adds ``<into>_finish_reason``, ``_filtered``, ``_severity``, ``_tokens_in``, ``_tokens_out``,
        ``_cost``, ``_error``, ``_model``, ``_request_id`` and ``_safety``. ``params`` go to the service as they are
        (``temperature``, ``max_tokens``, …).

        ``safety`` says what becomes of answers with a verdict: "keep", "mask" (null), "raise" (RowError naming the
        rows, once all is stored), a preset (STRICT, MODERATE, MINIMAL, CHILD_SAFE, ENTERPRISE) or a threshold for each
        category, ``{"violence": "low"}``.

        ``examples`` show the model what is wanted: a frame with the template's columns and one of answers (``answer``
        names it where there are more), or pairs of a prompt and its answer. ``images`` names a column of pictures, or a
        list of such columns: paths, URLs, bytes, PIL images, or lists of them. They follow the prompt; one that cannot
        be read is an error of its row. ``conversation`` names a column of message lists, to which the prompt is the
        next turn. ``row_params`` maps parameters to columns: ``{"temperature": "t"}``. A null picture or conversation
        makes the row null, a null parameter is left out. ``preview`` shows what would be sent.

        ``api="responses"`` asks by the Responses API, with nothing stored at the service. ``reasoning_effort`` ("low",
        "high", …) goes to either. An answer whose tokens all went to reasoning, or whose JSON was cut at the limit, is
        asked for once more with twice the room; one that is empty or cut all the same is null, and an error of its row.

        ``rows_per_request`` (2 to 100) asks for the answers of that many rows in one request: under a limit of
        requests, that many times the rows. Each answer comes under the id of its row; where one is missing, doubled or
        unfit, its row is asked again alone. ``max_tokens`` is that of one row. Tokens and cost are a row's share of the
        request; the safety verdict is that of the whole request, so a finding may be about another of its rows, and
        ``<into>_rows_in_request`` of the details says how many there were. The model sees the rows of a request
        together: a text may sway its neighbours' answers.

        >>> df = pd.DataFrame({"word": ["cat", "dog"]})
        >>> df.skytells.complete("Write one sentence about a {word}.", progress=False).columns.tolist()
        ['word', 'completion']
        """
        check_options(options)
        check_repair(repair)
        policy = SafetyPolicy.of(safety)
        names = column_names(schema, prefix, flatten) if flatten or prefix else [into]
        prompts = prompts_of(
            self._frame,
            template,
            examples=examples,
            answer=answer,
            images=images,
            conversation=conversation,
            row_params=row_params,
            api=api,
        )
        for name in names:
            self._check_into(name, *prompts.sources)
        check_prompts(prompts.problems, on_error)
        call = VectorizedCall.open(on_error, progress, options, asker=self._frame)
        asked = with_effort(params, reasoning_effort)
        job = build_job(call, model, system, schema, asked, rows_per_request=rows_per_request, form=prompts.form)
        answers = complete_texts(call, job, prompts.texts, self._frame.index, into, schema, repair)
        answers = merge_row_errors(call, answers, prompts.problems)
        made = answers.fields(prefix) if flatten else {into: answers.column}
        return self._finish(into, apply_policy(policy, answers, made, call), answers, details)

    def estimate(
        self,
        template: Any,
        *,
        model: str | None = None,
        system: str | None = None,
        schema: Schema | None = None,
        dimensions: int | None = None,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        **options: Unpack[PromptArguments],
    ) -> Estimate:
        """What a call would send and cost; sends nothing.

        ``template`` is a column name for embeddings, or a template or function for completions, with whatever
        ``complete`` takes beside it. Tokens are estimated from bytes, within about a third; answers' tokens from
        ``max_tokens``, or 256 each.

        >>> pd.DataFrame({"text": ["a", "b", "a"]}).skytells.estimate("text").distinct
        2
        """
        asked, effort, rest = split_options(options)
        is_template = isinstance(template, str) and template not in self._frame.columns and "{" in template
        if callable(template) or is_template or any(value is not None for value in asked.values()):
            prompts = prompts_of(self._frame, template, **asked)
            call = VectorizedCall.open("null", False, rest)
            given = with_effort(params, effort)
            job = build_job(call, model, system, schema, given, rows_per_request=rows_per_request, form=prompts.form)
            return call.engine.estimate(job, prompts.texts)
        texts = texts_of(column_of(self._frame, template), name=template)
        call = VectorizedCall.open("null", False, rest)
        return call.engine.estimate(embedding_job(model or call.session.settings.embedding_model, dimensions), texts)

    @property
    def report(self) -> Report:
        """What the call that made this frame (or was made on it) did; else the last call of the session.

        >>> df = pd.DataFrame({"text": ["a cat", "a cat", None]}).skytells.embed("text", progress=False)
        >>> df.skytells.report.rows, df.skytells.report.distinct, df.skytells.report.nulls
        (3, 1, 1)
        """
        report = get_report(self._frame)[0] or current().last_report
        if report is None:
            raise InputError("No call has been made yet, so there is no report.")
        return report

    def safety(self, into: Any = "completion") -> pd.DataFrame:
        """The safety verdicts on a column of completions, one row for each finding.

        Columns: ``row`` (index label), ``source`` ("prompt" or "completion"), ``index``, ``category``, ``severity``
        (safe, low, medium, high; null for categories that are only detected), ``filtered``, ``detected``, ``checked``
        (false where the filter gave no verdict). Read from ``<into>_safety`` where the frame has it (``details=True``),
        else from the call that made this very frame. Rows that shared a request (``rows_per_request``) have the same
        findings, those of the request. Raises InputError where neither has them.

        >>> df = pd.DataFrame({"text": ["a cat", None]}).skytells.complete("{text}", progress=False)
        >>> df.skytells.safety().columns.tolist()[:5]
        ['row', 'source', 'index', 'category', 'severity']
        """
        column = f"{into}_safety"
        if column in self._frame.columns:
            verdicts = [None if not isinstance(v, str) else json.loads(v) for v in self._frame[column]]
        else:
            kept = get_report(self._frame)[1].get(into)
            if kept is None or len(kept) != len(self._frame):
                raise InputError(
                    f"There are no safety verdicts for {into!r} in this frame. Ask with details=True to keep them in "
                    f"the column {column!r}, or call this on the frame that complete() returned."
                )
            verdicts = [None if c is None else c.findings for c in kept]
        records = [
            {"row": label, **finding}
            for label, findings in zip(self._frame.index, verdicts, strict=True)
            for finding in (findings if findings is not None else ())
        ]
        tidy = pd.DataFrame(records, columns=SAFETY_COLUMNS)
        return tidy.astype({"filtered": bool, "checked": bool, "detected": "boolean"})
