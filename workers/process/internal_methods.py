"""Methods of a worker for the runtimes of other workers: events, actions, models and the like.

A method `act` here is called as `$act`. Each one runs an author's function with as many of its
arguments as it takes. Errors go to the caller, and to this service's log, because most callers
continue without the result.
"""

import asyncio
import contextlib
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import msgspec

from garrison.ipc.declared_errors import DeclaredError, ModelError, RetryLater
from garrison.ipc.error_text import error_text
from garrison.ipc.errors import PermanentFailure
from garrison.ipc.mail import DEAD_LETTER
from garrison.ipc.messages import Assignment
from garrison.workers.agents.components import (
    Action,
    Evaluator,
    ProviderResult,
    Refusal,
    State,
)
from garrison.workers.agents.content import (
    ActionOutput,
    ActionResult,
    Content,
    Memory,
    TargetInfo,
    as_content,
)
from garrison.workers.agents.database.tasks import Task
from garrison.workers.agents.events import Events
from garrison.workers.agents.functions import (
    await_with_prefix,
    call_with_prefix,
    convert_argument,
)
from garrison.workers.agents.model_trace import Counted, counting
from garrison.workers.agents.models import TEXT_TYPES, Model, ModelType, params_class
from garrison.workers.agents.registry import ComponentRegistry
from garrison.workers.agents.task_workers import TaskEnd, TaskRun
from garrison.workers.agents.tools import Generated, has_tools
from garrison.workers.runtime import Runtime

from .methods import Method, describe
from .tracebacks import author_location, formatted, one_line

log = logging.getLogger(__name__)

NoteModel = Callable[[str, str, Mapping[str, int]], None]  # model type, provider, tokens
CONTENT_FIELDS = frozenset(Content.__struct_fields__)
WIRE_NAMES = {
    "should_evaluate": "$judges",  # fixed by earlier releases
    "pass_dead_letter": DEAD_LETTER,  # its own name is an author's, which is in no manifest
}


