"""Events: this service's handlers, and delivery to the subscribers in other services."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from garrison.ipc.client import Client
from garrison.ipc.error_text import described
from garrison.ipc.messages import encodable

from .components import EventType
from .content import with_source
from .functions import await_with_prefix, convert_argument

log = logging.getLogger(__name__)

Handler = Callable[..., Awaitable[Any] | Any]

EMITTING_MOST = 64  # events at the same time, in the background


class Events:
    """The event handlers of one service.

    Args:
        client: The service's client.
        name: NAME of the service.
        subscribe: Sends the names of all events with a handler to the supervisor.
    """

    def __init__(
        self, client: Client, name: str, subscribe: Callable[[tuple[str, ...]], None]
    ) -> None:
        self._client, self._name, self._subscribe = client, name, subscribe
        self._handlers: dict[str, list[Handler]] = {}
        self._emitting: set[asyncio.Task[None]] = set()

    def register(self, event: str, handler: Handler) -> None:
        """Add a handler; see `Runtime.register_event`."""
        if not isinstance(event, str) or not callable(handler):
            given = f"{event!r} and {handler!r}"
            raise TypeError(f"register_event takes an event's name and a function, not {given}")
        self._handlers.setdefault(encodable(event), []).append(handler)
        self.subscribe()

    def subscribe(self) -> None:
        """Send the subscriptions to the supervisor, if there are any."""
        if self._handlers:
            self._subscribe(tuple(self._handlers))

    async def emit(self, event: str, payload: Any, durable: bool) -> None:
        """Emit an event; see `Runtime.emit_event`."""
        if event == EventType.MESSAGE_RECEIVED:
            payload = with_source(self._name, payload)
        if durable:
            await self._client.emit_event(event, payload, durable)
            return
        client = self._client
        subscribers = [entry.name for entry in client.directory.subscribers(event, client.agent)]
        others = [name for name in subscribers if name != self._name]
        await asyncio.gather(
            self._handle_own(event, payload), client.emit_to(others, event, payload)
        )

    def emit_soon(self, event: str, payload: Any) -> None:
        """Emit an event in the background, if anything subscribes to it; drop it if
        `EMITTING_MOST` are being emitted."""
        client = self._client
        has_listeners = event in self._handlers or client.directory.subscribers(event, client.agent)
        if has_listeners and len(self._emitting) < EMITTING_MOST:
            task = asyncio.create_task(self.emit(event, payload, False), name=f"event {event}")
            self._emitting.add(task)
            task.add_done_callback(self._emitting.discard)

    async def _handle_own(self, event: str, payload: Any) -> None:
        try:
            await self.handle(event, payload)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            cancelled = issubclass(type(error), asyncio.CancelledError)  # it may hide its class
            if cancelled and task is not None and task.cancelling():
                raise
            self._log_failure(event, error)

    async def handle(self, event: str, payload: Any) -> None:
        """Run all handlers of an event concurrently.

        Raises:
            Exception: The first error of a handler, after all handlers have ended.
        """
        handlers = self._handlers.get(event, [])
        outcomes = await asyncio.gather(
            *(_run(handler, payload) for handler in handlers), return_exceptions=True
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        for error in errors[1:]:
            self._log_failure(event, error)
        if errors:
            raise errors[0]

    def _log_failure(self, event: str, error: BaseException) -> None:
        try:
            log.warning("event.failed event=%s subscriber=%s", event, self._name, exc_info=error)
        except BaseException:  # noqa: BLE001 (the error cannot be printed)
            what = described(error)
            log.warning("event.failed event=%s subscriber=%s error=%s", event, self._name, what)


async def _run(handler: Handler, payload: Any) -> None:
    await await_with_prefix(handler, convert_argument(handler, payload))
