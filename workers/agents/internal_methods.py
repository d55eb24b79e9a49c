"""What other workers' runtimes call of this one, unseen by authors: events, actions, models …

A method `act` here is called as `$act`. Each runs its author's function with as many of its
arguments as that takes; what it raises is the caller's, and is written to this service's log, for
most callers go on without it.
"""

import contextlib
import functools
import inspect
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from garrison.workers.process.methods import Method, describe
from garrison.workers.process.tracebacks import author_location, formatted, one_line

from .components import Evaluator, ProviderResult, State
from .content import ActionResult, Content, Memory, TargetInfo, as_content
from .models import EmbedParams, GenerateTextParams, Model, ModelType

if TYPE_CHECKING:
    from garrison.workers.runtime import Runtime

log = logging.getLogger(__name__)

TEXTS = frozenset(
    {
        ModelType.TEXT_SMALL,
        ModelType.TEXT_LARGE,
        ModelType.TEXT_COMPLETION,
        ModelType.TEXT_REASONING_SMALL,
        ModelType.TEXT_REASONING_LARGE,
    }
)


SAID = frozenset(Content.__struct_fields__)


class ActionOutput(msgspec.Struct, omit_defaults=True):
    """One thing that an action made: something to be said, or its result."""

    content: Content | None = None
    result: ActionResult | None = None


class InternalMethods:
    """The calls of one worker that are garrison's own.

    Args:
        runtime: The worker's.
    """

    def __init__(self, runtime: "Runtime") -> None:
        self._runtime = runtime

    async def event(self, event: str, payload: Any) -> None:
        """Run this worker's handlers of an event."""
        with logged(f"a handler of event {event}"):
            await self._runtime.handle_event(event, payload)

    async def applies(self, name: str, memory: Memory) -> bool:
        """Ask an action whether it applies to a message."""
        action = _found(self._runtime.parts.actions, name, "action")
        with logged(f"validate of action {name}"):
            return bool(await await_with_prefix(action.validate, self._runtime, memory))

    async def act(
        self, name: str, memory: Memory, state: State, responses: list[Memory]
    ) -> AsyncIterator[ActionOutput]:
        """Run an action; yield what it makes."""
        action = _found(self._runtime.parts.actions, name, "action")
        with logged(f"action {name}"):
            result = call_with_prefix(action.handler, self._runtime, memory, state, responses)
            if inspect.isawaitable(result):
                result = await result
            if hasattr(result, "__aiter__"):
                async for one in result:
                    for made in made_of(one, name):
                        yield made
                return
            for made in made_of(result, name):
                yield made

    async def provide(self, name: str, memory: Memory, state: State) -> ProviderResult:
        """Ask a provider for what it knows."""
        provider = _found(self._runtime.parts.providers, name, "provider")
        with logged(f"provider {name}"):
            return told_by(await await_with_prefix(provider.get, self._runtime, memory, state))

    async def judges(self, name: str, memory: Memory, state: State) -> bool:
        """Ask an evaluator whether it is to run."""
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

    async def model(self, model_type: str, provider: str, params: Any) -> Any:
        """Ask a model, and return all that it says."""
        model = self._model(model_type, provider)
        with logged(f"model {model_type}"):
            asked = fitted(model.handler, params, 1, model_type)
            answer = call_with_prefix(model.handler, self._runtime, asked)
            if hasattr(answer, "__aiter__"):
                return "".join([piece async for piece in answer])
            answer = await answer if inspect.isawaitable(answer) else answer
            if model_type in TEXTS and not isinstance(answer, str):
                raise TypeError(f"a model {model_type} is to return a text, not {answer!r:.80}")
            return answer

    async def model_stream(self, model_type: str, provider: str, params: Any) -> AsyncIterator[Any]:
        """Ask a model, and yield what it says as it comes."""
        model = self._model(model_type, provider)
        handler = model.stream or model.handler
        with logged(f"model {model_type}"):
            answer = call_with_prefix(
                handler, self._runtime, fitted(handler, params, 1, model_type)
            )
            if hasattr(answer, "__aiter__"):
                async for piece in answer:
                    yield piece
            else:
                yield await answer if inspect.isawaitable(answer) else answer

    async def send(self, source: str, target: TargetInfo, content: Content) -> Any:
        """Have a send handler of this worker's send a message."""
        handler = _found(self._runtime.parts.send_handlers, source, "send handler for")
        with logged(f"send handler for {source}"):
            return await await_with_prefix(handler, self._runtime, target, content)

    def _evaluator(self, name: str) -> Evaluator:
        evaluator: Evaluator = _found(self._runtime.parts.evaluators, name, "evaluator")
        return evaluator

    def _model(self, model_type: str, provider: str) -> Model:
        model = self._runtime.parts.models.get((model_type, provider))
        if model is None:
            raise LookupError(f"there is no model {model_type} of {provider} here any more")
        return model


