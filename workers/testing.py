"""Runs an author's service in the process of a test, with fakes in place of other services.

There is no supervisor and no socket. Calls to a fake are encoded, converted and decoded as between
processes, so a value that cannot be sent fails here as well.
"""

import inspect
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from garrison.ipc import messages
from garrison.ipc.character import Character, as_character
from garrison.ipc.client import Client
from garrison.ipc.messages import Entry, Manifest, State, Token
from garrison.ipc.session import Session
from garrison.ipc.socket_paths import new_token
from garrison.workers.agents.events import Events
from garrison.workers.agents.functions import await_with_prefix
from garrison.workers.agents.registry import ComponentRegistry, as_model_handler
from garrison.workers.agents.settings import Settings
from garrison.workers.process.dispatch import Dispatch
from garrison.workers.process.internal_methods import InternalMethods
from garrison.workers.process.methods import Method, describe
from garrison.workers.process.registration import add_plugin, add_service
from garrison.workers.process.starting import start_service

from .background import Background, BackgroundFailure
from .config_class import convert_config
from .plugin import Plugin
from .reports import Reports
from .runtime import Runtime
from .service import Service

S = TypeVar("S", bound=Service)

MAX_MESSAGE = 64 * 1024 * 1024


class TestRuntime(Runtime):
    """A runtime whose other services are fakes in the same process.

    Attributes:
        emitted: The events that the service emitted, as pairs of name and payload.
    """

    __test__ = False  # not a test, in spite of its name

    emitted: list[tuple[str, Any]]

    async def emit_event(self, event: str, payload: Any = None, durable: bool = False) -> None:
        """Record an event and deliver it at once, also a durable one: there is no mailbox."""
        self.emitted.append((event, payload))
        await super().emit_event(event, payload)


class LoopbackClient(Client):
    """A client whose services are objects in the same process.

    Args:
        name: NAME of the service under test.
    """

    def __init__(self, name: str) -> None:
        token = new_token()
        super().__init__(token, Session(token, send_data=self._send), name)
        self._services: dict[Token, Dispatch] = {}

    def add(
        self,
        name: str,
        target: Any,
        described: tuple[Manifest, dict[str, Method]],
        internal: InternalMethods,
    ) -> None:
        """Add an object to the directory as a running service.

        Args:
            name: Its NAME.
            target: The object.
            described: Its manifest and methods.
            internal: The internal methods of the worker that it stands for.
        """
        manifest, methods = described
        token = self.token if name == self.name else new_token()
        dispatch = Dispatch(name, self._reply_from(token), internal, MAX_MESSAGE)
        dispatch.serve(target, methods)
        entry = Entry(name, "test", len(self._services), manifest, State.RUNNING, True, 1, token)
        self._services[token] = dispatch
        self.directory.apply(messages.Listed(entry))
        self.calls.changed(name, entry, self.now())

    def _reply_from(self, token: Token) -> Callable[[Token, messages.Data], None]:
        def send(_: Token, message: messages.Data) -> None:
            self.loop.call_soon(self.session.handlers[type(message)], token, message)

        return send

    def _send(self, token: Token, message: messages.Data) -> None:
        self.loop.call_soon(self._deliver, token, message)

    def _deliver(self, token: Token, message: messages.Data) -> None:
        dispatch = self._services[token]
        match message:
            case messages.Call():
                dispatch.call(self.token, message)
            case messages.Cancel(call_id):
                dispatch.cancel(self.token, call_id)
            case messages.Credit(call_id, items):
                dispatch.credit(self.token, call_id, items)
            case _:
                raise AssertionError(f"a client does not send {message!r}")


