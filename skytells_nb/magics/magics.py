"""The magics: parse, ask, render. Nothing here prints an error: a failed cell fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Enum, Unicode

from skytells_nb.errors import Interrupted, MissingKeyError
from skytells_nb.magics.args import ChatArgs, MagicUsageError, chat_help, fill, parse_chat_line
from skytells_nb.magics.completer import WORDS

LAST_ANSWER = "_sky"
STATUS_HELP = """\
%skytells           the connection, the default models, what was used
%skytells usage     requests, tokens and cost by model
%skytells models    the models with their prices
%skytells connect   connect again, from the environment
%skytells local     connect to small models on this machine: no key, no cost
%skytells help      this; %skytells_chat -h for the options of %%skytells_chat
"""


@magics_class
class SkytellsMagics(Magics):
    """Defaults for the magics; ``%config SkytellsMagics.model = "…"`` sets one."""

    model = Unicode("", help="Model of %%skytells_chat where -m names none; empty: the session's.").tag(config=True)
    system = Unicode("", help="System message where -s gives none.").tag(config=True)
    stream = Enum(
        ("auto", "live", "final", "plain"), "auto", help="How answers are shown; auto fits the place the code runs in."
    ).tag(config=True)

    on_unload: Callable[[], None]
    """Gives the shell back as it was; set by ``load``."""

    @no_var_expand
    @line_cell_magic
    def skytells_chat(self, line: str, cell: str | None = None) -> None:
        """Ask a model: the body of the cell is the prompt, the answer streams in below. -h lists the options."""
        try:
            args = parse_chat_line(line)
            if args.help:
                print(chat_help())
                return
            prompt = self._prompt(args, cell)
        except MagicUsageError as problem:
            raise UsageError(str(problem)) from None
        self._chat(args, prompt)

    @no_var_expand
    @line_magic
    def skytells(self, line: str) -> None:
        """The connection, models and what was used. ``%skytells help`` lists the words."""
        from skytells_nb.magics import render

        words = line.split() or ["status"]
        if len(words) > 1 or words[0] not in WORDS:
            raise UsageError(f"%skytells {line.strip()}: use one of {', '.join(WORDS)}")
        if words[0] == "help":
            print(STATUS_HELP)
        else:
            render.show(self._tables(words[0]))

    def _prompt(self, args: ChatArgs, cell: str | None) -> str:
        from skytells_nb.magics.values import values_text

        if cell is None:
            raise MagicUsageError("the prompt goes below the line, in a cell that begins with %%skytells_chat")
        if not cell.strip():
            raise MagicUsageError("%%skytells_chat: the prompt is empty; write it below the line")
        return fill(cell.removesuffix("\n"), values_text(args.variables, self._names))

    def _chat(self, args: ChatArgs, prompt: str) -> None:
        from skytells_nb import session as sessions
        from skytells_nb.magics.ask import Question, answer_to
        from skytells_nb.magics.render import metadata, notes
        from skytells_nb.widgets.display import display_mode
        from skytells_nb.widgets.live import Live

        session = sessions.current()
        question = Question(
            model=args.model or self.model or session.settings.model,
            prompt=prompt,
            system=args.system if args.system is not None else self.system or None,
            temperature=args.temperature,
            max_tokens=args.max_tokens,
            stream=args.stream,
            cache=args.cache,
        )
        with Live(format=args.format, mode=display_mode(self.stream)) as live:
            outcome = answer_to(session, question, live)
            answer = outcome.answer
            if answer is not None:
                self._names.update({LAST_ANSWER: answer, args.output or LAST_ANSWER: answer})
                if not outcome.cached:
                    session.record(answer, model=question.model)
            live.close(notes=notes(outcome), metadata=metadata(answer, question.model) if answer else None)
        if isinstance(outcome.problem, KeyboardInterrupt):
            kept = args.output or LAST_ANSWER
            raise Interrupted(f"{len(live.text):,} characters had come; they are kept in {kept}") from None
        if outcome.problem is not None:
            raise outcome.problem

    def _tables(self, word: str) -> list[Any]:
        from skytells_nb import session as sessions
        from skytells_nb.magics import render

        if word in ("connect", "local"):
            sessions.connect(local=word == "local")
        if word == "models":
            session = sessions.current()
            return [render.models_table(session.models(), session.origin, session.price)]
        try:
            session = sessions.current()
        except MissingKeyError as missing:
            if word != "status":
                raise
            return [render.disconnected_table(str(missing))]
        usage = render.usage_table(session.totals)
        return [usage] if word == "usage" else [render.status_table(session), usage]

    @property
    def _names(self) -> dict[str, Any]:
        assert self.shell is not None
        names: dict[str, Any] = self.shell.user_ns
        return names