class InternalMethods:
    """The internal methods of one worker.

    Args:
        runtime: Passed to authors' functions.
        components: The components of this worker.
        events: The event handlers of this worker.
    """

    def __init__(self, runtime: object, components: ComponentRegistry, events: Events) -> None:
        self._runtime, self._components, self._events = runtime, components, events
        self.note_model: NoteModel | None = None  # where traces are on

    async def event(self, event: str, payload: Any) -> None:
        """Run the handlers of an event."""
        with logged(f"a handler of event {event}"):
            await self._events.handle(event, payload)

    async def applies(self, name: str, memory: Memory) -> bool:
        """Return whether an action applies to a message."""
        action = _lookup(self._components.actions, name, "action")
        with logged(f"validate of action {name}"):
            return bool(await await_with_prefix(action.validate, self._runtime, memory))

    async def act(
        self,
        name: str,
        memory: Memory,
        state: State,
        responses: list[Memory],
        options: dict[str, Any] | None = None,
    ) -> AsyncIterator[ActionOutput]:
        """Run an action; yield its outputs."""
        action = _lookup(self._components.actions, name, "action")
        with logged(f"action {name}"):
            given = action_options(action, options)
            args = (self._runtime, memory, state, responses, *given)
            result = call_with_prefix(action.handler, *args)
            if inspect.isawaitable(result):
                result = await result
            if hasattr(result, "__aiter__"):
                async for one in result:
                    for output in action_outputs(one, name):
                        yield output
                return
            for output in action_outputs(result, name):
                yield output

    async def provide(self, name: str, memory: Memory, state: State) -> ProviderResult:
        """Return a provider's context for a message."""
        provider = _lookup(self._components.providers, name, "provider")
        with logged(f"provider {name}"):
            result = await await_with_prefix(provider.get, self._runtime, memory, state)
            return provider_result(result)

    async def should_evaluate(self, name: str, memory: Memory, state: State) -> bool:
        """Return whether an evaluator wants to run."""
        evaluator = self._evaluator(name)
        with logged(f"validate of evaluator {name}"):
            return bool(await await_with_prefix(evaluator.validate, self._runtime, memory, state))

    async def evaluate(
        self, name: str, memory: Memory, state: State, responses: list[Memory]
    ) -> None:
        """Run an evaluator."""
        evaluator = self._evaluator(name)
        with logged(f"evaluator {name}"):
            await await_with_prefix(evaluator.handler, self._runtime, memory, state, responses)

    async def model(
        self, model_type: str, provider: str, params: Any, counted: bool = False
    ) -> Any:
        """Run a model; return its whole output, as `Counted` where that is wanted."""
        with counting() as taken:
            output = await self._output(model_type, provider, params)
        if self.note_model is not None:
            self.note_model(model_type, provider, taken.tokens)
        return Counted(output, taken.tokens, taken.cost) if counted else output

    async def _output(self, model_type: str, provider: str, params: Any) -> Any:
        model = self._model(model_type, provider)
        with logged(f"model {model_type}"):
            if model_type in TEXT_TYPES and has_tools(params):
                return await self._with_tools(model, model_type, params)
            if model_type == ModelType.TEXT_EMBEDDING and (texts := texts_of(params)):
                return await self._vectors(model, model_type, params, texts)
            output = self._run(model.handler, model_type, params)
            if hasattr(output, "__aiter__"):
                return "".join([piece async for piece in output])
            output = await output if inspect.isawaitable(output) else output
            if model_type in TEXT_TYPES and not isinstance(output, str):
                raise TypeError(f"a model {model_type} must return a text, not {output!r:.80}")
            return output

    async def _with_tools(self, model: Model, model_type: str, params: Any) -> Generated:
        output = self._run(model.tools or no_tools, model_type, params)
        output = await output if inspect.isawaitable(output) else output
        if not isinstance(output, Generated):
            raise TypeError(f"with tools a model must return Generated, not {output!r:.80}")
        return output

    async def _vectors(
        self, model: Model, model_type: str, params: Any, texts: list[str]
    ) -> list[Any]:
        """Return the vectors of many texts; a model that has no method for them embeds each."""
        if model.batch is not None:
            found: list[Any] = await self._run(model.batch, model_type, params)
            return found
        vectors = []
        for text in texts:
            one = {**params, "text": text, "texts": []}
            output = self._run(model.handler, model_type, one)
            vectors.append(await output if inspect.isawaitable(output) else output)
        return vectors

    async def model_stream(self, model_type: str, provider: str, params: Any) -> AsyncIterator[Any]:
        """Run a model; yield its output in pieces."""
        model = self._model(model_type, provider)
        with logged(f"model {model_type}"):
            handler = model.stream or model.handler
            if model_type in TEXT_TYPES and has_tools(params):
                handler = model.tools_stream or model.tools or no_tools
            output = self._run(handler, model_type, params)
            if hasattr(output, "__aiter__"):
                pieces = aiter(output)
                try:
                    async for piece in pieces:
                        yield piece
                finally:  # the caller may have left it: its request ends now, not when collected
                    if hasattr(pieces, "aclose"):
                        await pieces.aclose()
            else:
                yield await output if inspect.isawaitable(output) else output

    async def send(self, source: str, target: TargetInfo, content: Content) -> Any:
        """Send a message with the send handler for a source."""
        handler = _lookup(self._components.send_handlers, source, "send handler for")
        with logged(f"send handler for {source}"):
            return await await_with_prefix(handler, self._runtime, target, content)

    async def gate(self, memory: Memory) -> Refusal | None:
        """Call the gate with a message; None lets it pass."""
        gate = self._components.gate
        if gate is None:
            raise LookupError("the gate is no longer registered")
        with logged("the gate"):
            return refusal(await await_with_prefix(gate, self._runtime, memory))

    async def run_task(self, name: str, task: Task) -> TaskRun:
        """Run a task with the worker of its name; return how it ended, unless it failed."""
        worker = _lookup(self._components.task_workers, name, "task worker")
        runtime = self._runtime
        with logged(f"task {task.id}, {name},"):
            memory = Memory(content=Content())
            if not await await_with_prefix(worker.validate, runtime, memory, State()):
                return TaskRun(TaskEnd.NOT_NOW)
            try:
                result = await await_with_prefix(worker.execute, runtime, task.metadata, task)
            except RetryLater as later:
                result = later
            except PermanentFailure as failure:
                return TaskRun(TaskEnd.PAUSE, reason=error_text(failure))
        if isinstance(result, RetryLater):
            return TaskRun(TaskEnd.LATER, result.seconds, result.reason)
        return TaskRun(TaskEnd.DONE)

    def _evaluator(self, name: str) -> Evaluator:
        evaluator: Evaluator = _lookup(self._components.evaluators, name, "evaluator")
        return evaluator

    def _model(self, model_type: str, provider: str) -> Model:
        model = self._components.models.get((model_type, provider))
        if model is None:
            raise LookupError(f"the model {model_type} of {provider} is no longer registered")
        return model

    def _run(self, handler: Callable[..., Any], model_type: str, params: Any) -> Any:
        try:
            converted = convert_argument(handler, params, 1, params_class(model_type))
        except msgspec.ValidationError as error:  # the caller's mistake, no failure of the model
            raise ModelError("invalid", text=str(error)) from error
        return call_with_prefix(handler, self._runtime, converted)


