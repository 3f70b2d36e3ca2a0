"""``df.skytells``: language models over the columns of a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import pandas as pd

from skytells_nb.accessor.base import failed_rows, policed
from skytells_nb.accessor.call import VectorizedCall, get_report
from skytells_nb.accessor.lineage.lookup import lineage_frame
from skytells_nb.accessor.methods import TextMethods, VectorMethods
from skytells_nb.accessor.methods.estimate import EstimateMethod, is_sample, with_dry_run
from skytells_nb.accessor.methods.evaluation import EvaluationMethods
from skytells_nb.accessor.methods.preview import PreviewMethod
from skytells_nb.accessor.methods.sharing.methods import SharingMethods
from skytells_nb.accessor.methods.sharing.style import StyleMethod
from skytells_nb.accessor.options import RowOptions, RunOptions, check_options, expand_options, model_parameters
from skytells_nb.accessor.prompts.build import PromptArguments, PromptSource, build_prompts
from skytells_nb.accessor.prompts.few_shot import Examples
from skytells_nb.accessor.results import (
    CompletionColumns,
    build_job,
    check_prompts,
    complete_texts,
    embed_texts,
    merge_row_errors,
)
from skytells_nb.accessor.results.parquet import embed_to_file
from skytells_nb.accessor.results.parts import with_parts
from skytells_nb.accessor.safety import SafetyChoice, SafetyPolicy, as_findings, tidy_findings
from skytells_nb.accessor.structured.columns import column_names
from skytells_nb.accessor.structured.repair import DEFAULT_REPAIRS, check_repair
from skytells_nb.accessor.structured.schema import Schema
from skytells_nb.accessor.text_columns import texts_on_demand
from skytells_nb.columns import column_of
from skytells_nb.engine.engine import OnError
from skytells_nb.engine.operations.cached import findings_text
from skytells_nb.engine.operations.conversation import Api
from skytells_nb.engine.report import Report
from skytells_nb.errors import InputError
from skytells_nb.plots.safety_charts.findings import completion_columns
from skytells_nb.plots.safety_charts.moderation import moderation_findings, moderation_prefixes
from skytells_nb.progress.events import ProgressCallback
from skytells_nb.session import current


@with_dry_run
@with_parts
class FrameAccessor(
    EstimateMethod, PreviewMethod, TextMethods, VectorMethods, EvaluationMethods, StyleMethod, SharingMethods
):
    """Language models over the columns of a frame.

    Every method returns a new frame with the same index and does not change its input. Equal texts are sent once,
    cached responses are not paid for again, missing values and blank texts stay missing and are never sent.
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
    @expand_options(RunOptions)
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
        """Add a column of embeddings of the texts in ``column``.

        Parameters
        ----------
        column : hashable
            Name of the column of texts.
        into : hashable, default "embedding"
            Name of the new column.
        model : str, optional
            Name of the embedding model; by default that of the session.
        dtype : {"numpy", "arrow"}, default "numpy"
            Cells that are float32 arrays (d,), views of one matrix, or a ``fixed_size_list<float>[d]`` column.
        to : str or pathlib.Path, optional
            A Parquet file to write the frame to, with its vectors as ``fixed_size_list<float>[d]``, one row group at a
            time: for vectors that do not fit into memory. A folder that exists, or a path that ends with ``/``, gets a
            file for each 10,000 rows as they are done, and the same call goes on after those that are there.

        Returns
        -------
        pandas.DataFrame or pathlib.Path
            The frame with the new column, missing where the text is missing or its row failed; with ``to`` the path of
            the file.

        Raises
        ------
        InputError
            If an argument is wrong, or the column is missing or not text; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat", "a dog", None]})
        >>> df.skytells.embed("text", progress=False)["embedding"].isna().tolist()
        [False, False, True]
        """
        check_options(options, self.embed)
        texts = texts_on_demand(column_of(self._frame, column), name=column)
        self._check_into(into, column)
        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        if to is not None and not is_sample(options):
            return embed_to_file(call, self._frame, texts, model, dimensions, into, to)
        call = replace(call, assemble=lambda series, report: self._with({into: series}, report))
        series, report = embed_texts(call, texts, self._frame.index, model, dimensions, dtype, into)
        return self._with({into: series}, report)

    @expand_options(RowOptions, like=PromptArguments)
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
        repair: int = DEFAULT_REPAIRS,
        safety: SafetyChoice = "keep",
        details: bool = False,
        params: Mapping[str, Any] | None = None,
        rows_per_request: int | None = None,
        examples: Examples | None = None,
        answer: Any = None,
        images: Any = None,
        images_from: str | Path | None = None,
        conversation: Any = None,
        row_params: Mapping[str, Any] | None = None,
        missing: str | None = None,
        api: Api = "chat",
        on_error: OnError = "warn",
        progress: bool | ProgressCallback = True,
        **options: Unpack[RowOptions],
    ) -> pd.DataFrame:
        """Add a column of completions of a prompt that is filled for each row.

        Parameters
        ----------
        template : str or callable
            A template whose fields are column names, such as ``"Summarize: {text}"``, with a format where one is
            wanted (``{price:.2f}``, ``{day:%d %b}``), or a function of the row that returns a text, a list of messages,
            or None. It reads ``row["text"]``, ``row.text`` and ``row.label``; missing values of any kind are None.
        into : hashable, default "completion"
            Name of the new column, and prefix of the columns that ``details`` adds.
        system : str, optional
            A system message before each prompt, sent as it is.
        schema : type or mapping, optional
            What each completion matches, as in ``extract``: a pydantic model, dataclass, ``TypedDict``, dict of types,
            or JSON schema of an object. It is returned as a dict.
        flatten : bool, default False
            Whether to add a column for each field of the schema instead. The schema decides the dtypes: strings, Int64,
            Float64, boolean, datetime64 (in UTC), categories for enums and literals, Arrow structs and lists for nested
            values, object where values may be of several types.
        prefix : str, default ""
            What the names of these columns begin with.
        rows_per_request : int, optional
            Rows that share a request, 2 to 100; by default each row has its own. Under a limit of requests, that many
            times the rows. Each completion has the id of its row; a row whose completion is missing, doubled or does
            not match the schema is retried alone. ``max_tokens`` is that of one row. Tokens and cost are a row's share
            of the request; the safety result is that of the whole request, so a finding may be about another of its
            rows, and ``<into>_rows_in_request`` of the details counts them. The model sees the rows of a request
            together: a text may influence the completions of the others.

        Returns
        -------
        pandas.DataFrame
            The frame with the new column or columns; missing where a value of the template, an image or the
            conversation is missing, a text is blank, or the row failed.

        Raises
        ------
        InputError
            If an argument is wrong, or a column is missing; nothing is sent.
        RowError
            If rows fail with ``on_error="raise"``, or are filtered with ``safety="raise"``.

        See Also
        --------
        preview : The messages that this would send.
        estimate : What this would cost.

        Notes
        -----
        A completion whose tokens all went to reasoning, or whose JSON was cut at the limit, is retried once with twice
        the limit; if it is empty or cut again, the row is missing and an error of the report.

        Examples
        --------
        >>> df = pd.DataFrame({"word": ["cat", "dog"]})
        >>> df.skytells.complete("Write one sentence about a {word}.", temperature=0.2, progress=False).columns.tolist()
        ['word', 'completion']
        """
        check_options(options, self.complete)
        parameters = model_parameters(options, params)
        if repair != DEFAULT_REPAIRS:
            check_repair(repair)
        policy = None if safety == "keep" else SafetyPolicy.of(safety)
        names = column_names(schema, prefix, flatten) if flatten or prefix else [into]
        prompts = build_prompts(
            self._frame,
            template,
            examples=examples,
            answer=answer,
            images=images,
            images_from=images_from,
            conversation=conversation,
            row_params=row_params,
            missing=missing,
            api=api,
        )
        for name in names:
            self._check_into(name, *prompts.sources)
        self._check_details(into, details, *names)
        check_prompts(prompts.errors, on_error)
        call = VectorizedCall.open(on_error, progress, options, owner=self._frame)
        job = build_job(
            call, model, system, schema, parameters, rows_per_request=rows_per_request, options=prompts.options
        )

        def columns(answers: CompletionColumns) -> Mapping[Any, pd.Series[Any]]:
            return answers.fields(prefix) if flatten else {into: answers.column}

        call = self._assembling(call, into, policy, details, columns)
        answers = complete_texts(call, job, prompts.texts, self._frame.index, into, schema, repair)
        answers = merge_row_errors(call, answers, prompts.errors)
        new = columns(answers) if policy is None else policed(policy, answers, columns(answers), call)
        return self._finish(into, new, answers, details)

    @property
    def report(self) -> Report:
        """The report of the call that made this frame or was made on it; else of the last call of the session.

        Raises
        ------
        InputError
            If no call has been made yet.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat", "a cat", None]}).skytells.embed("text", progress=False)
        >>> df.skytells.report.rows, df.skytells.report.distinct, df.skytells.report.nulls
        (3, 1, 1)
        """
        report = get_report(self._frame)[0] or current().last_report
        if report is None:
            raise InputError("No call has been made yet, so there is no report.")
        return report

    @property
    def lineage(self) -> pd.DataFrame:
        """What made each column that a method added: method, model, prompt, parameters, version, time and cost.

        The records are in ``attrs``, which pandas keeps through masks, copies, pickling and Parquet files; they hold no
        texts of rows, few-shot examples included, and no key. Where pandas drops ``attrs``, as ``merge`` does with a
        frame that has others, columns of this process are found by their values (``found`` is ``"values"``).
        ``sky.recipe`` makes the columns for another frame.

        Returns
        -------
        pandas.DataFrame
            A row for each column, named by the index: ``method``, ``model``, ``prompt`` (instructions and template),
            ``prompt_hash`` (SHA-256, of examples and schema too), ``parameters``, ``version`` (of this package),
            ``time`` (UTC), ``cost`` (US dollars of the whole call), ``sources``, ``arguments``, ``rows``, ``cached``,
            ``sent``, ``requests``, ``tokens_in``, ``tokens_out``, ``seconds``, ``call`` (equal for the columns of one
            call) and ``found``. A call that only left rows out has a row without a name.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat", "a dog"]}).skytells.embed("text", progress=False)
        >>> df[df["text"] == "a cat"].skytells.lineage.loc["embedding", ["method", "sources"]].tolist()
        ['embed', ['text']]
        """
        return lineage_frame(self._frame)

    def failed(self) -> pd.DataFrame:
        """Return the rows that failed in the call that made this frame or was made on it, with the reasons.

        Returns
        -------
        pandas.DataFrame
            The rows with their index, and a column ``error`` (``skytells_error`` where the frame has an ``error``). Of
            ``summarize`` they are groups. ``retry="failed"`` asks about them again.

        Raises
        ------
        InputError
            If this very frame was neither made by a call nor given to one.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat", None]}).skytells.complete("{text}", progress=False)
        >>> df.skytells.failed().columns.tolist()
        ['text', 'completion', 'error']
        """
        return failed_rows(self._frame)

    def safety(self, into: Any = None) -> pd.DataFrame:
        """Return the safety results of a column of completions or of ``moderate``, a row for each finding.

        Rows that shared a request (``rows_per_request``) have the same findings, those of the request.

        Parameters
        ----------
        into : hashable, optional
            Name of the column of completions, or prefix of ``moderate``; by default "completion" where the frame has
            it, else the only one that has results. Its results are read from ``<into>_safety`` where the frame has it
            (``details=True``), else from the call that made this very frame. The prefix of ``moderate`` is read from
            its columns where another frame has them, a mask or a file: of several categories of a row each has the
            severity of the worst.

        Returns
        -------
        pandas.DataFrame
            Columns ``row`` (index label), ``source`` ("prompt" or "completion"), ``index``, ``category``, ``severity``
            (safe, low, medium, high; missing for categories that are only detected), ``filtered``, ``detected``,
            ``checked`` (false where the filter returned no result).

        Raises
        ------
        InputError
            If the frame has no safety results for the column, or for several and ``into`` names none.

        Examples
        --------
        >>> df = pd.DataFrame({"text": ["a cat", None]}).skytells.complete("{text}", progress=False)
        >>> df.skytells.safety().columns.tolist()[:5]
        ['row', 'source', 'index', 'category', 'severity']
        """
        attached = get_report(self._frame)[1]
        moderated = moderation_prefixes(self._frame)
        if into is None:
            available = list(dict.fromkeys([*attached, *completion_columns(self._frame), *moderated]))
            if len(available) > 1 and "completion" not in available:
                choice = ", ".join(map(repr, available))
                raise InputError(f"The frame has safety results for several columns ({choice}). Choose one with into=.")
            into = available[0] if len(available) == 1 else "completion"
        column = f"{into}_safety"
        if column in self._frame.columns:
            return tidy_findings(self._frame[column], self._frame.index, column)
        completions = attached.get(into)
        if completions is None or len(completions) != len(self._frame):
            if into in moderated:
                table, positions = moderation_findings(self._frame, into)
                return as_findings(table.assign(row=self._frame.index[positions], index=0))
            raise InputError(
                f"This frame has no safety results for {into!r}. Use details=True to store them in the column "
                f"{column!r}, or call this on the frame that complete() returned."
            )
        texts = [None if c is None else findings_text(c.findings) for c in completions]
        return tidy_findings(pd.Series(texts, dtype=object), self._frame.index, column)
