"""The magics: parse, do, show. Nothing here prints an error: a failed cell fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Bool, Enum, Unicode

from skytells_nb.magics.chat_arguments import Api, ask_help, parse_line
from skytells_nb.magics.command_arguments import WordArgs, cache_help, parse_cache_line, parse_word_line, word_help

SETTINGS = ("model", "system", "stream", "remote_images")


@magics_class
class SkytellsMagics(Magics):
    """Defaults for the magics; ``%config SkytellsMagics.model = "…"`` sets one."""

    model = Unicode("", help="Model of cells where -m names none; empty: the session's.").tag(config=True)
    system = Unicode("", help="System message where -s gives none.").tag(config=True)
    stream = Enum(
        ("auto", "live", "final", "plain"), "auto", help="How answers are shown; auto fits the place the code runs in."
    ).tag(config=True)

    remote_images = Bool(False, help="Whether answers load the pictures that they link to from the web.").tag(
        config=True
    )

    on_unload: Callable[[], None]
    """Gives the shell back as it was; set by ``load``."""

    @no_var_expand
    @line_cell_magic
    def skytells_chat(self, line: str, cell: str | None = None) -> None:
        """Ask a model: the body of the cell is the prompt, the answer streams in below. -h lists the options."""
        self._ask("chat", line, cell)

    @no_var_expand
    @line_cell_magic
    def skytells_respond(self, line: str, cell: str | None = None) -> None:
        """Ask a model over the Responses API, which keeps conversations and shows reasoning. -h lists the options."""
        self._ask("respond", line, cell)

    @no_var_expand
    @line_magic
    def skytells(self, line: str) -> None:
        """The connection, models, conversations and what was used. ``%skytells help`` lists the words."""
        args = parse_word_line(line)
        if args.word == "cache":
            self._cache(line.strip().removeprefix("cache"))
        elif args.help or args.word == "help":
            print(word_help(args.word))
        else:
            self._show(self._tables(args))

    def _ask(self, api: Api, line: str, cell: str | None) -> None:
        args = parse_line(api, line)
        if args.help:
            print(ask_help(api))
            return
        from skytells_nb.magics.cell import CellContext, run_cell
        from skytells_nb.widgets.display import display_mode

        shell = self._shell
        place = CellContext(
            shell.user_ns,
            display_mode(self.stream),
            shell.set_next_input,
            model=self.model,
            system=self.system,
            remote_images=self.remote_images,
        )
        run_cell(args, cell, place)

    def _cache(self, line: str) -> None:
        args = parse_cache_line(line)
        if args.help:
            print(cache_help(args.action))
            return
        from skytells_nb.magics.commands import run_cache_command

        self._show([run_cache_command(args)])

    def _tables(self, args: WordArgs) -> Sequence[Any]:
        from skytells_nb.magics import tables as status
        from skytells_nb.magics.commands import run_command

        if args.word != "config":
            return run_command(args, self._shell.user_ns)
        given = {name: str(getattr(self, name)) for name in SETTINGS}
        changed = [name for name in SETTINGS if getattr(self, name) != self.traits()[name].default_value]
        return [*run_command(args, self._shell.user_ns), status.magics_table(given, changed)]

    def _show(self, tables: Sequence[Any]) -> None:
        from skytells_nb.magics.tables import show

        show(tables)

    @property
    def _shell(self) -> Any:
        assert self.shell is not None
        return self.shell
