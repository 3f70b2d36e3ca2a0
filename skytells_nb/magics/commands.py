"""What the words of ``%skytells cache`` do, and the tables that they show."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skytells_nb import session as sessions
from skytells_nb.errors import ContentPolicyError, InputError, MissingKeyError
from skytells_nb.magics import tables as status
from skytells_nb.magics.command_arguments import Action, CacheArgs, WordArgs, export_name
from skytells_nb.magics.conversations import conversations, known, write_file
from skytells_nb.magics.tables import Table, cache_name, how_to_leave, path_text

if TYPE_CHECKING:
    from skytells_nb.session import Session


HEADER = ("what", "value")


def run_cache_command(args: CacheArgs) -> Table:
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


def run_command(args: WordArgs, names: dict[str, Any]) -> list[Table]:
    """Do what the line asks for; the tables that say what is or was done.

    Raises MagicUsageError for a conversation that there is not, MissingKeyError where a session is needed and there is
    no key.
    """
    if args.word in ("connect", "local"):
        sessions.connect(local=args.word == "local")
    try:
        session = sessions.current()
    except MissingKeyError as missing:
        if args.word != "status":
            raise
        return [status.disconnected_table(str(missing))]
    match args.word:
        case "models":
            return [status.models_table(session.models(), session.origin, session.price)]
        case "usage":
            return [status.usage_table(session.totals)]
        case "safety":
            return status.safety_tables(session)
        case "config":
            return [status.settings_table(session, sessions.setting_sources(session.settings))]
        case "conversations":
            return _conversations(args, session, names)
    return [status.status_table(session), status.usage_table(session.totals)]


def _conversations(args: WordArgs, session: sessions.Session, names: dict[str, Any]) -> list[Table]:
    talks = conversations(session)
    if args.action == "reset":
        known(session, args.name)
        del talks[args.name]
    elif args.action == "export":
        talk = known(session, args.name)
        name = export_name(args)
        if name:
            names[name] = talk.export()
        else:
            write_file(talk, Path(args.to).expanduser(), replace=args.force)
        rows = (("conversation", talk.name), ("turns", f"{talk.turns:,}"), ("messages are in", name or args.to))
        return [Table("Exported", ("what", "value"), rows)]
    return [status.conversations_table(talks.values())]
