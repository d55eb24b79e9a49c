"""`Runtime`: what a service is handed to reach its settings, other services and its agent."""

import asyncio
import logging
import os
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from garrison.ipc.call_context import ATTRIBUTION, DEADLINE
from garrison.ipc.character import Character
from garrison.ipc.client import Client
from garrison.ipc.directory import RegistrationStatus
from garrison.ipc.mail import MESSAGE, PostedMessage
from garrison.ipc.messages import Attribution, RestartedBy
from garrison.ipc.proxy import ServiceProxy
from garrison.ipc.tombstones import Tombstones
from garrison.workers.agents import posting
from garrison.workers.agents.api import AgentApi
from garrison.workers.agents.database.client import make_proxy
from garrison.workers.agents.events import Events
from garrison.workers.agents.model_trace import count_cost, count_tokens
from garrison.workers.agents.registry import ComponentRegistry
from garrison.workers.agents.settings import Settings

from . import pausing
from .agent_runtime import AgentRuntime, Handler
from .background import Background
from .caller import CALLER, Caller
from .children.child_process import ChildProcess, Stream
from .reports import Reports

T = TypeVar("T")


class Runtime(AgentRuntime):
    """What a service uses of its host.

    Its methods belong to the worker's event loop, apart from `get_service` and its relatives,
    `get_setting`, `report`, `warn` and the attributes, which also work in the thread of a plain
    `def` method. Durations are seconds.

    Attributes:
        name: NAME of the service, with its agent's prefix: `discord`, `ada.discord`.
        generation: Number of this incarnation: 1 for the first, one more at each restart.
        restarted_by: The order that this incarnation was started by: `who` gave it (a NAME, or
            "operator"), `why` (the text of `--why`), `when` (Unix seconds). None after a crash,
            and at the start of the host.
        record_values: Whether the config wants values recorded that may be private: what people
            write, the prompts of models.
        tombstones: Who was forgotten when this incarnation was started; see `was_forgotten`.
        config: An instance of the service's class `Config`, else its config table as a dict.
        logger: A logger with the service's name. Its lines go to the service's log.
        client: The connection to the host that `garrison.ipc.connect` yields to a program, for
            what is not here: the directory, notices of changes, orders to the supervisor.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        *,
        components: ComponentRegistry,
        settings: Settings,
        background: Background,
        events: Events,
        reports: Reports,
        generation: int = 1,
        data_folder: Path | None = None,
        restarted_by: RestartedBy | None = None,
        record_values: bool = False,
        tombstones: Tombstones | None = None,
        redact: Callable[[str], str] = str,
    ) -> None:
        super().__init__(name, AgentApi(client, name, reports.warn, events.emit_soon), components)
        self.generation = generation
        self.restarted_by = restarted_by
        self.record_values = record_values
        self.tombstones = tombstones or Tombstones()
        self.config: Any = {}
        self.logger = logging.getLogger(name)
        self.client = client
        client.make_proxy = make_proxy
        self._settings, self._background = settings, background
        self._events, self._reports = events, reports
        self._redact = redact
        temporary = Path(tempfile.gettempdir()) / f"garrison-{os.getpid()}" / name
        self._data_folder = data_folder or temporary

    # --- the service itself -----------------------------------------------------------------

    @property
    def data_folder(self) -> Path:
        """Return a private folder of this service that outlasts restarts; created on first use."""
        self._data_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._data_folder

    @property
    def agent(self) -> str:
        """Return the NAME of the agent that this service belongs to; empty for a shared service."""
        return self.client.agent

    @property
    def agent_id(self) -> str:
        """Return the id of the agent's character."""
        return self._settings.character.agent_id

    @property
    def character(self) -> Character:
        """Return the agent's character; the default one for a shared service."""
        return self._settings.character

    def get_setting(self, key: str, default: Any = None) -> Any:
        """Return a setting.

        The first that has the key decides: the character (`secrets`, `settings`,
        `settings.secrets`), the secrets that the config grants to this service, its environment,
        the default. An empty text, 0 and False are values; null is not. A key that exists where
        this service cannot read it is logged once, and named in `garrison status`.
        """
        return self._settings.get(key, default)

    @property
    def paused(self) -> bool:
        """Return whether an operator has paused this service: calls and posted messages wait, and
        `every` calls nothing. Work of its own that goes on by itself looks at this."""
        return pausing.is_paused(self.client, self.name)

    async def until_resumed(self) -> None:
        """Return when this service is not paused; at once if it is not."""
        await pausing.until_resumed(self.client, self.name)

    def ready(self, service: Any) -> None:
        """Report, from within a `start` that blocks while its connection lives, that the service
        runs. When that `start` returns or raises later, the service has crashed.

        Args:
            service: The service, as `start` would return it.
        """
        if not self._reports.ready.done():
            self._reports.ready.set_result(service)

    def spawn(
        self,
        work: Coroutine[Any, Any, Any],
        name: str | None = None,
        essential: bool | None = None,
    ) -> "asyncio.Task[None]":
        """Run a coroutine until the service stops, which cancels it.

        An exception in it is a crash of the service. `SystemExit` without a code, or with 0, ends
        the service cleanly.

        Args:
            work: A coroutine: `spawn(self.poll())`.
            name: The task's name in logs and stack dumps.
            essential: True: the service crashes if the work returns or is cancelled before the
                service stops. False: it may do either. None: `garrison status` warns if the work
                is cancelled, or if work that was spawned before the service ran returns.
        """
        return self._background.spawn(work, name, essential)

    async def process(
        self,
        command: Sequence[str | Path],
        *,
        scope: Literal["call", "service"] = "call",
        idle: float | None = None,
        stdin: Stream = DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
    ) -> ChildProcess:
        """Start a process that ends, with all that it starts, when its scope does.

        Args:
            command: The program and its arguments, without a shell.
            scope: "call": it ends with the call, or other task, that started it; "service": with
                the service, also when that is killed.
            idle: Seconds without a `process.use()` after which it ends; None: it may be idle.
            stdin: Its standard input: `asyncio.subprocess.PIPE` or `DEVNULL`.
            stdout: Its standard output: the same; None: the service's log, from which no secrets
                are removed.
            stderr: Its standard error, as `stdout`.
            env: What its environment has besides PATH, HOME, language and the like. The service's
                secrets are not in it.
            cwd: The folder in which it starts; None: that of the service.

        Raises:
            OSError: It cannot be started.
            RuntimeError: The service has 64 already, or stops.
        """
        return await self._background.children.start(
            command,
            scope,
            idle,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=env,
            cwd=cwd,
        )

    def report(self, **facts: float) -> None:
        """Show numbers in `garrison status`, at most 16. They replace those reported before."""
        self._reports.report(facts)

    def count_tokens(self, **counts: int) -> None:
        """Add to the tokens that the request took which a model's handler is running for.

        Outside of one it does nothing. At most 16 kinds are kept.

        Args:
            counts: Kind to number, such as `input=812, output=64`.
        """
        count_tokens(counts)

    def count_cost(self, cost: float) -> None:
        """Add to what that request costs, in the config's own currency; likewise."""
        count_cost(cost)

    def redacted(self, text: str) -> str:
        """Return a text in which `[NAME]` stands for each of the service's own secrets."""
        return self._redact(text)

    def was_forgotten(self, source: str, person: str, stored_at: float = 0.0) -> bool:
        """Return whether what was stored of a person is to be erased: `garrison person forget`
        was called for them since. A `start` asks this of what a restored backup may contain.

        Args:
            source: NAME of the platform's service; empty: the row states none.
            person: The id on the platform.
            stored_at: When it was stored, in Unix seconds.
        """
        return self.tombstones.was_forgotten(source, person, stored_at)

    def warn(self, key: str, text: str | None) -> None:
        """Show a line, marked with `!`, in `garrison status` while it is true.

        At most 16 lines of 200 characters are shown; a further one replaces the oldest.

        Args:
            key: Which warning it is. It replaces the one with the same key, and is not shown.
            text: The line; None, or an empty text, removes it.
        """
        self._reports.warn(key, text)

    def incident(self, event: str, reason: str, service: str = "", **fields: str) -> None:
        """Report what an operator is to know: an event of the host, on which hooks are run.

        The same one is reported once in 60 seconds. It also works in a thread.

        Args:
            event: "answer.failed", "budget.reached", "mail.dead" or "task.paused".
            reason: What happened, and why.
            service: NAME of the service that it concerns; empty: this one.
            fields: Further fields of the event, at most 8.

        Raises:
            ValueError: There is no such event.
        """
        self._reports.incidents.add(event, reason, service, fields)

    def extend(self, seconds: float, reason: str = "") -> None:
        """Move the deadline of a `start` or a `stop` that advances: it ends `seconds` from now.

        Call it again while the work goes on; it never shortens a deadline, and in a service that
        runs it does nothing. It also works in a thread.

        Args:
            seconds: At most 3600.
            reason: What takes so long; shown in `garrison status`.

        Raises:
            ValueError: The seconds are none, or more than that.
            TypeError: They are no number.
        """
        self._reports.move_deadline(seconds, reason)

    # --- other services ---------------------------------------------------------------------

    @overload
    def get_service(self, wanted: str) -> ServiceProxy | None: ...
    @overload
    def get_service(self, wanted: Callable[..., T]) -> T | None: ...
    def get_service(self, wanted: Any) -> Any:
        """Return a proxy of a service at once, or None where no such service is configured.

        The proxy outlives restarts. Within an agent, its own services precede the shared ones.

        Args:
            wanted: A NAME; a service_type, which means the first wanted service of that type in
                config order; or a class or Protocol with a `service_type`, whose annotations
                convert results.
        """
        return self.client.get_service(wanted)

    @overload
    def get_services_by_type(self, wanted: str) -> list[ServiceProxy]: ...
    @overload
    def get_services_by_type(self, wanted: Callable[..., T]) -> list[T]: ...
    def get_services_by_type(self, wanted: Any) -> Any:
        """Return proxies of all services of a type, in config order."""
        return self.client.get_services_by_type(wanted)

    def get_all_services(self) -> dict[str, list[ServiceProxy]]:
        """Return proxies of all services, by service_type."""
        return self.client.get_all_services()

    def has_service(self, wanted: str | Callable[..., object]) -> bool:
        """Return whether such a service is configured; arguments as of `get_service`."""
        return self.client.has_service(wanted)

    def get_registered_service_types(self) -> list[str]:
        """Return all service types, in config order."""
        return self.client.get_registered_service_types()

    def get_service_registration_status(
        self, wanted: str | Callable[..., object]
    ) -> RegistrationStatus:
        """Return how far a service is: "registered" while it runs, "registering" while it starts,
        "pending" before that and while it is stopped, "failed", or "unknown"."""
        return self.client.get_service_registration_status(wanted)

    @overload
    async def get_service_load_promise(self, wanted: str, timeout: float = ...) -> ServiceProxy: ...
    @overload
    async def get_service_load_promise(
        self, wanted: Callable[..., T], timeout: float = ...
    ) -> T: ...
    async def get_service_load_promise(self, wanted: Any, timeout: float = 30.0) -> Any:
        """Return a proxy of a service once it is running.

        Raises:
            ServiceUnavailable: It is not configured, has failed, or did not run in time.
        """
        return await self.client.get_service_load_promise(wanted, timeout)

    async def post(
        self,
        service: str | Callable[..., object],
        method: str,
        *args: Any,
        key: str | None = None,
        expires: float | None = None,
        lane: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Post a call that outlasts crashes of either side; return the message's id once it is on
        disk. The mailbox delivers in order, at least once.

        Args:
            service: As of `get_service`.
            method: One of its methods; not a stream.
            args: Positional arguments of the method.
            key: Messages with the same key are one message: post again safely after an error.
            expires: Seconds after which an undelivered message is dropped; None is never.
            lane: Messages of one lane are delivered in order, different lanes side by side, as many
                as the receiver's `mail_window`. None: in order with all others without a lane; for
                an agent's `process_actions`, the message's source and room.
            kwargs: Keyword arguments of the method.

        Raises:
            ServiceUnavailable: The service, or the mailbox, is not configured.
            InvalidCall: There is no such method, the arguments cannot be encoded, or a message to
                an agent has no source to which its answer could be sent.
            Overloaded: The mailbox is full; post again later.
            ServiceLost: The mailbox's process ended during the call; the message may be on disk.
                With a key, the post was already repeated, and may be repeated again.
        """
        entry, own = self.client.entry_of(service), self.client.directory.get(self.name)
        args, kwargs, lane = posting.prepared(entry, method, args, kwargs, lane, own)
        return await self.client.post(
            service, method, *args, key=key, expires=expires, lane=lane, **kwargs
        )

    @property
    def message(self) -> PostedMessage | None:
        """Return the posted message that the method runs for; None in an ordinary call."""
        return MESSAGE.get()

    @property
    def attribution(self) -> Attribution | None:
        """Return the answer that the method which runs is a part of: its agent, the room and the
        person, or the task; None where it is a part of none."""
        return ATTRIBUTION.get()

    @property
    def caller(self) -> Caller | None:
        """Return the service that called the method that runs, or posted its message; None for a
        program, and where no method runs."""
        message = MESSAGE.get()
        if message is not None:
            entry = self.client.directory.get(message.sender)
        else:
            entry = self.client.directory.of_token(CALLER.get())
        return (
            None if entry is None else Caller(entry.name, entry.agent, entry.manifest.service_type)
        )

    @property
    def time_left(self) -> float:
        """Return the seconds until the deadline of the call that the method runs for; infinite in
        a stream, and where no method runs."""
        return max(DEADLINE.get() - self.client.now(), 0.0)

    # --- events -----------------------------------------------------------------------------

    def register_event(self, event: str, handler: Handler) -> None:
        """Call `handler(payload)`, `async def` or plain, for every event of a name.

        Raises:
            TypeError: The name is not a text, or the handler is not callable.
        """
        self._events.register(event, handler)

    async def emit_event(self, event: str, payload: Any = None, durable: bool = False) -> None:
        """Emit an event to all subscribers, in this service and in others.

        Returns when each has handled it or failed. A failure is logged and does not affect others.

        Args:
            event: The event's name.
            payload: Any value that can be encoded.
            durable: Post it through the mailbox to every service that has ever subscribed; return
                when it is on disk.
        """
        await self._events.emit(event, payload, durable)
