"""Run the commands of ``%skytells`` and return the tables to show."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skytells_nb import session as sessions
from skytells_nb.errors import ContentPolicyError, InputError, MissingKeyError
from skytells_nb.magics.command_arguments import CacheAction, CacheArguments, CommandArguments, export_variable
from skytells_nb.magics.conversations import conversations, find_conversation, write_file
from skytells_nb.magics.tables import (
    Table,
    cache_name,
    conversations_table,
    disconnected_table,
    display_path,
    how_to_leave_replay,
    models_table,
    safety_tables,
    settings_table,
    shown_origin,
    status_table,
    usage_table,
)

if TYPE_CHECKING:
    from skytells_nb.session import Session


HEADER = ("what", "value")


def run_cache_command(args: CacheArguments) -> Table:
    """Run one action on the cache and return a table of the result. Raises CacheError if it fails."""
    return _ACTIONS[args.action](args)


def _stats(args: CacheArguments) -> Table:
    rows = []
    for store in sessions.current().caches:
        stats = store.stats()
        counts = (stats.entries, stats.bytes, stats.hits, stats.misses)
        rows.append((cache_name(store), *(f"{count:,}" for count in counts)))
    return Table("Caches of this session", ("cache", "answers", "bytes", "hits", "misses"), tuple(rows))


def _export(args: CacheArguments) -> Table:
    session = sessions.current()
    written = session.export(args.file, replace=args.force)
    name = shlex.quote(display_path(written.path))
    rows = [("file", display_path(written.path)), ("answers", f"{written.answers:,}"), ("bytes", f"{written.bytes:,}")]
    if written.missing:
        rows.append(("not included", f"{written.missing:,} answers that were removed from the cache since"))
    if any(cache_name(store) == "off" for store in session.caches):
        rows.append(("not included", "answers of calls with cache='off'"))
    failed = _failed(session)
    if failed:
        rows.append(("failed", f"{failed:,} rows; unless they succeeded later, replay ends in an error for them"))
    rows.append(("to replay it", f"%skytells cache replay {name}, or SKYTELLS_CACHE=replay:{name}"))
    return Table("Recorded", HEADER, tuple(rows))


def _failed(session: Session) -> int:
    """Count the rows without an answer, except those whose refusal is cached and those that are never sent."""
    replayable = (ContentPolicyError, InputError)
    return sum(not isinstance(error, replayable) for report in session.reports for error in report.errors.values())


def _replay(args: CacheArguments) -> Table:
    session = sessions.replay(args.file)
    stats = session.cache.stats()
    rows = (
        ("answers come from", cache_name(session.cache)),
        ("answers", f"{stats.entries:,}"),
        ("recorded from", session.origin),
        ("to leave", how_to_leave_replay(session)),
    )
    return Table("Replay: nothing is sent", HEADER, rows)


def _prune(args: CacheArguments) -> Table:
    session = sessions.current()
    removed = session.cache.prune(max_bytes=args.max_bytes, older_than_days=args.older_than)
    stats = session.cache.stats()
    rows = (("removed", f"{removed:,} answers"), ("left", f"{stats.entries:,} answers, {stats.bytes:,} bytes"))
    return Table(f"Cache {cache_name(session.cache)}", HEADER, rows)


_ACTIONS: dict[CacheAction, Callable[[CacheArguments], Table]] = {
    "stats": _stats,
    "export": _export,
    "prune": _prune,
    "replay": _replay,
}


def run_command(args: CommandArguments, variables: dict[str, Any]) -> list[Table]:
    """Run a command and return the tables of its result.

    Raises MagicUsageError for an unknown conversation, and MissingKeyError if a session is needed without a key.
    """
    if args.command in ("connect", "local"):
        sessions.connect(local=args.command == "local")
    try:
        session = sessions.current()
    except MissingKeyError as missing:
        if args.command != "status":
            raise
        return [disconnected_table(str(missing))]
    match args.command:
        case "models":
            return [models_table(session.models(), shown_origin(session), session.price)]
        case "usage":
            return [usage_table(session.totals)]
        case "safety":
            return safety_tables(session)
        case "config":
            return [settings_table(session, sessions.setting_sources(session.settings))]
        case "conversations":
            return _conversations(args, session, variables)
    # Without the usage: less is sent by a notebook that runs again, and it is saved as it was.
    return [status_table(session)]


def _conversations(args: CommandArguments, session: Session, variables: dict[str, Any]) -> list[Table]:
    by_name = conversations(session)
    if args.action == "reset":
        find_conversation(session, args.name)
        del by_name[args.name]
    elif args.action == "export":
        conversation = find_conversation(session, args.name)
        name = export_variable(args)
        if name:
            variables[name] = conversation.export()
        else:
            write_file(conversation, Path(args.to).expanduser(), replace=args.force)
        rows = (
            ("conversation", conversation.name),
            ("turns", f"{conversation.turns:,}"),
            ("saved in", name or args.to),
        )
        return [Table("Exported", ("what", "value"), rows)]
    return [conversations_table(by_name.values())]
