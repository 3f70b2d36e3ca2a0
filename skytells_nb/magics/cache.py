"""What the words of ``%skytells cache`` do, and the tables that they show."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from skytells_nb.errors import ContentPolicyError, InputError
from skytells_nb.magics.cache_args import Action, CacheArgs
from skytells_nb.magics.status import cache_name, how_to_leave, path_text
from skytells_nb.magics.table import Table

if TYPE_CHECKING:
    from skytells_nb.session import Session

HEADER = ("what", "value")


def do(args: CacheArgs) -> Table:
    """Do what the line asks for; the table that says what was done. Raises CacheError where it cannot be."""
    return _ACTIONS[args.action](args)


def _stats(args: CacheArgs) -> Table:
    from skytells_nb import session as sessions

    rows = []
    for store in sessions.current().caches:
        found = store.stats()
        counts = (found.entries, found.bytes, found.hits, found.misses)
        rows.append((cache_name(store), *(f"{count:,}" for count in counts)))
    return Table("Caches of this session", ("cache", "answers", "bytes", "hits", "misses"), tuple(rows))


def _export(args: CacheArgs) -> Table:
    from skytells_nb import session as sessions

    session = sessions.current()
    written = session.export(args.file, replace=args.force)
    name = shlex.quote(path_text(written.path))
    rows = [("file", path_text(written.path)), ("answers", f"{written.answers:,}"), ("bytes", f"{written.bytes:,}")]
    if written.missing:
        rows.append(("not in it", f"{written.missing:,} answers that were removed from the cache since"))
    if any(cache_name(store) == "off" for store in session.caches):
        rows.append(("not in it", "answers of calls with cache='off'"))
    failed = _failed(session)
    if failed:
        rows.append(("look at", f"{failed:,} rows failed; where they did not succeed later, replay ends in an error"))
    rows.append(("to replay it", f"%skytells cache replay {name}, or SKYTELLS_CACHE=replay:{name}"))
    return Table("Recorded", HEADER, tuple(rows))


def _failed(session: Session) -> int:
    """Rows without an answer, those aside whose refusal is kept or that are never sent."""
    kept = (ContentPolicyError, InputError)
    return sum(not isinstance(error, kept) for report in session.reports for error in report.errors.values())


def _replay(args: CacheArgs) -> Table:
    from skytells_nb import session as sessions

    session = sessions.replay(args.file)
    stats = session.cache.stats()
    rows = (
        ("answers come from", cache_name(session.cache)),
        ("answers", f"{stats.entries:,}"),
        ("as given by", session.origin),
        ("to leave", how_to_leave(session)),
    )
    return Table("Replay: nothing is sent", HEADER, rows)


def _prune(args: CacheArgs) -> Table:
    from skytells_nb import session as sessions

    session = sessions.current()
    removed = session.cache.prune(max_bytes=args.max_bytes, older_than_days=args.older_than)
    stats = session.cache.stats()
    rows = (("removed", f"{removed:,} answers"), ("kept", f"{stats.entries:,} answers, {stats.bytes:,} bytes"))
    return Table(f"Cache {cache_name(session.cache)}", HEADER, rows)


_ACTIONS: dict[Action, Callable[[CacheArgs], Table]] = {
    "stats": _stats,
    "export": _export,
    "prune": _prune,
    "replay": _replay,
}
