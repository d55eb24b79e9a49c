"""`Service`: the class that an author subclasses; service types; idempotent methods."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, TypeVar

from garrison.ipc.caller import check_number

from .agents.components import IDEMPOTENT
from .background import Ticks
from .runtime import Runtime


class ServiceType:
    """The core's service types.

    A plugin may use any other text, or subclass this to add its own, which type checkers know:
    `class MyServiceType(ServiceType): DISCORD: Final = "discord"`.
    """

    TRANSCRIPTION: Final = "transcription"
    VIDEO: Final = "video"
    BROWSER: Final = "browser"
    PDF: Final = "pdf"
    REMOTE_FILES: Final = "aws_s3"
    WEB_SEARCH: Final = "web_search"
    EMAIL: Final = "email"
    TEE: Final = "tee"
    TASK: Final = "task"
    WALLET: Final = "wallet"
    LP_POOL: Final = "lp_pool"
    TOKEN_DATA: Final = "token_data"
    MESSAGE_SERVICE: Final = "message_service"
    MESSAGE: Final = "message"
    POST: Final = "post"
    UNKNOWN: Final = "unknown"

    def __init_subclass__(cls) -> None:
        """Check a plugin's types.

        Raises:
            TypeError: One is no text, or empty.
        """
        super().__init_subclass__()
        for name, value in vars(cls).items():
            if not name.startswith("_") and not (isinstance(value, str) and value):
                raise TypeError(
                    f"{cls.__name__}.{name} is {value!r:.80}; a service type is a text, for "
                    f'instance {name}: Final = "{name.lower()}"'
                )


class Service:
    """A long-running task that extends the agent, in a process of its own.

    Its public methods can be called by other services: `async def`, plain `def` (run in a thread)
    and asynchronous generators (streams). Reserved names: `start`, `stop`, `config`, `runtime`,
    `spawn`, `every` and `register_send_handlers`.

    A method `async def health(self) -> bool` is optional. The worker calls it every
    `health_interval` seconds; other services cannot call it. Two consecutive failures restart the
    service: a false result other than None, an exception, or no answer within the interval. A
    `health` that requires arguments, or that is not `async def`, is an ordinary method.

    Methods `forget_person(source, person)` and `export_person(source, person)` are optional, of a
    service that keeps something of persons: `garrison person forget` and `export` call them. The
    first erases it, and returns how much by kind, `dict[str, int]`; it may be called twice. The
    second is an asynchronous generator of mappings, one for each record, whose `store` is the kind.
    `source` is NAME of a platform's service, `person` the id there, as a memory's `entity_id`.

    Attributes:
        service_type: The type that `get_service` finds it by.
        capability_description: One sentence on what it does.
        mail_window: Number of posted messages that it handles concurrently.
        secrets: NAME of each secret that it needs, and where a user gets one, as the end of the
            sentence "get one at …". `garrison check` and `garrison init --with` show it.
        config: The runtime's `config`.
    """

    service_type: ClassVar[str] = ""
    capability_description: str = ""
    mail_window: ClassVar[int] = 1
    secrets: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime = runtime
        if runtime is not None:
            self.config: Any = runtime.config

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Return the running service.

        An exception is logged, and the start is tried again later, with a growing delay.

        Raises:
            PermanentFailure: A retry cannot help, for instance with an invalid token.
        """
        return cls(runtime)

    async def stop(self) -> None:
        """Close what `start` opened. Work of `spawn` and `every` is cancelled afterwards."""

    @classmethod
    def register_send_handlers(cls, runtime: Runtime, service: Self) -> Awaitable[None] | None:
        """Register the functions that send messages for this service, after its start.

        Without one, messages are sent with its method `send_message(channel, text)`.
        """

    @property
    def runtime(self) -> Runtime:
        """Return the runtime that the service was created with.

        Raises:
            RuntimeError: It was created without one.
        """
        runtime: Runtime | None = self.__dict__.get("_runtime")
        if runtime is None:
            raise RuntimeError(
                f"{type(self).__name__} was created without a runtime; create it with cls(runtime)"
            )
        return runtime

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
            work: A coroutine: `self.spawn(self.poll())`.
            name: The task's name in logs and stack dumps.
            essential: True: the service crashes if the work returns or is cancelled before the
                service stops. False: it may do either. None: `garrison status` warns if the work
                is cancelled, or if work that was spawned before the service ran returns.
        """
        return self.runtime.spawn(work, name, essential)

    def every(
        self,
        seconds: float,
        work: Callable[[], Awaitable[Any] | Any],
        while_paused: bool = False,
    ) -> "asyncio.Task[None]":
        """Call a function periodically until the service stops.

        The first call is after one period; calls never overlap. Missed ones, in a loop that stood
        still or during a call that took longer, are one call, and the next comes a period after
        it, as are those that `garrison pause` held back. An exception is a crash of the service.

        Args:
            seconds: The period.
            work: `async def`, or a plain function, which runs in the event loop and must not block.
            while_paused: Call it also while the service is paused: it keeps a connection or a file
                in order, for example.

        Raises:
            ValueError: The period is not above 0.
            TypeError: It is no number.
        """
        check_number(seconds, "every takes")
        if not 0 < seconds < float("inf"):
            raise ValueError(f"every takes a number of seconds above 0, not {seconds!r}")

        async def repeat() -> None:
            loop = asyncio.get_running_loop()
            ticks = Ticks(seconds, loop.time())
            while True:
                await asyncio.sleep(max(ticks.due - loop.time(), 0))
                if not while_paused:
                    await self.runtime.until_resumed()
                ticks.begin(loop.time())
                result = work()
                if inspect.isawaitable(result):
                    await result

        return self.spawn(repeat(), getattr(work, "__name__", None))

    if TYPE_CHECKING:
        # `start` may set attributes that the class does not declare: `service.client = …`
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


F = TypeVar("F", bound=Callable[..., Any])


def idempotent(method: F) -> F:
    """Mark a method as safe to run twice.

    A call that is lost with its worker or with the router is sent again within its deadline, at
    most twice. The mark has no effect on a stream.
    """
    setattr(method, IDEMPOTENT, True)
    return method


RESERVED = frozenset(
    {
        "start",
        "stop",
        "health",
        "dead_letter",
        "config",
        "runtime",
        "spawn",
        "every",
        "register_send_handlers",
    }
)
