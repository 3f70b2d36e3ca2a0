"""The tables of ``%skytells``: the connection, what was used, models, verdicts, conversations and settings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skytells_nb.engine.report import dollars
from skytells_nb.types.models import Model, Price
from skytells_nb.types.safety import SEVERITIES
from skytells_nb.widgets.display import cell_publish, new_display_id
from skytells_nb.widgets.safe_html import escape, plain

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


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())


UNKNOWN = "unknown"
_SOURCES = {"prompt": "prompt", "completion": "answer"}


def status_table(session: Session) -> Table:
    """The connection and the defaults. The key itself never shows."""
    replaying = session.recording is not None
    rows = [
        ("origin", session.origin),
        ("API key", "not needed" if session.is_local or replaying else "found"),
        ("model", session.settings.model),
        ("embedding model", session.settings.embedding_model),
        ("cache", cache_name(session.cache)),
    ]
    if replaying:
        rows += [("replay", "answers come from the cache only, nothing is sent"), ("to leave", how_to_leave(session))]
    return Table("Skytells connection", ("setting", "value"), tuple(rows))


def disconnected_table(reason: str) -> Table:
    return Table("Skytells connection", ("setting", "value"), (("API key", "not found"), ("next", reason)))


def how_to_leave(session: Session) -> str:
    """What to do to be answered by models again."""
    from skytells_nb.cache.replay import is_replay

    again = f"%skytells {'local' if session.is_local else 'connect'}, or a connect() of your own"
    return f"%env SKYTELLS_CACHE=, then {again}" if is_replay(os.environ.get("SKYTELLS_CACHE")) else again


def cache_name(store: CacheStore) -> str:
    """A cache's file as people write it, else what it is: memory, off."""
    path = store.stats().path
    return path_text(Path(path)) if path else store.url.removesuffix("://")


def path_text(path: Path) -> str:
    """A path from here or from home where it is below, else in full: a saved notebook should fit other machines."""
    for base, start in ((Path.cwd(), ""), (Path.home(), "~/")):
        if path.is_relative_to(base):
            return start + path.relative_to(base).as_posix()
    return str(path)


def usage_table(totals: UsageTotals) -> Table:
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
        vendor = model.vendor.name
        rows.append((model.namespace or model.name, vendor, model.type or "", *prices))
    header = ("model", "vendor", "type", "$ per 1M tokens in", "$ per 1M tokens out")
    return Table(f"Models at {origin}", header, tuple(rows))


def safety_tables(session: Session) -> list[Table]:
    """How many verdicts there were, and what they found above safe, by place, category and degree."""
    totals = session.totals
    counts = (session.judged, totals.blocked, totals.filtered, totals.unchecked)
    header = ("verdicts", "blocked", "filtered", "not checked")
    found = []
    for (source, category), degrees in sorted(_by_category(session).items()):
        known = sorted(degrees, key=_order)
        words = ", ".join(f"{degrees[degree]:,} {degree}" for degree in known)
        found.append((_SOURCES.get(source, source), category.replace("_", " "), words))
    nothing = ("", "nothing above safe", "")
    return [
        Table("Safety verdicts of this session", header, (tuple(f"{count:,}" for count in counts),)),
        Table("Found", ("in the", "category", "how often"), tuple(found) or (nothing,)),
    ]


def _order(degree: str) -> int:
    word = degree.partition(" ")[0]
    return SEVERITIES.index(word) if word in SEVERITIES else -1


def _by_category(session: Session) -> dict[tuple[str, str], dict[str, int]]:
    found: dict[tuple[str, str], dict[str, int]] = {}
    for finding, count in session.flagged.items():
        degree = finding.severity if finding.severity not in (None, "safe") else "detected" if finding.detected else ""
        words = " ".join(filter(None, (degree, "filtered" if finding.filtered else "")))
        degrees = found.setdefault((finding.source, finding.category), {})
        degrees[words] = degrees.get(words, 0) + count
    return found


def conversations_table(talks: Iterable[Conversation]) -> Table:
    """The conversations by name, with their turns and how they began."""
    rows = tuple((t.name, f"%%skytells_{t.api}", t.model, f"{t.turns:,}", t.system or "") for t in talks)
    header = ("name", "magic", "model", "turns", "system message")
    nothing = ("none yet; --conversation NAME begins one", "", "", "", "")
    return Table("Conversations of this session", header, rows or (nothing,))


def settings_table(session: Session, sources: Mapping[str, str]) -> Table:
    """The session's settings with where each comes from. The API key is none of them."""
    given = session.settings.model_dump()
    rows = tuple((name, _shown(given[name]), sources.get(name, UNKNOWN)) for name in given)
    return Table("Settings of this session", ("setting", "value", "from"), rows)


def magics_table(values: Mapping[str, str], set_names: Iterable[str]) -> Table:
    """The settings of the magics themselves."""
    changed, given = set(set_names), "%config or a configuration file"
    rows = tuple((name, value, given if name in changed else "default") for name, value in values.items())
    return Table("%config SkytellsMagics", ("setting", "value", "from"), rows)


def _shown(value: object) -> str:
    if isinstance(value, Path):
        return path_text(value)
    return "not set" if value is None else str(value)


def _cost(cost: float | None) -> str:
    return UNKNOWN if cost is None else dollars(cost)
