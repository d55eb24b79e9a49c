"""An author's service in one process, with fakes for the others: no supervisor, no sockets.

Calls to a fake are encoded, converted and decoded as they are between processes, so what cannot
travel fails here as well.
"""

import asyncio
import inspect
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from garrison.ipc import messages
from garrison.ipc.character import Character, as_character
from garrison.ipc.messages import Entry, Manifest, State, Token
from garrison.ipc.session import Session
from garrison.ipc.sockets import new_token
from garrison.workers.agents.internal_methods import await_with_prefix
from garrison.workers.agents.registry import as_model_handler
from garrison.workers.process.dispatch import Dispatch
from garrison.workers.process.methods import Method, describe

from .config_class import convert_config
from .plugin import Plugin
from .runtime import BackgroundFailure, Runtime
from .service import Service

S = TypeVar("S", bound=Service)

MAX_MESSAGE = 64 * 1024 * 1024


class TestRuntime(Runtime):
    """A runtime whose other services are fakes in the same process.

    `emitted` has every event that the service emitted, as pairs of its name and payload.
    """

    __test__ = False  # pytest: not a test, whatever its name says

    def __init__(self, name: str, settings: Mapping[str, str]) -> None:
        token = new_token()
        super().__init__(name, token, dict(settings), session=Session(token, send_data=self._send))
        self.emitted: list[tuple[str, Any]] = []
        self._members: dict[Token, Dispatch] = {}
        self._position = 0

    def add(self, name: str, target: Any, manifest: Manifest, methods: dict[str, Method]) -> None:
        """Put an object into the directory, under a NAME."""
        token = self.token if name == self.name else new_token()
        answer = self._answer_from(token)
        dispatch = Dispatch(name, answer, self.hidden, MAX_MESSAGE)
        dispatch.serve(target, methods)
        self._members[token] = dispatch
        entry = Entry(name, "test", self._position, manifest, State.RUNNING, True, 1, token)
        self._position += 1
        self.directory.apply(messages.Listed(entry))
        self.calls.changed(name, entry, self.now())

    def keep_in(self, folder: Path) -> None:
        """Have the service keep its data in a folder."""
        self._data = folder

    def take(self, plugin: Plugin) -> None:
        """Take a plugin's actions and the like."""
        self.parts.add_plugin(plugin, plugin.name)
        for event, handlers in plugin.events.items():
            for handler in handlers:
                self.register_event(event, handler)

    async def emit_event(self, event: str, payload: Any = None, durable: bool = False) -> None:
        self.emitted.append((event, payload))
        await super().emit_event(event, payload)  # a durable one, too: there is no mailbox here

    def _answer_from(self, token: Token) -> Any:
        def send(_: Token, message: messages.Data) -> None:
            self.loop.call_soon(self.session.handlers[type(message)], token, message)

        return send

    def _send(self, token: Token, message: messages.Data) -> None:
        self.loop.call_soon(self._deliver, token, message)

    def _deliver(self, token: Token, message: messages.Data) -> None:
        member = self._members[token]
        match message:
            case messages.Call():
                member.call(self.token, message)
            case messages.Cancel(call_id):
                member.cancel(self.token, call_id)
            case messages.Credit(call_id, items):
                member.credit(self.token, call_id, items)


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
        fakes: NAME → an object whose public methods answer in that service's place; a
            `service_type` of its own is its type, else the NAME is.
        config: What `[services.NAME.config]` would say.
        settings: What `get_setting` finds, besides the environment.
        models: Model type → `handler(params)`, or an asynchronous generator that streams.
        plugin: Where its `init` is to run first, and its actions and the like are wanted.
        plugin_config: What `[plugins.NAME.config]` would say.
        character: Who its agent is: a `Character`, or what its file would say. All of its
            secrets are the service's.

    Raises:
        Exception: What `start` raised, and on leaving what background work raised.
    """
    name = service_class.service_type or service_class.__name__
    runtime = TestRuntime(name, settings or {})
    if character is not None:
        said = character if isinstance(character, Character) else as_character(dict(character))
        runtime.speak_for("", said)
    for fake_name, fake in (fakes or {}).items():
        runtime.add(fake_name, fake, *_described(fake_name, fake))
    for model_type, handler in (models or {}).items():
        runtime.register_model(model_type, as_model_handler(handler), "test")
    folder = tempfile.TemporaryDirectory(prefix="garrison-")
    runtime.keep_in(Path(folder.name))
    try:
        if plugin is not None:
            runtime.take(plugin)
            keys = ("plugins", plugin.name, "config")
            values = convert_config(plugin.config_class, dict(plugin_config or {}), keys)
            await plugin.init(values, runtime)
        wanted = getattr(service_class, "Config", None)
        runtime.config = convert_config(wanted, dict(config or {}), ("services", name, "config"))
        service = await runtime.begin(service_class)
        runtime.parts.add_service(service, name)
        await await_with_prefix(service_class.register_send_handlers, runtime, service)
        manifest, methods = describe(type(service))
        runtime.add(name, service, runtime.parts.told_in(manifest), methods)
        yield service
        await service.stop()
    finally:
        await runtime.cancel_background()
        runtime.close()
        await asyncio.to_thread(folder.cleanup)
    if runtime.failed.done():
        _raise(runtime.failed.exception())


def _raise(error: BaseException | None) -> None:
    if isinstance(error, BackgroundFailure) and error.__cause__ is not None:
        raise error.__cause__
    if error is not None:
        raise error


def _described(name: str, fake: Any) -> tuple[Manifest, dict[str, Method]]:
    """Return what a fake offers: its class's methods, and what was set on the object itself."""
    manifest, methods = describe(type(fake))
    for attribute in dir(fake):
        found = getattr(fake, attribute, None)
        if attribute.startswith("_") or attribute in methods or not callable(found):
            continue
        if attribute not in manifest.left_out:
            methods[attribute] = _loose(attribute, found)
    infos = tuple(method.info for method in methods.values())
    service_type = getattr(fake, "service_type", None)
    shown = service_type if isinstance(service_type, str) and service_type else name
    return Manifest(shown, "", infos, manifest.left_out, frames=True), methods


def _loose(name: str, function: Any) -> Method:
    """Return a method of a mock: whatever arguments, awaited where it wants to be."""

    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    return Method(name, call)


__all__ = ["TestRuntime", "run"]
