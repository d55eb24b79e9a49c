"""`Runtime`: what a service is given: its settings, its start, background work, events."""

import asyncio
import contextvars
import inspect
import logging
import math
import os
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from garrison.ipc.character import Character, default_character, setting_of
from garrison.ipc.client import DEADLINE
from garrison.ipc.mail import MESSAGE, PostedMessage
from garrison.ipc.messages import Subscribe, Token, encodable
from garrison.ipc.session import Session
from garrison.workers.agents.api import AgentApi
from garrison.workers.agents.components import EventType
from garrison.workers.agents.content import with_source
from garrison.workers.agents.internal_methods import (
    InternalMethods,
    await_with_prefix,
    fitted,
)

from .service import Service

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Service)
Handler = Callable[..., Awaitable[Any] | Any]


class BackgroundFailure(Exception):
    """A service's background work raised; its cause is what it raised."""


class Runtime(AgentApi):
    """What a service is given: other services, an agent's parts, settings, events, background
    work."""

    def __init__(
        self,
        name: str,
        token: Token,
        secrets: dict[str, str] | None = None,
        generation: int = 1,
        session: Session | None = None,
    ) -> None:
        super().__init__(token, name, session)
        self.generation = generation
        self.config: Any = {}
        self.facts: dict[str, float] = {}
        self._data = Path(tempfile.gettempdir()) / f"garrison-{os.getpid()}" / name
        self.logger = logging.getLogger(name)
        self.failed: asyncio.Future[None] = self.loop.create_future()
        self.finished = asyncio.Event()  # the service asked to end, cleanly
        self._ready: asyncio.Future[Any] = self.loop.create_future()
        self.character = default_character()
        self._withheld: set[str] = set()  # names of the character's secrets that are not ours
        self._secrets = secrets or {}
        self.hidden = InternalMethods(self)
        self._events: dict[str, list[Handler]] = {}
        self._background: set[asyncio.Task[None]] = set()

    # --- settings ---------------------------------------------------------------------------

    @property
    def agent_id(self) -> str:
        """Return the id of the agent that this service belongs to."""
        return self.character.agent_id

    def speak_for(self, agent: str, character: Character, withheld: Iterable[str] = ()) -> None:
        """Belong to an agent; `withheld` are secrets of its character that this one has not."""
        self.agent, self.character, self._withheld = agent, character, set(withheld)

    def get_setting(self, key: str, default: Any = None) -> Any:
        """Return a setting: the character's, else this service's secret, else its environment's,
        else the default.

        An empty string, 0 and False are settings like any other.
        """
        if (said := setting_of(self.character, key)) is not None:
            return said
        if key in self._secrets:
            return self._secrets[key]
        if key in self._withheld:
            self._withheld.discard(key)  # said once
            section = f"services.{self.name}"
            if self.agent:
                section = f"agents.{self.agent}.services.{self.name.removeprefix(self.agent + '.')}"
            log.warning(
                "setting.withheld %s is a secret of %s's character that this service is not "
                'given; [%s] secrets = ["%s"] in the config hands it over',
                *(key, self.character.name, section, key),
            )
        return os.environ.get(key, default)

    # --- of itself --------------------------------------------------------------------------

    @property
    def message(self) -> PostedMessage | None:
        """Return the posted message that the method is being run for; None where it was called."""
        return MESSAGE.get()

    @property
    def data_folder(self) -> Path:
        """Return a folder of this service's own, which outlasts its incarnations."""
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._data

    def report(self, **facts: float) -> None:
        """Have `garrison status` show these numbers: at most 16, told with the next beat."""
        self.facts = {name: float(value) for name, value in list(facts.items())[:16]}

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
        task.add_done_callback(lambda _: work.close())  # one that is cancelled before it began
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
        """Call a function with every payload of an event; `async def` or plain.

        Raises:
            TypeError: The event has no name that everybody could be told.
        """
        if not isinstance(event, str) or not callable(handler):
            given = f"{event!r} and {handler!r}"
            raise TypeError(f"register_event takes an event's name and a function, not {given}")
        event = encodable(event)
        self._events.setdefault(event, []).append(handler)
        self.subscribe()

    def subscribe(self) -> None:
        """Tell the supervisor which events this service listens to."""
        if self._events:
            self.session.send(Subscribe(tuple(self._events)))

    async def emit_event(self, event: str, payload: Any = None, durable: bool = False) -> None:
        """Tell every subscriber of an event, in this service and in others.

        Returns when each has handled it or failed; one that fails is logged and harms no other.
        A durable one is posted to those who ever listened, and returns when that is on disk.
        """
        if event == EventType.MESSAGE_RECEIVED:
            payload = with_source(self.name, payload)
        if durable:
            await super().emit_event(event, payload, durable)
            return
        listening = self.directory.listening(event, self.agent)
        others = [entry.name for entry in listening if entry.name != self.name]
        await asyncio.gather(self._own(event, payload), self.emit_to(others, event, payload))

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


async def _started(cls: type[Service], runtime: Runtime) -> Any:
    starting = cls.start(runtime)
    if not inspect.isawaitable(starting):
        raise TypeError(f"{cls.__name__}.start must be `async def`, under @classmethod")
    return await starting


async def _outlive(starting: asyncio.Task[Any]) -> None:
    try:
        await starting
    finally:
        starting.cancel()
    raise RuntimeError("start returned after it had said ready: its connection has ended")


async def _handled(handler: Handler, payload: Any) -> None:
    await await_with_prefix(handler, fitted(handler, payload))
