"""What the services of an agent do together: actions, context, models, messages, memories.

The methods are those of `Runtime`, which documents them for authors. Durations are seconds.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar, cast

import msgspec

from garrison.ipc.client import Client
from garrison.ipc.declared_errors import ModelError
from garrison.ipc.directory import accepts_calls
from garrison.ipc.errors import CallError, ServiceUnavailable
from garrison.ipc.messages import ActionInfo, Entry, EvaluatorInfo, Manifest, ProviderInfo
from garrison.ipc.messages import State as ServiceState
from garrison.ipc.proxy import ServiceProxy

from .components import EventType, ProviderResult, State
from .content import (
    Content,
    Memory,
    Processed,
    TargetInfo,
    as_content,
    as_memories,
    as_memory,
    new_id,
)
from .cooling import Cooling, Key
from .database.adapter import DatabaseAdapter
from .database.client import DatabaseProxy
from .fallback import Attempt, ModelFallback
from .model_budget import Use, budgeted
from .model_offers import offer_row
from .model_trace import trace_answer, trace_error
from .models import ModelType, ModelUnavailable, Offer, as_params, choose_offer, in_short, offer_of
from .objects import as_output, as_wanted, with_parameters, with_schema
from .optional_calls import LeftOut, OptionalCalls, Warn
from .remote import (
    RemoteAction,
    RemoteEvaluator,
    RemoteGate,
    RemoteProvider,
    stream_method,
)
from .task_workers import RemoteTaskWorker
from .tools import Generated, has_tools

log = logging.getLogger(__name__)

ANSWER_S = 150.0  # for an answer to a message: more than the agent's own limit
PROVIDER_S = 5.0  # for each provider of context
P = TypeVar("P", ActionInfo, ProviderInfo, EvaluatorInfo)


class AgentApi:
    """The agent's functions, called from one service.

    Args:
        client: The service's client.
        name: NAME of the service.
        warn: Sets or removes a warning of the service by its key; see `Runtime.warn`.
        emit: Emits an event without waiting for its listeners.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        warn: Warn = lambda key, text: None,
        emit: Callable[[str, Any], None] = lambda event, payload: None,
    ) -> None:
        self._client, self._name, self._warn, self._emit = client, name, warn, emit
        self._cooling = Cooling()
        self._optional = OptionalCalls(client, warn)

    # --- components of all plugins ----------------------------------------------------------

    @property
    def actions(self) -> list[RemoteAction]:
        """Return the actions of all plugins whose workers run or will run, in config order."""
        found = self._components(lambda manifest: manifest.actions)
        return [RemoteAction(self._client, self._optional, *one) for one in found]

    @property
    def providers(self) -> list[RemoteProvider]:
        """Return the providers of context likewise."""
        found = self._components(lambda manifest: manifest.providers)
        return [RemoteProvider(self._client, self._optional, *one) for one in found]

    @property
    def evaluators(self) -> list[RemoteEvaluator]:
        """Return the evaluators likewise."""
        found = self._components(lambda manifest: manifest.evaluators)
        return [RemoteEvaluator(self._client, self._optional, *one) for one in found]

    @property
    def gates(self) -> list[RemoteGate]:
        """Return the gates of all plugins, also of those that do not run."""
        found: dict[str, str] = {}
        for entry in self._visible():
            if entry.manifest.gate:
                found.setdefault(entry.plugin, entry.name)
        return [
            RemoteGate(self._client, self._optional, name, plugin) for plugin, name in found.items()
        ]

    @property
    def task_workers(self) -> list[RemoteTaskWorker]:
        """Return what runs tasks, of all plugins; also of those that do not run."""
        return [
            RemoteTaskWorker(self._client, entry.name, name)
            for entry in self._visible()
            for name in entry.manifest.task_workers
        ]

    def _components(self, kind: Callable[[Manifest], Iterable[P]]) -> Iterable[tuple[str, P]]:
        """Return components, each with the NAME of the service whose worker runs it.

        An `init` registers the same component in every worker of its plugin; the first one counts.
        """
        found: dict[tuple[str, str], tuple[str, P]] = {}
        for entry in self._visible():
            if accepts_calls(entry.state, entry.wanted):
                for info in kind(entry.manifest):
                    found.setdefault((entry.plugin, info.name), (entry.name, info))
        return found.values()

    def _visible(self) -> Iterable[Entry]:
        """Return the services of the own agent, then the shared ones."""
        return self._client.directory.of_agent(self._client.agent)

    # --- context ----------------------------------------------------------------------------

    async def compose_state(
        self,
        memory: Memory,
        include: Iterable[str] = (),
        only_include: bool = False,
        timeout: float = PROVIDER_S,
    ) -> State:
        """Compose the context for a message; see `Runtime.compose_state`."""
        named = set(include)
        chosen = [
            provider
            for provider in self.providers
            if provider.name in named or not (only_include or provider.dynamic or provider.private)
        ]
        chosen.sort(key=lambda provider: provider.position)
        results = await asyncio.gather(
            *(self._context_of(provider, memory, timeout) for provider in chosen)
        )
        return self._merged(zip(chosen, results, strict=True))

    async def _context_of(
        self, provider: RemoteProvider, memory: Memory, timeout: float
    ) -> ProviderResult | None:
        try:
            return await provider.get(None, memory, State(), timeout=timeout)
        except LeftOut:  # logged once for each absence
            return None
        except CallError as error:
            log.warning("provider.failed provider=%s error=%s", provider.name, error)
            return None

    def _merged(self, results: Iterable[tuple[RemoteProvider, ProviderResult | None]]) -> State:
        """Merge results in order; leave out what exceeds a quarter of `max_message` in total."""
        state, texts, left = State(), list[str](), self._client.max_message // 4
        for provider, result in results:
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

    # --- models -----------------------------------------------------------------------------

    async def use_model(
        self,
        model_type: str,
        params: Any = None,
        provider: str | None = None,
        timeout: float | None = None,
        fallback: bool = True,
    ) -> Any:
        """Run a model; see `Runtime.use_model`."""
        if model_type == ModelType.TEXT_EMBEDDING and params in ([], ()):
            return []
        wanted, params = with_schema(model_type, with_parameters(model_type, params))
        async with budgeted(self._client, model_type, params) as use:
            attempts = self._attempts(use.model_type, use.params, provider, fallback)
            return await self._answer_of(attempts, use, wanted, timeout)

    async def _answer_of(
        self, attempts: ModelFallback, use: Use, wanted: Any, timeout: float | None
    ) -> Any:
        failure: CallError | None = None
        while True:
            attempt = self._next(attempts, failure)
            offer = attempt.offer
            request = (use.model_type, offer.provider, attempt.params, *offer.counted)
            try:
                answer = await self._client.call_method(
                    offer.service, "$model", request, timeout=timeout
                )
                counted = trace_answer(offer.service, answer, is_counted=offer.counts)
                use.taken.add(counted, attempt.params)
                output = as_output(counted.output, wanted, attempt.params)
                self._answered(attempts, attempt, use.model_type)
                return output
            except CallError as error:
                failure = error
                self._failed(attempts, attempt, use.model_type, error)
            finally:
                attempts.end()

    async def use_model_stream(
        self,
        model_type: str,
        params: Any = None,
        provider: str | None = None,
        timeout: float | None = None,
        fallback: bool = True,
    ) -> AsyncGenerator[str, None]:
        """Run a model and stream its text; see `Runtime.use_model_stream`."""
        if has_tools(params):
            raise TypeError("tools are offered: use stream_with_tools, which yields the calls too")
        arguments = (model_type, params, provider, timeout, fallback)
        async with aclosing(self._stream(*arguments)) as pieces:
            async for piece in pieces:
                yield piece

    async def stream_with_tools(
        self,
        model_type: str,
        params: Any,
        provider: str | None = None,
        timeout: float | None = None,
        fallback: bool = True,
    ) -> AsyncGenerator[str | Generated, None]:
        """Stream a text and the calls of tools; see `Runtime.stream_with_tools`."""
        sent = with_parameters(model_type, params)
        if not has_tools(sent):
            raise TypeError("no tools are offered: use use_model_stream")
        async with aclosing(self._stream(model_type, sent, provider, timeout, fallback)) as pieces:
            async for piece in pieces:
                yield piece if isinstance(piece, str) else as_wanted(piece, Generated)

    async def _stream(
        self,
        model_type: str,
        params: Any,
        provider: str | None,
        timeout: float | None,
        fallback: bool,
    ) -> AsyncGenerator[Any, None]:
        async with budgeted(self._client, model_type, params) as use:
            attempts = self._attempts(use.model_type, use.params, provider, fallback)
            async with aclosing(self._pieces_of(attempts, use, timeout)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _pieces_of(
        self, attempts: ModelFallback, use: Use, timeout: float | None
    ) -> AsyncGenerator[Any, None]:
        failure: CallError | None = None
        model_type, started, size = use.model_type, False, 0
        while True:
            attempt = self._next(attempts, failure)
            offer = attempt.offer
            request = (model_type, offer.provider, attempt.params)
            stream = stream_method(
                self._client, offer.service, "$model_stream", request, timeout=timeout
            )
            try:
                async for piece in stream:
                    if not started:
                        started = True
                        self._answered(attempts, attempt, model_type)
                    size += len(piece) if isinstance(piece, str) else 0
                    yield piece
                use.taken.add_stream(attempt.params, size)
                return
            except CallError as error:
                failure = error
                self._failed(attempts, attempt, model_type, error)
                if started:
                    raise
            finally:
                attempts.end()
                await stream.aclose()

    def _attempts(
        self, model_type: str, params: Any, provider: str | None, fallback: bool
    ) -> ModelFallback:
        args, agent = as_params(model_type, params), self._client.agent
        return ModelFallback(
            self.offers, model_type, provider, args, self._cooling, agent, fallback
        )

    def _next(self, attempts: ModelFallback, failure: CallError | None) -> Attempt:
        try:
            return attempts.next(time.monotonic())
        except ModelUnavailable as error:
            raise error from failure

    def _answered(self, attempts: ModelFallback, attempt: Attempt, model_type: str) -> None:
        for name, why in attempts.passed_over(attempt).items():
            trace_error(name, why)
        if attempts.answered(attempt):
            service = attempt.offer.service
            log.info("model.answers_again model=%s provider=%s", model_type, service)
            self._warn(f"model {model_type} of {service}", None)

    def _failed(
        self, attempts: ModelFallback, attempt: Attempt, model_type: str, error: CallError
    ) -> None:
        service = attempt.offer.service
        trace_error(service, in_short(error))
        wait = attempts.failed(attempt, error, time.monotonic())
        passed_over = "" if wait is None else f" passed_over_s={wait:.3g}"
        log.warning(
            "model.failed model=%s provider=%s%s error=%s", model_type, service, passed_over, error
        )
        if wait is not None:
            problem = f"{service} fails at {model_type}: {in_short(error)}"
            self._warn(f"model {model_type} of {service}", problem)
        kind = error.kind if isinstance(error, ModelError) else ""
        data = {"model": model_type, "provider": service, "kind": kind, "error": in_short(error)}
        rounded = None if wait is None else round(wait, 3)
        self._emit(EventType.MODEL_FAILED, {**data, "passed_over_s": rounded})
        offered = {Key(offer.service, name) for name, offer in self.offers()}
        for gone in self._cooling.forget_others(offered):
            self._warn(f"model {gone.model_type} of {gone.service}", None)

    def takes_tools(self, model_type: str, fallback: bool = True) -> bool:
        """Return whether tools are taken; see `Runtime.takes_tools`."""
        chosen = self._chosen(model_type, fallback)
        return chosen is not None and chosen.tools

    def provider_of(self, model_type: str, fallback: bool = True) -> str:
        """Return a provider's NAME; see `Runtime.provider_of`."""
        chosen = self._chosen(model_type, fallback)
        return "" if chosen is None else chosen.service

    def _chosen(self, model_type: str, fallback: bool) -> Offer | None:
        offers = [offer for name, offer in self.offers() if name == model_type]
        if not fallback:
            offers = sorted(offers, key=lambda offer: -offer.priority)[:1]
        now, passed_over = time.monotonic(), set[str]()
        for offer in offers if fallback else ():
            if self._cooling.is_passed_over(Key(offer.service, model_type), offer.incarnation, now):
                passed_over.add(offer.service)
        return choose_offer(offers, None, passed_over)

    def offers(self) -> list[tuple[str, Offer]]:
        """Return all offers of models, each with its model type, in config order."""
        return [
            (info.model_type, offer_of(entry, info))
            for entry in self._visible()
            for info in entry.manifest.models
        ]

    def model_offers(self) -> list[dict[str, Any]]:
        """Return all offers of models; see `Runtime.model_offers`."""
        now, cooled = time.monotonic(), self._cooling.get
        return [
            offer_row(name, offer, cooled(Key(offer.service, name), offer.incarnation), now)
            for name, offer in self.offers()
        ]

    # --- messages ---------------------------------------------------------------------------

    async def process_actions(
        self,
        memory: Memory | Content | Mapping[str, Any] | str,
        responses: Iterable[Memory | Content | Mapping[str, Any] | str] = (),
        state: State | None = None,
        timeout: float = ANSWER_S,
    ) -> Processed:
        """Have the agent process a message; see `Runtime.process_actions`."""
        agent = self._first("agent", "process_actions")
        message = as_memory(memory)
        if not message.content.source:
            content = msgspec.structs.replace(message.content, source=self._name)
            message = msgspec.structs.replace(message, content=content)
        args = (message, as_memories(responses), *([state] if state is not None else []))
        done: Processed | None = await self._client.call_method(
            agent.name,
            "process_actions",
            args,
            Processed | None,
            timeout,
            idempotent=True,
        )
        return done or Processed()

    async def send_message_to_target(
        self,
        target: TargetInfo | Mapping[str, Any],
        content: Content | str | Mapping[str, Any],
        timeout: float | None = None,
        id: str = "",
        expect: bool = False,
    ) -> Any:
        """Send a message; see `Runtime.send_message_to_target`."""
        to = target if isinstance(target, TargetInfo) else msgspec.convert(dict(target), TargetInfo)
        message = as_content(content)
        service = self._client.directory.find_source(to.source, self._client.agent)
        if service is not None and service.manifest.platform:
            # The id is made here: a call that is lost is sent again, and must be the same message.
            to_platform = ServiceProxy(self._client, service.name, None, timeout)
            return await to_platform.send_message(to.channel, message, id or new_id(), expect)
        sender, source = self._send_handler(to.source, service)
        if sender is not None:
            args = (source, to, message)
            return await self._client.call_method(sender.name, "$send", args, timeout=timeout)
        if service is None:
            raise ServiceUnavailable(to.source, "send_message", "not configured")
        if not any(info.name == "send_message" for info in service.manifest.methods):
            raise ServiceUnavailable(service.name, "send_message", "without a method send_message")
        proxy = ServiceProxy(self._client, service.name, None, timeout)
        return await proxy.send_message(to.channel, message.text)

    def _send_handler(self, source: str, service: Entry | None) -> tuple[Entry | None, str]:
        """Return the service with a send handler for a source, and the handler's own source.

        A NAME means the handler of that service, even where it is registered under the service's
        type or under its NAME within the agent: another service of the type is another account.
        """
        if service is not None and service.name in {source, f"{self._client.agent}.{source}"}:
            within_agent = service.name.removeprefix(f"{service.agent}.")
            for registered in (source, within_agent, service.manifest.service_type):
                if registered in service.manifest.sends_for:
                    return service, registered
        found = [entry for entry in self._visible() if source in entry.manifest.sends_for]
        running = (entry for entry in found if entry.state is ServiceState.RUNNING)
        return next(running, found[0] if found else None), source

    # --- memories ---------------------------------------------------------------------------

    @property
    def database_adapter(self) -> DatabaseAdapter:
        """Return the database: the service of type `database`, else the agent.

        Raises:
            ServiceUnavailable: Neither is configured.
        """
        entry = self._database() or self._first("agent", "database_adapter")
        return cast("DatabaseAdapter", DatabaseProxy(self._client, entry.name, DatabaseAdapter))

    @property
    def has_database(self) -> bool:
        """Return whether a service of type `database` is configured, for the agent or shared."""
        return self._database() is not None

    def _database(self) -> Entry | None:
        """Return that service; another agent's is never used, not even by a shared service."""
        found = [one for one in self._visible() if one.manifest.service_type == "database"]
        return next((entry for entry in found if entry.wanted), found[0] if found else None)

    def _first(self, service_type: str, method: str) -> Entry:
        entry = self._client.entry_of(service_type)
        if entry is None:
            raise ServiceUnavailable(
                service_type, method, f"not configured: add [plugins.{service_type}] to the config"
            )
        return entry
