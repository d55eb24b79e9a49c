"""`Runtime`: the client plus what only a service has: settings, background work, events, and what
the services of an agent do together: models, actions, messages."""

import asyncio
import contextvars
import inspect
import logging
import math
import os
import tempfile
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from garrison.ipc.client import DEADLINE, Client
from garrison.ipc.directory import takes_calls
from garrison.ipc.errors import CallError, Overloaded, ServiceLost, ServiceUnavailable
from garrison.ipc.mail import MESSAGE, Mail
from garrison.ipc.messages import Entry, Subscribe, Token
from garrison.ipc.messages import State as Life
from garrison.ipc.proxy import ServiceProxy, Stream

from .components import Action, Evaluator, Provider, ProviderResult, State
from .content import (
    Content,
    Memory,
    Processed,
    TargetInfo,
    as_content,
    as_memories,
    as_memory,
)
from .database import DatabaseAdapter
from .elsewhere import RemoteAction, RemoteEvaluator, RemoteProvider
from .hidden import Hidden, finished, fitted
from .models import Model, Offer, asked, next_of, why_none
from .parts import Parts
from .service import Service

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Service)
T = TypeVar("T")
ANSWER_S = 150.0  # for a message to be answered: more than the agent itself allows
PROVIDER_S = 5.0  # for each provider of context
LOSSES = 3  # a model's provider that dies so often over one question is not asked again
Handler = Callable[..., Awaitable[Any] | Any]


class BackgroundFailure(Exception):
    """A service's background work raised; its cause is what it raised."""