def methods_of(cls: type) -> dict[str, Method]:
    """Return the methods of a class by their names on the wire."""
    return {WIRE_NAMES.get(name, f"${name}"): method for name, method in describe(cls)[1].items()}


METHODS = methods_of(InternalMethods)


def bound(target: object, methods: Mapping[str, Method] = METHODS) -> dict[str, Callable[..., Any]]:
    """Return an object's functions behind such methods."""
    return {wire_name: getattr(target, method.name) for wire_name, method in methods.items()}


def fault_methods(assignment: Assignment, runtime: Runtime) -> object | None:
    """Return the methods of `garrison chaos`, where the config permits them."""
    if not assignment.chaos:
        return None
    from .faults import FaultInjection  # other workers do not even import it

    return FaultInjection(runtime, runtime.client)


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Log an exception of an author's function, and raise it."""
    try:
        yield
    except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if type(error) is GeneratorExit and not author_location(error):
            raise  # the stream is closed; no function raised it
        # A check of garrison's own explains itself; the frames would be garrison's. So does an
        # error that the author declares.
        kind = type(error)  # an author's exception may raise where its `__class__` is read
        checked = issubclass(kind, TypeError | msgspec.ValidationError)
        own = issubclass(kind, DeclaredError) or (checked and not author_location(error))
        log.warning("%s failed\n%s", what, one_line(error) if own else formatted(error).rstrip())
        raise


def provider_result(value: Any) -> ProviderResult:
    """Convert the return value of a provider.

    Raises:
        TypeError: It is not a text, a `ProviderResult`, a mapping of its fields or None.
        msgspec.ValidationError: A field of the mapping has the wrong type.
    """
    if value is None or isinstance(value, str):
        return ProviderResult(value or "")
    if isinstance(value, ProviderResult):
        return value
    if isinstance(value, Mapping):
        if value and not value.keys() & set(ProviderResult.__struct_fields__):
            keys = ", ".join(map(str, value))
            raise TypeError(
                f"a provider's mapping has text, values or data, not {keys:.80}: "
                'write {"values": …}'
            )
        return msgspec.convert(dict(value), ProviderResult)
    raise TypeError(
        f"a provider returns a text, a ProviderResult or None, not {type(value).__name__}"
    )


def refusal(value: Any) -> Refusal | None:
    """Convert the return value of a gate.

    Raises:
        TypeError: It is neither None, a text nor a `Refusal`. An empty text is refused as well: it
            does not show whether the message may pass.
    """
    if value is None or isinstance(value, Refusal):
        return value
    if isinstance(value, str) and value.strip():
        return Refusal(value)
    what = "an empty text" if isinstance(value, str) else type(value).__name__
    raise TypeError(
        f"a gate returns None to let a message pass, else a text or a Refusal, not {what}; "
        "Refusal() refuses in silence"
    )


def action_options(action: Action, options: dict[str, Any] | None) -> tuple[Any, ...]:
    """Return the argument `options` of an action's handler; none without `parameters`.

    Raises:
        msgspec.ValidationError: What a model filled in does not fit the action's Struct.
    """
    wanted = action.parameters
    if wanted is None:
        return ()
    if options is None or isinstance(wanted, Mapping):
        return (options,)
    return (msgspec.convert(options, wanted),)


def no_tools(runtime: object, params: Any) -> Any:
    """Refuse a request that offers tools."""
    raise ModelError("invalid", text="this provider takes no tools")


def texts_of(params: Any) -> list[str]:
    """Return the texts of a request to embed many."""
    found = params.get("texts") if isinstance(params, Mapping) else None
    return list(found) if isinstance(found, list) else []


def action_outputs(value: Any, action: str) -> Iterator[ActionOutput]:
    """Convert a value that an action returned or yielded.

    Raises:
        TypeError: It is neither content nor a result.
    """
    match value:
        case None | True:
            return
        case False:
            failure = ActionResult(success=False, error="it returned False", action=action)
            yield ActionOutput(result=failure)
        case ActionResult():
            yield ActionOutput(result=msgspec.structs.replace(value, action=action))
        case list() | tuple():
            for one in value:
                yield from action_outputs(one, action)
        case Mapping() if "success" in value:
            yield from action_outputs(msgspec.convert(dict(value), ActionResult), action)
        case Memory():
            yield ActionOutput(content=value.content)
        case Mapping() if value and not CONTENT_FIELDS & set(value):
            keys = ", ".join(map(str, value))
            raise TypeError(
                f"it returned a mapping of {keys:.200}, which is neither a Content (text, "
                "actions, attachments …) nor an ActionResult (success …)"
            )
        case _:
            yield ActionOutput(content=as_content(value))


def _lookup(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise LookupError(f"the {what} {name} is no longer registered")
    return known[name]
