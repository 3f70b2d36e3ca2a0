"""The command line: ``python -m skytells_nb serve | local install | demo | doctor | cache``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from skytells_nb import __version__
from skytells_nb.errors import CacheError, InputError, SkytellsError

if TYPE_CHECKING:
    from skytells_nb.cache.store import CacheStats, CacheStore

PORT = 8000
MEGABYTE = 1_000_000

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 for success, 1 for failure, 2 for invalid arguments.

    >>> main(["cache", "stats"])  # doctest: +SKIP
    0
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    command: Command | None = options.command
    if command is None:
        parser.print_help()
        return 0
    try:
        return command(options)
    except SkytellsError as problem:
        print(f"{type(problem).__name__}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        # The status that shells use for a program that Ctrl-C ended.
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m skytells_nb", description="Skytells inside notebooks.")
    parser.add_argument("--version", action="version", version=f"skytells-nb {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(metavar="COMMAND")

    serve = commands.add_parser("serve", help="a local Skytells on this machine, until Ctrl-C")
    serve.add_argument("--host", default="127.0.0.1", help="an address of this machine (default: %(default)s)")
    serve.add_argument("--port", type=int, default=PORT, help="0 takes a free one (default: %(default)s)")
    serve.add_argument(
        "--api-key", metavar="KEY", help="the key it accepts (default: a random one, shown at the start)"
    )
    serve.add_argument("--faults", metavar="NAME=VALUE,…", help="faults to simulate, such as status=503,rate=0.1")
    serve.add_argument("--limits", metavar="NAME=VALUE,…", help="the account's limits, such as requests=25,window=60")
    serve.set_defaults(command=_serve)

    local = commands.add_parser("local", help="the models of the local Skytells")
    local_commands = local.add_subparsers(required=True, metavar="COMMAND")
    install = local_commands.add_parser("install", help="download the chat model (98 MB), once, into the user's cache")
    install.set_defaults(command=_install)

    demo = commands.add_parser("demo", help="run the quickstart notebook on the local Skytells")
    demo.add_argument("notebook", nargs="?", type=Path, help="another notebook")
    demo.add_argument(
        "--out", type=Path, default=Path("build/demo"), help="folder of the results (default: %(default)s)"
    )
    demo.set_defaults(command=_demo)

    doctor = commands.add_parser(
        "doctor", help="show what is installed and configured; status 1 if a first call would fail"
    )
    doctor.add_argument(
        "--url",
        help="try this service too (or local): key, models, text, stream, embeddings, limits; sends it the key and a "
        "few tokens",
    )
    doctor.set_defaults(command=_doctor)

    cache = commands.add_parser("cache", help="the cache of paid responses")
    cache_commands = cache.add_subparsers(metavar="COMMAND")
    cache.set_defaults(command=_cache_stats)
    cache_commands.add_parser("stats", help="show its contents (the default)")
    prune = cache_commands.add_parser("prune", help="remove the oldest responses")
    prune.add_argument("--max-mb", type=_amount, metavar="MB", help="remove until at most this many megabytes are left")
    prune.add_argument("--older-than-days", type=_amount, metavar="DAYS", help="remove responses older than this")
    prune.add_argument(
        "--compact", action="store_true", help="give all free space of the file back to the disk; may rewrite it"
    )
    prune.set_defaults(command=_cache_prune)
    export = cache_commands.add_parser(
        "export", help="write every response to one file, which answers without a key as cache='replay:FILE'"
    )
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("--force", action="store_true", help="replace an earlier recording")
    export.set_defaults(command=_cache_export)
    clear = cache_commands.add_parser("clear", help="remove every response")
    clear.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    clear.set_defaults(command=_cache_clear)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from skytells_nb import session

    session.serve(options.host, options.port, api_key=options.api_key, faults=options.faults, limits=options.limits)
    return 0


def _install(options: argparse.Namespace) -> int:
    from skytells_nb import session

    # It prints each step and the path of the file.
    session.install_local()
    from skytells_nb.plots.maps.umap_layout import compile_umap

    if compile_umap(lambda stage, *_: print("Compiling UMAP (once)", flush=True) if stage == "loading UMAP" else None):
        print("UMAP is compiled; later maps start faster")
    return 0


def _demo(options: argparse.Namespace) -> int:
    from skytells_nb.cli import demo

    print(demo.run(options.notebook, options.out))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from skytells_nb.cli import doctor

    diagnosis = doctor.examine(options.url)
    print(diagnosis)
    return 0 if diagnosis.ready else 1


def _cache_stats(options: argparse.Namespace) -> int:
    from skytells_nb import session

    with _user_cache() as store:
        stats = store.stats()
        print(f"{store.url}\n{stats.entries:,} responses, {stats.bytes / MEGABYTE:,.1f} MB")
        if stats.file_bytes:
            print(f"the file has {file_text(stats)}")
        settings = session.settings()
        kept = [
            f"{amount:,.6g} {unit}"
            for amount, unit in ((settings.cache_max_mb, "MB"), (settings.cache_max_days, "days"))
            if amount is not None
        ]
        if kept:
            print(f"limits: {' and '.join(kept)}")
    return 0


def _cache_prune(options: argparse.Namespace) -> int:
    if options.max_mb is None and options.older_than_days is None and not options.compact:
        raise InputError("prune needs a limit: pass --max-mb MB, --older-than-days DAYS, or both; or pass --compact.")
    max_bytes = None if options.max_mb is None else int(options.max_mb * MEGABYTE)
    with _user_cache() as store:
        print(prune(store, max_bytes, options.older_than_days, compact=options.compact))
    return 0


def _cache_export(options: argparse.Namespace) -> int:
    from skytells_nb.cache.replay import export_all

    with _user_cache() as store:
        keys = store.keys()
        if not keys:
            raise CacheError(f"{store.url} holds no response, so there is nothing to write.")
        written = export_all([(store, keys)], options.file, replace=options.force)
    print(f"{written.path}\n{written.answers:,} responses, {written.bytes / MEGABYTE:,.1f} MB")
    if written.missing:
        print(f"{written.missing:,} damaged responses were left out")
    return 0


def _cache_clear(options: argparse.Namespace) -> int:
    with _user_cache() as store:
        if not options.yes and not _confirmed(f"Remove {store.stats().entries:,} paid responses from {store.url}?"):
            print("Nothing was removed.")
            return 1
        print(prune(store, 0, None))
    return 0


def prune(store: CacheStore, max_bytes: int | None, older_than_days: float | None, *, compact: bool = False) -> str:
    """Remove the oldest responses, with a progress line; return what is removed and left and what the file has."""
    before = store.stats()
    removed = store.prune(max_bytes=max_bytes, older_than_days=older_than_days, compact=compact)
    after = store.stats()
    freed = max(before.bytes - after.bytes, 0) / MEGABYTE
    lines = [
        f"{removed:,} responses removed, {after.entries:,} left",
        f"{freed:,.1f} MB removed, {after.bytes / MEGABYTE:,.1f} MB left",
        f"the file had {before.file_bytes / MEGABYTE:,.1f} MB and has {file_text(after)}",
    ]
    if not compact and after.free_bytes > MEGABYTE:
        lines.append("pass --compact to give the free space back to the disk")
    return "\n".join(lines)


def file_text(stats: CacheStats) -> str:
    """Return the size of the file of a cache, and how much of it is free."""
    free = f", of which {stats.free_bytes / MEGABYTE:,.1f} MB are free for new responses" if stats.free_bytes else ""
    return f"{stats.file_bytes / MEGABYTE:,.1f} MB{free}"


def _user_cache() -> closing[CacheStore]:
    from skytells_nb import session
    from skytells_nb.cache import open_store

    settings = session.settings()
    return closing(open_store(settings.cache, default_dir=settings.cache_dir))


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        print(f"{question} Confirm with --yes.")
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _amount(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text!r}")
    return number