class Harness:
    """The parts of a worker that one service under test needs.

    Args:
        name: NAME of the service.
        settings: What `get_setting` returns, besides the character and the environment.
        character: The character of its agent; None is the default one.
        data_folder: The service's folder; None is one in the temporary folder.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, str] | None = None,
        character: Character | None = None,
        data_folder: Path | None = None,
    ) -> None:
        self.client = LoopbackClient(name)
        self.components = ComponentRegistry()
        self.events = Events(self.client, name, lambda events: None)
        self.reports = Reports()
        self.background = Background(self.reports.warn)
        self.runtime = TestRuntime(
            self.client,
            name,
            components=self.components,
            settings=Settings(name, settings, character=character),
            background=self.background,
            events=self.events,
            reports=self.reports,
            data_folder=data_folder,
        )
        self.runtime.emitted = []
        self.internal = InternalMethods(self.runtime, self.components, self.events)

    def add_fakes(self, fakes: Mapping[str, Any]) -> None:
        """Add fakes to the directory, by their NAMEs."""
        for name, fake in fakes.items():
            self.client.add(name, fake, _describe_fake(name, fake), self.internal)

    async def init(self, plugin: Plugin, config: Mapping[str, Any]) -> None:
        """Register a plugin's components and events, and run its `init`."""
        add_plugin(self.components, plugin, plugin.name)
        for event, handlers in plugin.events.items():
            for handler in handlers:
                self.events.register(event, handler)
        keys = ("plugins", plugin.name, "config")
        values = convert_config(plugin.config_class, dict(config), keys)
        await plugin.init(values, self.runtime)

    async def start(self, cls: type[S], config: Mapping[str, Any]) -> S:
        """Start the service and add it to the directory."""
        name, runtime = self.runtime.name, self.runtime
        keys = ("services", name, "config")
        runtime.config = convert_config(getattr(cls, "Config", None), dict(config), keys)
        service = await start_service(cls, runtime, self.background, self.reports, False)
        add_service(self.components, service, name)
        await await_with_prefix(cls.register_send_handlers, runtime, service)
        manifest, methods = describe(type(service))
        described = self.components.add_to_manifest(manifest), methods
        self.client.add(name, service, described, self.internal)
        self.background.serving = True
        return service

    async def close(self) -> None:
        """Cancel background work and calls."""
        await self.background.cancel()
        self.client.close()

    def raise_failure(self) -> None:
        """Raise the error of background work, if it failed."""
        error = self.background.failed.exception() if self.background.failed.done() else None
        if isinstance(error, BackgroundFailure) and error.__cause__ is not None:
            raise error.__cause__
        if error is not None:
            raise error


@asynccontextmanager
async def run(
    service_class: type[S],
    *,
    fakes: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    settings: Mapping[str, str] | None = None,
    models: Mapping[str, Callable[..., Any]] | None = None,
    plugin: Plugin | None = None,
    plugin_config: Mapping[str, Any] | None = None,
    character: Character | Mapping[str, Any] | None = None,
) -> AsyncIterator[S]:
    """Start a service, yield it, and stop it.

    Args:
        service_class: The service under test.
        fakes: NAME to an object whose public methods are called in that service's place. Its
            attribute `service_type`, if it has one, is its type; otherwise its NAME is.
        config: The table `[services.NAME.config]`.
        settings: What `get_setting` returns, besides the character and the environment.
        models: Model type to `handler(params)`; an asynchronous generator streams.
        plugin: The plugin whose `init` runs first, and whose components are registered.
        plugin_config: The table `[plugins.NAME.config]`.
        character: The agent's character: a `Character`, or the contents of its file. The service
            is granted all of its secrets.

    Raises:
        Exception: What `start` raised, or, on leaving the block, what background work raised.
    """
    name = service_class.service_type or service_class.__name__
    if isinstance(character, Mapping):
        character = as_character(dict(character))
    with tempfile.TemporaryDirectory(prefix="garrison-") as folder:
        harness = Harness(name, settings, character, Path(folder))
        harness.add_fakes(fakes or {})
        for model_type, handler in (models or {}).items():
            harness.runtime.register_model(model_type, as_model_handler(handler), "test")
        try:
            if plugin is not None:
                await harness.init(plugin, plugin_config or {})
            service = await harness.start(service_class, config or {})
            yield service
            await service.stop()
        finally:
            await harness.close()
    harness.raise_failure()


def _describe_fake(name: str, fake: Any) -> tuple[Manifest, dict[str, Method]]:
    """Return a fake's manifest and methods: those of its class, and callables set on the object."""
    manifest, methods = describe(type(fake))
    for attribute in dir(fake):
        found = getattr(fake, attribute, None)
        if attribute.startswith("_") or attribute in methods or not callable(found):
            continue
        if attribute not in manifest.left_out:
            methods[attribute] = _method_of_mock(attribute, found)
    infos = tuple(method.info for method in methods.values())
    service_type = getattr(fake, "service_type", None)
    shown = service_type if isinstance(service_type, str) and service_type else name
    return Manifest(shown, "", infos, manifest.left_out, frames=True), methods


def _method_of_mock(name: str, function: Any) -> Method:
    """Return a method that takes any arguments, and awaits the result if that is awaitable."""

    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return Method(name, call)


__all__ = ["TestRuntime", "run"]
