"""What the services of an agent do together: actions, models, messages, memories.

A client that knows which parts of plugins are in this worker, and finds those of all others.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

import msgspec

from garrison.ipc.client import Client
from garrison.ipc.directory import accepts_calls
from garrison.ipc.errors import CallError, Overloaded, ServiceLost, ServiceUnavailable
from garrison.ipc.messages import (
    ActionInfo,
    Entry,
    EvaluatorInfo,
    Manifest,
    ProviderInfo,
    Token,
)
from garrison.ipc.messages import State as Life
from garrison.ipc.proxy import ServiceProxy, Stream
from garrison.ipc.session import Session

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
from .fallback import ModelFallback, offer_of
from .models import Model, Offer, as_params
from .registry import ComponentRegistry
from .remote import RemoteAction, RemoteEvaluator, RemoteProvider

log = logging.getLogger(__name__)

ANSWER_S = 150.0  # for a message to be answered: more than the agent itself allows
PROVIDER_S = 5.0  # for each provider of context
CRASHING_S = 1.0  # for what an answer can do without, where its worker keeps crashing
Handler = Callable[..., Awaitable[Any] | Any]
P = TypeVar("P", ActionInfo, ProviderInfo, EvaluatorInfo)


class AgentApi(Client):
    """The client of a service that belongs to an agent, or to all of them."""

    def __init__(self, token: Token, name: str, session: Session | None = None) -> None:
        super().__init__(token, session, name)
        self.parts = ComponentRegistry(self._parts_changed)

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
        return (entry for entry in self._visible() if accepts_calls(entry.state, entry.wanted))

    @property
    def actions(self) -> list[RemoteAction]:
        """Return the actions of all plugins whose workers run, or will, in config order."""
        return [RemoteAction(*one) for one in self._once(lambda manifest: manifest.actions)]

    @property
    def providers(self) -> list[RemoteProvider]:
        """Return the providers of context likewise."""
        return [RemoteProvider(*one) for one in self._once(lambda manifest: manifest.providers)]

    @property
    def evaluators(self) -> list[RemoteEvaluator]:
        """Return the evaluators likewise."""
        return [RemoteEvaluator(*one) for one in self._once(lambda manifest: manifest.evaluators)]

    def _once(self, parts: Callable[[Manifest], Iterable[P]]) -> Iterable[tuple[str, P]]:
        """Return the NAME of whose worker has it, and each part: of one that several workers of a
        plugin have, for its `init` registers it in each, the first."""
        found: dict[tuple[str, str], tuple[str, P]] = {}
        for entry in self._known():
            for part in parts(entry.manifest):
                found.setdefault((entry.plugin, part.name), (entry.name, part))
        return found.values()

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
            timeout: Seconds for each; one that is late or fails is left out, and logged. So is
                what makes all that they tell larger than a quarter of `max_message`, for the
                state travels on to actions and models.
        """
        named = set(include)
        wanted = [
            provider
            for provider in self.providers
            if provider.name in named or not (only_include or provider.dynamic or provider.private)
        ]
        wanted.sort(key=lambda provider: provider.position)
        told = await asyncio.gather(*(self._told(provider, memory, timeout) for provider in wanted))
        state, texts, left = State(), list[str](), self.max_message // 4
        for provider, result in zip(wanted, told, strict=True):
            if result is None:
                continue
            size = len(msgspec.msgpack.encode(result))
            if size > left:
                log.warning("provider.too_large provider=%s bytes=%d", provider.name, size)
                continue
            left -= size
            state.values.update(result.values)
            state.data[provider.name] = result.data
            if result.text:
                texts.append(result.text)
        state.text = "\n\n".join(texts)
        return state

    def patience(self, service: str, timeout: float) -> float:
        """Return how long to wait for what an answer can do without, in seconds: for a service
        that keeps crashing, a second. One that crashed once is started again at once."""
        entry = self.directory.get(service)
        return min(timeout, CRASHING_S) if entry and entry.state is Life.BACKOFF else timeout

    async def _told(
        self, provider: RemoteProvider, memory: Memory, timeout: float
    ) -> ProviderResult | None:
        timeout = self.patience(provider.service, timeout)
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
        asking = ModelFallback(self.offers, model_type, provider, self.agent)
        args = as_params(model_type, params)
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
        asking = ModelFallback(self.offers, model_type, provider, self.agent)
        args = as_params(model_type, params)
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
            (info.model_type, offer_of(entry, info))
            for entry in self._visible()
            for info in entry.manifest.models
        ]

    def _visible(self) -> Iterable[Entry]:
        """Return the services of its own agent, then everybody's; no other agent's."""
        return self.directory.of_agent(self.agent)

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
        found = self._find(to.source)
        sender, handled = self._sender(to.source, found)
        if sender is not None:
            return await self.ask(sender.name, "$send", (handled, to, said), Any, timeout)
        if found is None:
            raise ServiceUnavailable(to.source, "send_message", "not configured")
        methods = {info.name for info in found.manifest.methods}
        if "send_message" not in methods:
            raise ServiceUnavailable(
                found.name, "send_message", "one that sends no messages: it has no send_message"
            )
        proxy = ServiceProxy(self, found.name, None, timeout)
        return await proxy.send_message(to.channel, said.text)

    def _sender(self, source: str, found: Entry | None) -> tuple[Entry | None, str]:
        """Return who has a send handler for a source, and what it was registered for.

        Where the source is a service's NAME, that one's own is meant, also if it was registered
        for the type or for the NAME within the agent: another of its type is another account.
        """
        if found is not None and found.name in {source, f"{self.agent}.{source}"}:
            within = found.name.removeprefix(f"{found.agent}.")
            for handled in (source, within, found.manifest.service_type):
                if handled in found.manifest.sends_for:
                    return found, handled
        having = [entry for entry in self._visible() if source in entry.manifest.sends_for]
        running = (entry for entry in having if entry.state is Life.RUNNING)
        return next(running, having[0] if having else None), source

    @property
    def database_adapter(self) -> DatabaseAdapter:
        """Return who keeps memories and tasks: the service of type `database`, else the agent.

        Raises:
            ServiceUnavailable: There is neither.
        """
        entry = self._database() or self._first("agent", "database_adapter")
        return cast("DatabaseAdapter", ServiceProxy(self, entry.name, DatabaseAdapter))

    @property
    def has_database(self) -> bool:
        """Tell whether a service of type `database` keeps memories: its agent's, or everybody's."""
        return self._database() is not None

    def _database(self) -> Entry | None:
        """Return it; never another agent's, also where this one is everybody's."""
        having = [e for e in self._visible() if e.manifest.service_type == "database"]
        return next((entry for entry in having if entry.wanted), having[0] if having else None)

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
