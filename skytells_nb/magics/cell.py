"""Run one cell with a prompt: build the question, show the answer, and assign the notebook's variables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skytells_nb import session as sessions
from skytells_nb.errors import ContentPolicyError, Interrupted, InvalidResponseError
from skytells_nb.magics.ask import AskOutcome, ask_with_cache
from skytells_nb.magics.chat_arguments import CellArguments, MagicUsageError
from skytells_nb.magics.conversations import Conversation, get_or_create, store_turn
from skytells_nb.magics.formats import python_code
from skytells_nb.magics.notes import add_advice, metadata, notes
from skytells_nb.magics.output import CellOutput
from skytells_nb.magics.question import Answer, CellQuestion, ChatQuestion, RespondQuestion
from skytells_nb.magics.structured_output import JsonFormat, get_json_format
from skytells_nb.magics.variables import fill_placeholders, image_url, variables_as_text
from skytells_nb.types.safety import Safety, findings
from skytells_nb.widgets.safe_text import plain

if TYPE_CHECKING:
    from skytells_nb.session import Session
    from skytells_nb.widgets.display import Mode

LAST_ANSWER_NAME = "_sky"


@dataclass(frozen=True, slots=True)
class CellContext:
    """The notebook around a cell: its variables, display mode and defaults, and a function to fill the next cell."""

    variables: dict[str, Any]
    mode: Mode
    set_next_input: Callable[[str], object]
    model: str = ""
    system: str = ""
    remote_images: bool = False


def run_cell(args: CellArguments, body: str | None, context: CellContext) -> None:
    """Send the cell's question, and show and store the answer.

    Raises MagicUsageError before anything is sent; afterwards raises what went wrong, once the part of the answer that
    arrived is stored.
    """
    prompt = _prompt(args, body, context)
    images = tuple(image_url(reference, context.variables) for reference in args.images)
    json_format = get_json_format(args.schema, context.variables) if args.schema or args.json else None
    session = sessions.current()
    conversation = get_or_create(session, args.conversation, args.api) if args.conversation else None
    question = _question(args, prompt, images, json_format, conversation, context, session)
    with CellOutput(args.display_format, context.mode, remote_images=context.remote_images) as output:
        outcome = ask_with_cache(session, question, output)
        _record(session, question, outcome)
        parsed, parse_error = _parse_json(outcome, json_format)
        _assign_variables(args, context, outcome, parsed)
        cell_notes = _notes(args, outcome, conversation, parse_error)
        if conversation is not None and parse_error is None:
            store_turn(session, conversation, question, outcome)
        if args.code and outcome.error is None and parse_error is None:
            cell_notes += _set_next_cell(str(outcome.answer), context)
        output_metadata = metadata(outcome.answer, question.model) if outcome.answer is not None else None
        output.close(notes=cell_notes, metadata=output_metadata)
    if isinstance(outcome.error, KeyboardInterrupt):
        name = args.output or LAST_ANSWER_NAME
        raise Interrupted(f"{len(str(outcome.answer)):,} characters had arrived; they are stored in {name}") from None
    error = outcome.error or parse_error
    if error is not None:
        raise add_advice(error)


def _prompt(args: CellArguments, body: str | None, context: CellContext) -> str:
    magic = f"%%skytells_{args.api}"
    if body is None:
        raise MagicUsageError(
            f"the prompt goes below the line, in a cell that begins with {magic}, or after {magic[1:]}"
        )
    if not body.strip():
        raise MagicUsageError(f"{magic}: the prompt is empty; write it below the line")
    prompt = body.removesuffix("\n")
    if not args.variables:
        return prompt
    return fill_placeholders(prompt, variables_as_text(args.variables, context.variables))


def _question(
    args: CellArguments,
    prompt: str,
    images: tuple[str, ...],
    json_format: JsonFormat | None,
    conversation: Conversation | None,
    context: CellContext,
    session: Session,
) -> CellQuestion:
    continues = conversation is not None and conversation.turns > 0
    if conversation is not None:
        conversation.check_system(args.system)
    system = args.system if args.system is not None else context.system
    conversation_model = conversation.model if conversation is not None else ""
    common: dict[str, Any] = {
        "model": args.model or conversation_model or context.model or session.settings.model,
        "prompt": prompt,
        "system": (conversation.system if conversation is not None and continues else system) or None,
        "images": images,
        "temperature": args.temperature,
        "max_tokens": args.max_tokens,
        "json_format": json_format,
        "stream": args.stream,
        "cache": args.cache,
    }
    if args.api == "respond":
        store = args.store if args.store is not None else conversation is not None
        previous = conversation.last_id if conversation is not None else None
        return RespondQuestion(**common, previous=previous, store=store, effort=args.effort)
    history = tuple(conversation.messages) if conversation is not None else ()
    return ChatQuestion(**common, history=history, stop=args.stop)


def _record(session: Session, question: CellQuestion, outcome: AskOutcome) -> None:
    if outcome.cached:
        return
    if outcome.answer is not None:
        session.record(outcome.answer, model=question.model)
    elif isinstance(outcome.error, ContentPolicyError):
        session.record_safety([Safety(findings(outcome.error.safety, "prompt"), blocked=True)])


def _parse_json(outcome: AskOutcome, json_format: JsonFormat | None) -> tuple[Any, InvalidResponseError | None]:
    """Return the object that was requested as JSON, or an error that says what is wrong with the answer."""
    answer = outcome.answer
    if json_format is None or answer is None or outcome.error is not None:
        return None, None
    try:
        return json_format.parse(str(answer)), None
    except ValueError as error:
        reason = str(error).rstrip(".")
        cut = " It was cut at the length limit: raise --max-tokens." if answer.finish_reason == "length" else ""
        message = f"The answer is not a {json_format.name}: {reason}.{cut} It is stored in {LAST_ANSWER_NAME}."
        return None, InvalidResponseError(message, request_id=answer.request_id)


def _assign_variables(args: CellArguments, context: CellContext, outcome: AskOutcome, parsed: Any) -> None:
    """Assign the answer to ``_sky`` however it ended, and to the name of ``-o`` unless an object was requested."""
    answer: Answer | None = outcome.answer
    if answer is None:
        return
    context.variables[LAST_ANSWER_NAME] = answer
    wants_object = args.json or args.schema is not None
    if args.output and (parsed is not None or not wants_object or outcome.error is not None):
        context.variables[args.output] = parsed if parsed is not None else answer


def _notes(
    args: CellArguments,
    outcome: AskOutcome,
    conversation: Conversation | None,
    parse_error: InvalidResponseError | None,
) -> tuple[str, ...]:
    cell_notes = notes(outcome, always_safety=args.safety, schema=args.schema is not None)
    incomplete = parse_error is not None or (conversation is not None and not conversation.is_complete(outcome))
    if conversation is not None and outcome.answer is not None and incomplete:
        cell_notes += (f"The conversation {conversation.name} continues without this turn.",)
    return cell_notes


def _set_next_cell(text: str, context: CellContext) -> tuple[str, ...]:
    """Put the answer's Python code into the next cell without running it."""
    code = plain(python_code(text)).strip("\n")
    if not code:
        return ("The answer has no Python code; the next cell is unchanged.",)
    context.set_next_input(code)
    return ("The code is in the next cell; read it before you run it.",)
