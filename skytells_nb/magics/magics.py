"""The magics: parse a line, run it, show the result. Errors are raised, never printed, so that a failed cell fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Bool, Enum, Unicode

from skytells_nb.magics.chat_arguments import Api, CellArguments, cell_help, parse_cell_line
from skytells_nb.magics.command_arguments import (
    CommandArguments,
    cache_help,
    command_help,
    parse_cache_line,
    parse_command_line,
)

SETTING_NAMES = ("model", "system", "stream", "remote_images")


@magics_class
class SkytellsMagics(Magics):
    """Defaults for the magics; ``%config SkytellsMagics.model = "…"`` sets one."""

    model = Unicode("", help="Model of cells without -m; empty for the session's model.").tag(config=True)
    system = Unicode("", help="System message of cells without -s.").tag(config=True)
    stream = Enum(
        ("auto", "live", "final", "plain"), "auto", help="How answers are shown; auto chooses by the front end."
    ).tag(config=True)

    remote_images = Bool(False, help="Whether answers load the images that they link to from the web.").tag(config=True)

    on_unload: Callable[[], None]
    """Restores the shell; set by ``load``."""

    @no_var_expand
    @line_cell_magic
    def skytells_chat(self, line: str, cell: str | None = None) -> None:
        """Ask a model: the body of the cell, or the line after the options, is the prompt. -h lists the options."""
        self._ask("chat", line, cell)

    @no_var_expand
    @line_cell_magic
    def skytells_respond(self, line: str, cell: str | None = None) -> None:
        """Ask a model over the Responses API, which stores conversations and shows reasoning. -h lists the options."""
        self._ask("respond", line, cell)

    @no_var_expand
    @line_magic
    def skytells(self, line: str) -> None:
        """Show the connection, models, conversations and usage. ``%skytells help`` lists the commands."""
        args = parse_command_line(line)
        if args.command == "cache":
            self._cache(line.strip().removeprefix("cache"))
        elif args.help or args.command == "help":
            word = args.name if args.command == "help" and args.name else args.command
            print(cache_help("stats") if word == "cache" else command_help(word))
        elif args.command == "fix":
            self._fix(args)
        else:
            self._show(self._tables(args))

    def _ask(self, api: Api, line: str, cell: str | None) -> None:
        on_the_line = cell is None or not cell.strip()
        args = parse_cell_line(api, line, question=on_the_line)
        if args.help:
            print(cell_help(api))
            return
        from skytells_nb.magics.cell import run_cell

        run_cell(args, args.question or cell, self._context())

    def _fix(self, args: CommandArguments) -> None:
        from skytells_nb.magics.cell import run_cell
        from skytells_nb.magics.commands import INSTRUCTIONS, last_failure, show_sent

        failure, context = last_failure(self._shell), self._context()
        show_sent(failure, context.mode)
        run_cell(CellArguments(model=args.model, system=INSTRUCTIONS, code=True), failure.prompt, context)

    def _context(self) -> Any:
        from skytells_nb.magics.cell import CellContext
        from skytells_nb.widgets.display import display_mode

        shell = self._shell
        return CellContext(
            shell.user_ns,
            display_mode(self.stream),
            shell.set_next_input,
            model=self.model,
            system=self.system,
            remote_images=self.remote_images,
        )

    def _cache(self, line: str) -> None:
        args = parse_cache_line(line)
        if args.help:
            print(cache_help(args.action))
            return
        from skytells_nb.magics.commands import run_cache_command

        self._show([run_cache_command(args)])

    def _tables(self, args: CommandArguments) -> Sequence[Any]:
        from skytells_nb.magics.commands import run_command
        from skytells_nb.magics.tables import magics_table

        if args.command != "config":
            return run_command(args, self._shell.user_ns)
        values = {name: str(getattr(self, name)) for name in SETTING_NAMES}
        changed = [name for name in SETTING_NAMES if getattr(self, name) != self.traits()[name].default_value]
        return [*run_command(args, self._shell.user_ns), magics_table(values, changed)]

    def _show(self, tables: Sequence[Any]) -> None:
        from skytells_nb.magics.tables import publish_tables

        publish_tables(tables)

    @property
    def _shell(self) -> Any:
        assert self.shell is not None
        return self.shell


_SINGLE_LINE = re.compile(r"%{1,2}(skytells_(?:chat|respond))[ \t]+(\S[^\n]*)\n?")


def read_single_lines(ip: Any) -> Callable[[], None]:
    """Let a cell of one line ask its question, with one percent sign or two; return a function that undoes it.

    IPython refuses a cell magic without a body, and takes a last word with a question mark for a request for help.
    """

    def transform(lines: list[str]) -> list[str]:
        found = _SINGLE_LINE.fullmatch("".join(lines).strip())
        return [f"get_ipython().run_line_magic({found[1]!r}, {found[2]!r})\n"] if found is not None else lines

    transforms = ip.input_transformers_cleanup
    places = [place for place, known in enumerate(transforms) if getattr(known, "__name__", "") == "cell_magic"]
    transforms.insert(places[0] if places else len(transforms), transform)

    def undo() -> None:
        transforms[:] = [known for known in transforms if known is not transform]

    return undo
