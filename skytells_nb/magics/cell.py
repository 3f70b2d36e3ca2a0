"""One cell with a prompt: from its line and body to a question, an answer on the screen, and names in the notebook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytells_nb import session as sessions
from skytells_nb.errors import ContentPolicyError, Interrupted, InvalidResponseError
from skytells_nb.magics.ask import Answered, answer_to
from skytells_nb.magics.chat_arguments import AskArgs, MagicUsageError
from skytells_nb.magics.conversations import Conversation, conversation, keep_turn
from skytells_nb.magics.formats import python_code
from skytells_nb.magics.messages import advise, metadata, notes
from skytells_nb.magics.output import CellOutput
from skytells_nb.magics.question import Answer, CellQuestion, ChatQuestion, RespondQuestion
from skytells_nb.magics.structured_output import JsonForm, json_form
from skytells_nb.magics.variables import fill, image_url, values_text
from skytells_nb.types.safety import Safety, findings
from skytells_nb.widgets.safe_html import plain

if TYPE_CHECKING:
    from skytells_nb.session import Session
    from skytells_nb.widgets.display import Mode

LAST_ANSWER = "_sky"


@dataclass(frozen=True, slots=True)
class CellContext:
    """The notebook around a cell: its names, how it shows output, its defaults, and the way into its next cell."""

    names: dict[str, Any]
    mode: Mode
    set_next_input: Callable[[str], object]
    model: str = ""
    system: str = ""
    remote_images: bool = False


def run_cell(args: AskArgs, body: str | None, place: CellContext) -> None:
    """Ask what the cell asks, and show and keep the answer.

    Raises MagicUsageError before anything is sent; after it what went wrong, with the answer as far as it came kept.
    """
    prompt = _prompt(args, body, place)
    images = tuple(image_url(word, place.names) for word in args.images)
    form = json_form(args.schema, place.names) if args.schema or args.json else None
    session = sessions.current()
    talk = conversation(session, args.conversation, args.api) if args.conversation else None
    question = _question(args, prompt, images, form, talk, place, session)
    with CellOutput(args.shown_as, place.mode, remote_images=place.remote_images) as screen:
        outcome = answer_to(session, question, screen)
        _record(session, question, outcome)
        found, mistake = _read(outcome, form)
        _keep_names(args, place, outcome, found)
        said = _notes(args, outcome, talk, session, mistake)
        if talk is not None and mistake is None:
            keep_turn(session, talk, question, outcome)
        if args.code and outcome.problem is None and mistake is None:
            said += _propose(str(outcome.answer), place)
        facts = metadata(outcome.answer, question.model) if outcome.answer is not None else None
        screen.close(notes=said, metadata=facts)
    if isinstance(outcome.problem, KeyboardInterrupt):
        kept = args.output or LAST_ANSWER
        raise Interrupted(f"{len(str(outcome.answer)):,} characters had come; they are kept in {kept}") from None
    problem = outcome.problem or mistake
    if problem is not None:
        raise advise(problem)


def _prompt(args: AskArgs, body: str | None, place: CellContext) -> str:
    magic = f"%%skytells_{args.api}"
    if body is None:
        raise MagicUsageError(f"the prompt goes below the line, in a cell that begins with {magic}")
    if not body.strip():
        raise MagicUsageError(f"{magic}: the prompt is empty; write it below the line")
    return fill(body.removesuffix("\n"), values_text(args.variables, place.names))


def _question(
    args: AskArgs,
    prompt: str,
    images: tuple[str, ...],
    form: JsonForm | None,
    talk: Conversation | None,
    place: CellContext,
    session: Session,
) -> CellQuestion:
    begun = talk is not None and talk.turns > 0
    if talk is not None:
        talk.check_system(args.system)
    system = args.system if args.system is not None else place.system
    common: dict[str, Any] = {
        "model": args.model or (talk.model if talk is not None else "") or place.model or session.settings.model,
        "prompt": prompt,
        "system": (talk.system if talk is not None and begun else system) or None,
        "images": images,
        "temperature": args.temperature,
        "max_tokens": args.max_tokens,
        "form": form,
        "stream": args.stream,
    }
    if args.api == "respond":
        store = args.store if args.store is not None else talk is not None
        previous = talk.last_id if talk is not None else None
        return RespondQuestion(**common, previous=previous, store=store, effort=args.effort)
    earlier = tuple(talk.messages) if talk is not None else ()
    return ChatQuestion(**common, earlier=earlier, stop=args.stop, cache=args.cache)


def _record(session: Session, question: CellQuestion, outcome: Answered) -> None:
    if outcome.cached:
        return
    if outcome.answer is not None:
        session.record(outcome.answer, model=question.model)
    elif isinstance(outcome.problem, ContentPolicyError):
        session.record_safety([Safety(findings(outcome.problem.safety, "prompt"), blocked=True)])


def _read(outcome: Answered, form: JsonForm | None) -> tuple[Any, InvalidResponseError | None]:
    """The object that JSON was asked for, or what is wrong with the answer."""
    answer = outcome.answer
    if form is None or answer is None or outcome.problem is not None:
        return None, None
    try:
        return form.read(str(answer)), None
    except ValueError as problem:
        cut = " It was cut at the length limit: raise --max-tokens." if answer.finish_reason == "length" else ""
        said = f"The answer is not a {form.name}: {str(problem).rstrip('.')}.{cut} It is kept in {LAST_ANSWER}."
        return None, InvalidResponseError(said, request_id=answer.request_id)


def _keep_names(args: AskArgs, place: CellContext, outcome: Answered, found: Any) -> None:
    """``_sky`` is the answer however it ended; so is the name of ``-o``, unless an object was asked for."""
    answer: Answer | None = outcome.answer
    if answer is None:
        return
    place.names[LAST_ANSWER] = answer
    wants_object = args.json or args.schema is not None
    if args.output and (found is not None or not wants_object or outcome.problem is not None):
        place.names[args.output] = found if found is not None else answer


def _notes(
    args: AskArgs, outcome: Answered, talk: Conversation | None, session: Session, mistake: InvalidResponseError | None
) -> tuple[str, ...]:
    replaying = session.recording is not None
    said = notes(outcome, replaying=replaying, verdict=args.safety, schema=args.schema is not None)
    if talk is not None and outcome.answer is not None and (mistake is not None or not talk.can_keep(outcome)):
        said += (f"The conversation {talk.name} goes on without this turn.",)
    return said


def _propose(text: str, place: CellContext) -> tuple[str, ...]:
    """Put the answer's Python into the next cell, where it waits for its reader."""
    code = plain(python_code(text)).strip("\n")
    if not code:
        return ("There is no Python code in this answer; the next cell stays as it is.",)
    place.set_next_input(code)
    return ("The code is in the next cell; read it before you run it.",)
