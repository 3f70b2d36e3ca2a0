"""What magics show beside answers: notes on how an answer ended, verdicts, tables. As HTML and as text, never raw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytells_nb.engine.report import dollars
from skytells_nb.errors import ContentPolicyError
from skytells_nb.magics.ask import FAILED, INTERRUPTED, TRUNCATED, Outcome
from skytells_nb.widgets.display import cell_publish, new_display_id
from skytells_nb.widgets.safe_html import escape, plain
from skytells_nb.wire.chat import ChatCompletion
from skytells_nb.wire.models import Model, Price
from skytells_nb.wire.safety import Finding, Safety, findings

if TYPE_CHECKING:
    from skytells_nb.session import Session, Totals

UNKNOWN = "unknown"
_SOURCES = {"prompt": "the prompt", "completion": "the answer"}


@dataclass(frozen=True, slots=True)
class Table:
    """A small table with a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        return (
            f'<table class="skytells-table"><caption>{escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def text(self) -> str:
        lines = [[_one_line(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([_one_line(self.title), *shown])


def show(tables: Sequence[Table]) -> None:
    """Publish tables as one output of the cell."""
    data = {"text/html": "".join(t.html() for t in tables), "text/plain": "\n\n".join(t.text() for t in tables)}
    cell_publish()(data, {}, display_id=new_display_id(), update=False)


def notes(outcome: Outcome) -> tuple[str, ...]:
    """What has to be said under an answer: why it ended early, and what the safety filter found."""
    answer, problem = outcome.answer, outcome.problem
    if answer is None:
        verdict = (
            _found(Safety(findings(problem.safety, "prompt")).flagged)
            if isinstance(problem, ContentPolicyError)
            else ""
        )
        return (f"Safety: the filter blocked the prompt ({verdict}).",) if verdict else ()
    kept = "Shown from the cache; nothing was sent." if outcome.cached else ""
    return tuple(note for note in (_ending(answer), safety_note(answer.safety, problem is None), kept) if note)


def safety_note(safety: Safety, complete: bool = True) -> str:
    """The verdict in a sentence; empty where everything was checked and safe, or where no verdict was due yet."""
    said = []
    found = _found(safety.flagged)
    if found:
        said.append(found)
    if any(not f.checked for f in safety.findings) or (complete and not safety.findings):
        said.append("not checked: the filter gave no verdict" + (" on the rest" if found else ""))
    return f"Safety: {'; '.join(said)}." if said else ""


def metadata(answer: ChatCompletion, model: str) -> dict[str, Any]:
    """What is kept with the output in the notebook: model, request id, tokens, verdict."""
    safety = answer.safety
    return {
        "model": answer.model or model,
        "request_id": answer.request_id,
        "finish_reason": answer.finish_reason,
        "usage": answer.usage.model_dump(exclude_none=True) if answer.usage else None,
        "safety": {
            "severity": safety.severity,
            "filtered": safety.filtered,
            "checked": safety.checked,
            "flagged": Safety(safety.flagged).records(),
        },
    }


def status_table(session: Session) -> Table:
    """The connection and the defaults. The key itself never shows."""
    rows = (
        ("origin", session.origin),
        ("API key", "not needed" if session.is_local else "found"),
        ("model", session.settings.model),
        ("embedding model", session.settings.embedding_model),
    )
    return Table("Skytells connection", ("setting", "value"), rows)


def disconnected_table(reason: str) -> Table:
    return Table("Skytells connection", ("setting", "value"), (("API key", "not found"), ("next", reason)))


def usage_table(totals: Totals) -> Table:
    """Requests, tokens and cost, by model and together."""
    named = [*sorted(totals.by_model.items()), ("all", totals)]
    rows = tuple(
        (name, f"{t.requests:,}", f"{t.input_tokens:,}", f"{t.output_tokens:,}", _cost(t.cost)) for name, t in named
    )
    counts = {"blocked": totals.blocked, "filtered": totals.filtered, "not checked": totals.unchecked}
    safety = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
    title = "Used in this session" + (f" (safety: {safety})" if safety else "")
    return Table(title, ("model", "requests", "tokens in", "tokens out", "cost"), rows)


def models_table(models: Iterable[Model], origin: str, price_of: Callable[[str], Price | None]) -> Table:
    """The catalogue with prices, in US dollars for a million tokens."""
    rows = []
    for model in models:
        price = price_of(model.namespace)
        prices = (dollars(price.input), dollars(price.output)) if price else (UNKNOWN, UNKNOWN)
        vendor = model.vendor.name if model.vendor else ""
        rows.append((model.namespace or model.name, vendor, model.type or "", *prices))
    header = ("model", "vendor", "type", "$ per 1M tokens in", "$ per 1M tokens out")
    return Table(f"Models at {origin}", header, tuple(rows))


def _ending(answer: ChatCompletion) -> str:
    reason, kept = answer.finish_reason, "what came is above" if answer.text else "nothing had come"
    match reason:
        case "content_filter" if answer.text:
            return "The safety filter ended this answer: what is above is not all of it."
        case "content_filter":
            return "The safety filter withheld this answer."
        case "length":
            used = f" after {answer.usage.completion_tokens:,} tokens" if answer.usage else ""
            return f"Cut at the length limit{used}: raise --max-tokens, or ask for a shorter answer."
        case "tool_calls":
            return "The model asks for a tool call: see _sky.choices[0].message.tool_calls."
        case str() if reason == INTERRUPTED:
            return f"interrupted: {kept}"
        case str() if reason == TRUNCATED:
            return f"truncated: the stream stopped before its end; {kept}"
        case str() if reason == FAILED:
            return f"error: the stream failed; {kept}"
    return "" if answer.text else "The answer has no text."


def _found(flagged: Iterable[Finding]) -> str:
    said: dict[str, list[str]] = {}
    for finding in flagged:
        word = finding.severity if finding.severity and finding.severity != "safe" else ""
        facts = [word] if word else ["detected"] if finding.detected else []
        facts += ["filtered"] if finding.filtered else []
        said.setdefault(_SOURCES[finding.source], []).append(" ".join([finding.category.replace("_", " "), *facts]))
    return "; ".join(f"{', '.join(dict.fromkeys(words))} in {source}" for source, words in said.items())


def _cost(cost: float | None) -> str:
    return UNKNOWN if cost is None else dollars(cost)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