def methods_of(cls: type) -> dict[str, Method]:
    """Return a class's methods as they are called, with `$`."""
    return {f"${name}": method for name, method in describe(cls)[1].items()}


METHODS = methods_of(InternalMethods)


def bound(hidden: object, methods: Iterable[str] = METHODS) -> dict[str, Callable[..., Any]]:
    """Return the functions behind such methods."""
    return {name: getattr(hidden, name.removeprefix("$")) for name in methods}


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Write what an author's function raises to the log of its own service, and raise it."""
    try:
        yield
    except Exception as error:
        told = isinstance(error, TypeError | msgspec.ValidationError) and not author_location(error)
        text = (
            one_line(error) if told else formatted(error).rstrip()
        )  # lines of ours explain nothing
        log.warning("%s failed\n%s", what, text)
        raise


def told_by(value: Any) -> ProviderResult:
    """Return what a provider's value means.

    Raises:
        TypeError: It means nothing.
        msgspec.ValidationError: It is a mapping that does not fit.
    """
    if value is None or isinstance(value, str):
        return ProviderResult(value or "")
    if isinstance(value, ProviderResult):
        return value
    if isinstance(value, Mapping):
        return msgspec.convert(dict(value), ProviderResult)
    raise TypeError(
        f"a provider returns a text, a ProviderResult or None, not {type(value).__name__}"
    )


def made_of(value: Any, action: str) -> Iterator[ActionOutput]:
    """Yield what a handler's value means.

    Raises:
        TypeError: It means nothing.
    """
    match value:
        case None | True:
            return
        case False:
            yield ActionOutput(
                result=ActionResult(success=False, error="it said False", action=action)
            )
        case ActionResult():
            yield ActionOutput(result=msgspec.structs.replace(value, action=action))
        case list() | tuple():
            for one in value:
                yield from made_of(one, action)
        case Mapping() if "success" in value:
            yield from made_of(msgspec.convert(dict(value), ActionResult), action)
        case Memory():
            yield ActionOutput(content=value.content)
        case Mapping() if value and not SAID & set(value):
            keys = ", ".join(map(str, value))
            raise TypeError(
                f"it made a mapping of {keys:.200}, which is neither a Content (it has text, "
                "actions, attachments …) nor an ActionResult (it has success)"
            )
        case _:
            yield ActionOutput(content=as_content(value))


async def await_with_prefix(function: Callable[..., Any], *args: Any) -> Any:
    """Run an author's function, `async def` or plain, with as many arguments as it takes."""
    result = call_with_prefix(function, *args)
    return await result if inspect.isawaitable(result) else result


def call_with_prefix(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with the first of these arguments, as many as it takes."""
    taken = parameters(function)
    return function(*(args if taken is None else args[: len(taken)]))


def fitted(function: Callable[..., Any], value: Any, place: int = 0, model_type: str = "") -> Any:
    """Return a value converted to the annotation of a function's parameter, if it has one.

    Args:
        function: The function.
        value: What came from elsewhere.
        place: The parameter's.
        model_type: Where it has no annotation, what this type of model is usually asked with.
    """
    taken = parameters(function) or []
    annotation = taken[place].annotation if place < len(taken) else inspect.Parameter.empty
    if isinstance(annotation, str):
        annotation = _evaluated(annotation, function)
    if annotation is inspect.Parameter.empty:
        if model_type in TEXTS:
            annotation = GenerateTextParams
        elif model_type == ModelType.TEXT_EMBEDDING:
            annotation = EmbedParams
        else:
            return value
    return value if annotation is Any else msgspec.convert(value, annotation)


def parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """Return the positional parameters of a function; None where it takes any number, or says
    nothing of them."""
    try:
        return _parameters(function)  # to read a signature takes longer than many a function
    except TypeError:  # it cannot be hashed
        return _parameters.__wrapped__(function)


@functools.lru_cache(maxsize=256)
def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(one.kind is one.VAR_POSITIONAL for one in found):
        return None
    return [one for one in found if one.kind in {one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD}]


def _evaluated(annotation: str, function: Callable[..., Any]) -> Any:
    """Return what an annotation means; one that type checkers alone know is as none at all."""
    try:
        return eval(annotation, getattr(inspect.unwrap(function), "__globals__", {}))
    except Exception:  # noqa: BLE001 (whatever stands there)
        return inspect.Parameter.empty


def _found(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise LookupError(f"there is no {what} {name} here any more")
    return known[name]