class Runtime(Client):
    """What a service is given: other services, its settings, events, background work."""

    def __init__(
        self, name: str, token: Token, secrets: dict[str, str] | None = None, generation: int = 1
    ) -> None:
        super().__init__(token)
        self.name = name
        self.generation = generation
        self.config: Any = {}
        self.facts: dict[str, float] = {}
        self._data = Path(tempfile.gettempdir()) / f"garrison-{os.getpid()}" / name
        self.logger = logging.getLogger(name)
        self.failed: asyncio.Future[None] = self.loop.create_future()
        self.finished = asyncio.Event()  # the service asked to end, cleanly
        self._ready: asyncio.Future[Any] = self.loop.create_future()
        self._secrets = secrets or {}
        self.parts = Parts(self._parts_changed)
        self.hidden = Hidden(self)
        self._events: dict[str, list[Handler]] = {}
        self._background: set[asyncio.Task[None]] = set()

    # --- settings ---------------------------------------------------------------------------

    def get_setting(self, key: str, default: Any = None) -> Any:
        """Return a setting of this service: a secret, else its environment's, else the default.

        An empty string, 0 and False are settings like any other.
        """
        if key in self._secrets:
            return self._secrets[key]
        return os.environ.get(key, default)

    # --- of itself --------------------------------------------------------------------------

    @property
    def message(self) -> Mail | None:
        """Return the posted message that the method is being run for; None where it was called."""
        return MESSAGE.get()

    @property
    def data_folder(self) -> Path:
        """Return a folder of this service's own, which outlasts its incarnations."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._data

    def report(self, **facts: float) -> None:
        """Have `garrison status` show these numbers: at most 16, told with the next beat."""
        self.facts = dict(list(facts.items())[:16])

    # --- a start that blocks ----------------------------------------------------------------

    def ready(self, service: Any) -> None:
        """Say from within `start` that the service runs, where `start` blocks as long as its
        connection lives. When `start` then returns or raises, the service has crashed."""
        if not self._ready.done():
            self._ready.set_result(service)

    async def begin(self, cls: type[S]) -> S:
        """Run a service's `start`; one that blocks says `ready` and goes on in the background."""
        starting = self.loop.create_task(_started(cls, self), name="start")
        waiting = {starting, self._ready, self.failed}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            starting.cancel()
            raise
        if starting.done():
            service = starting.result()
        elif self._ready.done():
            service = self._ready.result()
            self.spawn(_outlive(starting), "start")
        else:
            starting.cancel()
            self.failed.result()
        if not isinstance(service, cls):
            raise TypeError(
                f"{cls.__name__}.start returned {service!r}; it must return the service"
            )
        service.__dict__.setdefault("_runtime", self)
        service.__dict__.setdefault("config", self.config)
        return service

    # --- background work --------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, Any], name: str | None = None) -> asyncio.Task[None]:
        """Run work as long as the service lives; an exception in it is a crash of the service.

        `SystemExit` with no code, or 0, is a clean end of the service.
        """
        if not inspect.iscoroutine(work):
            raise TypeError(f"spawn takes a coroutine, as a call of an async def is; not {work!r}")
        if threading.get_ident() != self.thread:
            work.close()
            raise RuntimeError("spawn was called in a thread: a plain def method runs in one")
        title = name or work.__qualname__
        context = contextvars.copy_context()
        context.run(DEADLINE.set, math.inf)  # it outlives the call that may have begun it
        task = self.loop.create_task(self._watched(work, title), name=title, context=context)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _watched(self, work: Coroutine[Any, Any, Any], title: str) -> None:
        try:
            await work
        except asyncio.CancelledError:
            raise
        except SystemExit as end:
            if end.code in {None, 0}:
                self.finished.set()
            else:
                self._fail(title, end)
        except BaseException as error:  # noqa: BLE001 (never a silent corpse)
            self._fail(title, error)

    def _fail(self, title: str, error: BaseException) -> None:
        if self.failed.done():
            log.error("background.failed work=%s", title, exc_info=error)
            return
        failure = BackgroundFailure(f"background work {title} ended")
        failure.__cause__ = error
        self.failed.set_exception(failure)

    async def cancel_background(self) -> None:
        """End all background work."""
        tasks = [task for task in self._background if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=2.0)

    # --- events -----------------------------------------------------------------------------

    def register_event(self, event: str, handler: Handler) -> None:
        """Call a function with every payload of an event; `async def` or plain."""
        self._events.setdefault(event, []).append(handler)
        self.subscribe()

    def subscribe(self) -> None:
        """Tell the supervisor which events this service listens to."""
        if self._events:
            self.tell(Subscribe(tuple(self._events)))

    async def emit_event(self, event: str, payload: Any = None) -> None:
        """Tell every subscriber of an event, in this service and in others.

        Returns when each has handled it or failed; one that fails is logged and harms no other.
        """
        others = [e.name for e in self.directory.listening(event) if e.name != self.name]
        await asyncio.gather(self._own(event, payload), self._emit(others, event, payload))

    async def _own(self, event: str, payload: Any) -> None:
        try:
            await self.handle_event(event, payload)
        except Exception as error:
            log.warning("event.failed event=%s subscriber=%s", event, self.name, exc_info=error)

    async def handle_event(self, event: str, payload: Any) -> None:
        """Run this service's handlers of an event, all of them, side by side.

        Raises:
            Exception: What the first that failed raised, after all have ended.
        """
        handlers = self._events.get(event, [])
        outcomes = await asyncio.gather(
            *(_handled(handler, payload) for handler in handlers), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in errors[1:]:
            log.warning("event.failed event=%s subscriber=%s", event, self.name, exc_info=error)
        if errors:
            raise errors[0]

    # --- what a plugin has besides services -------------------------------------------------

    def register_action(self, action: Action) -> None:
        """Offer an action from this worker."""
        self.parts.add(action)

    def register_provider(self, provider: Provider) -> None:
        """Offer a provider of context from this worker."""
        self.parts.add(provider)

    def register_evaluator(self, evaluator: Evaluator) -> None:
        """Offer an evaluator from this worker."""
        self.parts.add(evaluator)

    def register_model(
        self, model_type: str, handler: Handler, provider: str = "", priority: int = 0
    ) -> None:
        """Offer a model: `handler(runtime, params)`; an asynchronous generator streams."""
        self.parts.add_model(model_type, provider or self.name, Model(handler, priority))

    def register_send_handler(self, source: str, handler: Handler) -> None:
        """Send what is for a source: `handler(runtime, target, content)`."""
        self.parts.add_send_handler(source, handler)

    def _parts_changed(self) -> None:
        """Have others told; a worker does, once it runs."""

    def _known(self) -> Iterable[Entry]:
        """Return the services whose parts are this one's to use."""
        return (entry for entry in self.directory if takes_calls(entry.state, entry.wanted))

    @property
    def actions(self) -> list[RemoteAction]:
        """Return the actions of all plugins whose workers run, or will, in config order."""
        return [RemoteAction(e.name, info) for e in self._known() for info in e.manifest.actions]

    @property
    def providers(self) -> list[RemoteProvider]:
        """Return the providers of context likewise."""
        return [
            RemoteProvider(e.name, info) for e in self._known() for info in e.manifest.providers
        ]

    @property
    def evaluators(self) -> list[RemoteEvaluator]:
        """Return the evaluators likewise."""
        return [
            RemoteEvaluator(e.name, info) for e in self._known() for info in e.manifest.evaluators
        ]

    async def compose_state(
        self,
        memory: Memory,
        include: Iterable[str] = (),
        only_include: bool = False,
        timeout: float = PROVIDER_S,
    ) -> State:
        """Ask the providers what they know of a message.

        Args:
            memory: The message.
            include: Names of providers to ask besides those that are always asked.
            only_include: Ask those alone.
            timeout: Seconds for each; one that is late or fails is left out, and logged.
        """
        named = set(include)
        wanted = [
            provider
            for provider in self.providers
            if provider.name in named or not (only_include or provider.dynamic or provider.private)
        ]
        wanted.sort(key=lambda provider: provider.position)
        told = await asyncio.gather(*(self._told(provider, memory, timeout) for provider in wanted))
        state, texts = State(), list[str]()
        for provider, result in zip(wanted, told, strict=True):
            if result is None:
                continue
            state.values.update(result.values)
            state.data[provider.name] = result.data
            if result.text:
                texts.append(result.text)
        state.text = "\n\n".join(texts)
        return state

    async def _told(
        self, provider: RemoteProvider, memory: Memory, timeout: float
    ) -> ProviderResult | None:
        try:
            return await provider.get(self, memory, State(), timeout=timeout)
        except CallError as error:
            log.warning("provider.failed provider=%s error=%s", provider.name, error)
            return None

    # --- models -----------------------------------------------------------------------------

    async def use_model(
        self,
        model_type: str,
        params: Any = None,
        provider: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Ask a model: the provider of the highest priority that runs, and where that is lost,
        or will not run, the next.

        Args:
            model_type: One of `ModelType`, or a plugin's own.
            params: `GenerateTextParams`, `EmbedParams`, a mapping of their fields, or a text.
            provider: Ask this one alone: a NAME, a service_type or a plugin's NAME.
            timeout: Seconds for one provider's answer.

        Raises:
            ModelUnavailable: Nobody offers that, or none of those who do runs.
            CallError: It failed: `RemoteError` where the provider raised.
        """
        asking = _Asking(self, model_type, provider)
        args = asked(model_type, params)
        while True:
            offer = asking.next()
            try:
                return await self.ask(
                    offer.service, "$model", (model_type, offer.provider, args), Any, timeout
                )
            except (ServiceUnavailable, ServiceLost, Overloaded) as error:
                asking.lost(offer, error)

    async def use_model_stream(
        self,
        model_type: str,
        params: Any = None,
        provider: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[str]:
        """Ask a model as `use_model` does, and yield its text in pieces, as they come.

        A provider that is lost after its first piece is the caller's error. The deadline is for
        each next piece.
        """
        asking = _Asking(self, model_type, provider)
        args = asked(model_type, params)
        begun = False
        while True:
            offer = asking.next()
            sent = (model_type, offer.provider, args)
            stream = self.ask_stream(offer.service, "$model_stream", sent, Any, timeout)
            try:
                async for piece in stream:
                    begun = True
                    yield piece
                return
            except (ServiceUnavailable, ServiceLost, Overloaded) as error:
                if begun:
                    raise
                asking.lost(offer, error)
            finally:
                await stream.aclose()

    def offers(self) -> list[tuple[str, Offer]]:
        """Return every model that there is: its type, and who offers it, in config order."""
        return [
            (info.model_type, _offer(entry, info.provider, info.priority, info.stream))
            for entry in self._visible()
            for info in entry.manifest.models
        ]

    def _visible(self) -> Iterable[Entry]:
        return self.directory

    # --- messages ---------------------------------------------------------------------------

    async def process_actions(
        self,
        memory: Memory | Content | Mapping[str, Any] | str,
        responses: Iterable[Memory | Content | Mapping[str, Any] | str] = (),
        state: State | None = None,
        timeout: float = ANSWER_S,
    ) -> Processed:
        """Hand a message to the agent: it runs the actions that the responses name, or without
        responses decides what to do, and has the answer said by the message's source.

        Args:
            memory: The message. Its `id` tells it from others: the same one is answered once.
            responses: What is to be said, or done, about it.
            state: What is known, where the caller knows it already.
            timeout: Seconds.

        Raises:
            ServiceUnavailable: No agent is configured.
            CallError: It was not answered.
        """
        agent = self._first("agent", "process_actions")
        message = as_memory(memory)
        if not message.content.source:
            said = msgspec.structs.replace(message.content, source=self.name)
            message = msgspec.structs.replace(message, content=said)
        args = (message, as_memories(responses), *([state] if state is not None else []))
        done: Processed | None = await self.ask(
            agent.name, "process_actions", args, Processed | None, timeout, idempotent=True
        )
        return done or Processed()

    async def send_message_to_target(
        self,
        target: TargetInfo | Mapping[str, Any],
        content: Content | str | Mapping[str, Any],
        timeout: float | None = None,
    ) -> Any:
        """Have a message sent: by the send handler of `target.source`, else by the
        `send_message(channel, text)` of the service that it names.

        Returns:
            What that returned.

        Raises:
            ServiceUnavailable: Nobody sends for that source.
            CallError: It was not sent, or perhaps: `ServiceLost`, `CallTimeout`.
        """
        to = target if isinstance(target, TargetInfo) else msgspec.convert(dict(target), TargetInfo)
        said = as_content(content)
        handlers = [e for e in self._visible() if to.source in e.manifest.sends_for]
        for entry in sorted(handlers, key=lambda e: e.state is not Life.RUNNING)[:1]:
            return await self.ask(entry.name, "$send", (to.source, to, said), Any, timeout)
        found = self._find(to.source)
        if found is None:
            raise ServiceUnavailable(to.source, "send_message", "not configured")
        methods = {info.name for info in found.manifest.methods}
        if "send_message" not in methods:
            raise ServiceUnavailable(
                found.name, "send_message", "one that sends no messages: it has no send_message"
            )
        proxy = ServiceProxy(self, found.name, None, timeout)
        return await proxy.send_message(to.channel, said.text)

    @property
    def database_adapter(self) -> DatabaseAdapter:
        """Return who keeps memories and tasks: the service of type `database`, else the agent.

        Raises:
            ServiceUnavailable: There is neither.
        """
        entry = self._find("database") or self._first("agent", "database_adapter")
        return cast("DatabaseAdapter", ServiceProxy(self, entry.name, DatabaseAdapter))

    def _first(self, service_type: str, method: str) -> Entry:
        entry = self._find(service_type)
        if entry is None:
            raise ServiceUnavailable(
                service_type, method, f"not configured: add [plugins.{service_type}] to the config"
            )
        return entry

    # --- calls of the runtime's own ---------------------------------------------------------

    async def ask(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        result: Any,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a service's method by its name, whatever its manifest says.

        Args:
            service: A NAME.
            method: A method, or one of `hidden`.
            args: Positional arguments.
            result: The type of what it returns.
            timeout: Seconds; None is the service's own `timeout`.
            idempotent: It may be run twice: where it is lost, it is sent again.
        """
        future = self.loop.create_future()
        decode = msgspec.msgpack.Decoder(result).decode
        self.call(service, method, args, {}, timeout, decode, future, idempotent)
        return await future

    def ask_stream(
        self,
        service: str,
        method: str,
        args: tuple[Any, ...],
        item: Any,
        timeout: float | None = None,
    ) -> Stream:
        """Call a service's stream likewise."""
        decode = msgspec.msgpack.Decoder(item).decode
        return Stream(self, service, method, args, {}, timeout, decode)


class _Asking:
    """One question to a model, from provider to provider."""

    def __init__(self, runtime: Runtime, model_type: str, provider: str | None) -> None:
        self._runtime, self._type, self._provider = runtime, model_type, provider
        self._losses: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._error: CallError | None = None

    def next(self) -> Offer:
        """Return whom to ask now. Raises ModelUnavailable, or what the last one ended with."""
        offers = self._runtime.offers()
        of_type = [offer for model_type, offer in offers if model_type == self._type]
        offer = next_of(of_type, self._provider, self._given_up)
        if offer is not None:
            return offer
        if self._error is not None:
            raise self._error
        raise why_none(self._type, self._provider, offers)

    def lost(self, offer: Offer, error: CallError) -> None:
        """Take it that one did not answer."""
        self._error = error
        self._losses[offer.service] += 1
        if not isinstance(error, ServiceLost) or self._losses[offer.service] >= LOSSES:
            self._given_up.add(offer.service)
        log.warning("model.lost model=%s provider=%s error=%s", self._type, offer.service, error)


def _offer(entry: Entry, provider: str, priority: int, stream: bool) -> Offer:
    return Offer(
        entry.name,
        provider,
        entry.manifest.service_type,
        priority,
        stream,
        running=entry.state is Life.RUNNING and bool(entry.token),
        coming=takes_calls(entry.state, entry.wanted),
    )


async def _started(cls: type[Service], runtime: Runtime) -> Any:
    return await cls.start(runtime)


async def _outlive(starting: asyncio.Task[Any]) -> None:
    try:
        await starting
    finally:
        starting.cancel()
    raise RuntimeError("start returned after it had said ready: its connection has ended")


async def _handled(handler: Handler, payload: Any) -> None:
    await finished(handler, fitted(handler, payload))
