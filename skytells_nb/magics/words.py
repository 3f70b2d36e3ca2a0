"""What the words of ``%skytells`` do, and the tables that they show; ``cache`` has a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytells_nb import session as sessions
from skytells_nb.errors import MissingKeyError
from skytells_nb.magics import status
from skytells_nb.magics.conversations import conversations, known, write_file
from skytells_nb.magics.table import Table
from skytells_nb.magics.word_args import WordArgs, export_name


def do(args: WordArgs, names: dict[str, Any]) -> list[Table]:
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
