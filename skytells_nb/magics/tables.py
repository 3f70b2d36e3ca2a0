"""The tables of ``%skytells``: connection, usage, models, safety, conversations and settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skytells_nb.formatting import format_cost, format_dollars
from skytells_nb.types.models import Model, Price
from skytells_nb.types.safety import SEVERITIES
from skytells_nb.user_dirs import without_home
from skytells_nb.widgets.display import cell_publish, new_display_id
from skytells_nb.widgets.safe_text import literal_html, plain

if TYPE_CHECKING:
    from skytells_nb.cache.store import CacheStore
    from skytells_nb.engine.report import UsageTotals
    from skytells_nb.magics.conversations import Conversation
    from skytells_nb.session import Session


@dataclass(frozen=True, slots=True)
class Table:
    """A small table with a title."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def html(self) -> str:
        head = "".join(f'<th scope="col">{literal_html(cell)}</th>' for cell in self.header)
        body = "".join(f"<tr>{''.join(f'<td>{literal_html(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        return (
            f'<table class="skytells-table"><caption>{literal_html(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def text(self) -> str:
        lines = [[_one_line(cell) for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        return "\n".join([_one_line(self.title), *padded])


def publish_tables(tables: Sequence[Table]) -> None:
    """Publish tables as one output of the cell."""
    data = {"text/html": "".join(t.html() for t in tables), "text/plain": "\n\n".join(t.text() for t in tables)}
    cell_publish()(data, {}, display_id=new_display_id(), update=False)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())


UNKNOWN = "unknown"
_SOURCES = {"prompt": "prompt", "completion": "answer"}


def status_table(session: Session) -> Table:
    """Return the table of the connection and the defaults, without the API key."""
    replaying = session.recording is not None
    rows = [
        ("origin", shown_origin(session)),
        ("API key", "not needed" if session.is_local or replaying else "found"),
        ("model", session.settings.model),
        ("embedding model", session.settings.embedding_model),
        ("cache", cache_name(session.cache)),
        ("usage", "%skytells usage"),
    ]
    if replaying:
        rows += [
            ("replay", "answers come from the cache only; nothing is sent"),
            ("to leave", how_to_leave_replay(session)),
        ]
    return Table("Skytells connection", ("setting", "value"), tuple(rows))


def disconnected_table(reason: str) -> Table:
    """Return the table to show without an API key."""
    return Table("Skytells connection", ("setting", "value"), (("API key", "not found"), ("next", reason)))


def shown_origin(session: Session) -> str:
    """Return where requests go, without the port of the local models: it is another one each time."""
    return "local" if session.is_local else session.origin


def how_to_leave_replay(session: Session) -> str:
    """Return how to leave replay mode."""
    from skytells_nb.cache.replay import is_replay

    reconnect = f"%skytells {'local' if session.is_local else 'connect'}, or a call of connect()"
    return f"%env SKYTELLS_CACHE=, then {reconnect}" if is_replay(os.environ.get("SKYTELLS_CACHE")) else reconnect


def cache_name(store: CacheStore) -> str:
    """Return a cache's file as a short path, or its kind: memory, off."""
    path = store.stats().path
    return display_path(Path(path)) if path else store.url.removesuffix("://")


def display_path(path: Path) -> str:
    """Return a path relative to the working directory or the home directory, so that a notebook fits other machines."""
    for base, prefix in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return prefix + path.relative_to(base).as_posix()
    return str(path)


def usage_table(totals: UsageTotals) -> Table:
    """Return the table of requests, tokens and cost, by model and in total."""
    usages = [*sorted(totals.by_model.items()), ("all", totals)]
    rows = tuple(
        (
            name,
            f"{t.requests:,}",
            f"{t.input_tokens:,}",
            f"{t.output_tokens:,}",
            format_cost(t.cost, t.missing_usage, unknown=UNKNOWN),
        )
        for name, t in usages
    )
    counts = {"blocked": totals.blocked, "filtered": totals.filtered, "not checked": totals.unchecked}
    safety = ", ".join(f"{count:,} {label}" for label, count in counts.items() if count)
    title = "Used in this session" + (f" (safety: {safety})" if safety else "")
    return Table(title, ("model", "requests", "tokens in", "tokens out", "cost"), rows)


def models_table(models: Iterable[Model], origin: str, price_of: Callable[[str], Price | None]) -> Table:
    """Return the table of the catalog with prices, in US dollars per million tokens."""
    rows = []
    for model in models:
        price = price_of(model.namespace)
        prices = (format_dollars(price.input), format_dollars(price.output)) if price else (UNKNOWN, UNKNOWN)
        vendor = model.vendor.name
        rows.append((model.namespace or model.name, vendor, model.type or "", *prices))
    header = ("model", "vendor", "type", "$ per 1M tokens in", "$ per 1M tokens out")
    return Table(f"Models at {origin}", header, tuple(rows))


def safety_tables(session: Session) -> list[Table]:
    """Return tables of the number of safety results and of their findings, by source, category and severity."""
    totals = session.totals
    counts = (session.safety_checked, totals.blocked, totals.filtered, totals.unchecked)
    header = ("checked answers", "blocked", "filtered", "not checked")
    rows = []
    for (source, category), severities in sorted(_count_by_category(session).items()):
        ordered = sorted(severities, key=_severity_order)
        counted = ", ".join(f"{severities[severity]:,} {severity}" for severity in ordered)
        rows.append((_SOURCES.get(source, source), category.replace("_", " "), counted))
    empty = ("", "nothing above safe", "")
    return [
        Table("Safety results of this session", header, (tuple(f"{count:,}" for count in counts),)),
        Table("Findings", ("in the", "category", "count"), tuple(rows) or (empty,)),
    ]


def _severity_order(label: str) -> int:
    severity = label.partition(" ")[0]
    return SEVERITIES.index(severity) if severity in SEVERITIES else -1


def _count_by_category(session: Session) -> dict[tuple[str, str], dict[str, int]]:
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for finding, count in session.safety_findings.items():
        graded = finding.severity if finding.severity not in (None, "safe") else ""
        severity = graded or ("detected" if finding.detected else "")
        label = " ".join(filter(None, (severity, "filtered" if finding.filtered else "")))
        labels = counts.setdefault((finding.source, finding.category), {})
        labels[label] = labels.get(label, 0) + count
    return counts


def conversations_table(conversations: Iterable[Conversation]) -> Table:
    """Return the table of the conversations by name, with their turns and system messages."""
    rows = tuple((c.name, f"%%skytells_{c.api}", c.model, f"{c.turns:,}", c.system or "") for c in conversations)
    header = ("name", "magic", "model", "turns", "system message")
    empty = ("none yet; --conversation NAME starts one", "", "", "", "")
    return Table("Conversations of this session", header, rows or (empty,))


def settings_table(session: Session, sources: Mapping[str, str]) -> Table:
    """Return the table of the session's settings and their sources, without the API key."""
    settings = session.settings.model_dump()
    rows = tuple((name, _display_value(value), sources.get(name, UNKNOWN)) for name, value in settings.items())
    return Table("Settings of this session", ("setting", "value", "from"), rows)


def magics_table(values: Mapping[str, str], set_names: Iterable[str]) -> Table:
    """Return the table of the magics' own settings."""
    changed, source = set(set_names), "%config or a configuration file"
    rows = tuple((name, value, source if name in changed else "default") for name, value in values.items())
    return Table("%config SkytellsMagics", ("setting", "value", "from"), rows)


def _display_value(value: object) -> str:
    if isinstance(value, Path):
        return display_path(value)
    return "not set" if value is None else without_home(str(value))
