"""What an author subclasses: one service, and the types of services that there are."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

if TYPE_CHECKING:
    from .runtime import Runtime


class ServiceType:
    """The core's service types; a plugin adds its own by subclassing, or just uses a string."""

    TRANSCRIPTION = "transcription"
    VIDEO = "video"
    BROWSER = "browser"
    PDF = "pdf"
    REMOTE_FILES = "aws_s3"
    WEB_SEARCH = "web_search"
    EMAIL = "email"
    TEE = "tee"
    TASK = "task"
    WALLET = "wallet"
    LP_POOL = "lp_pool"
    TOKEN_DATA = "token_data"
    MESSAGE_SERVICE = "message_service"
    MESSAGE = "message"
    POST = "post"
    UNKNOWN = "unknown"


class Service:
    """A long-running task that extends the agent, in a process of its own.

    Its public methods are what other services call: `async def`, plain `def` (run in a thread) and
    asynchronous generators (streams). `start`, `stop`, `config`, `runtime` and
    `register_send_handlers` are reserved, and so are `spawn` and `every`.

    An `async def health(self) -> bool` is optional. Its worker asks it every `health_interval`, and
    nobody else can. What is false, raises or comes late, twice in a row, has the service restarted;
    None is as good as True. One that takes arguments, or is no `async def`, is a method like any.
    """

    service_type: ClassVar[str] = ""
    capability_description: str = ""
    mail_window: ClassVar[int] = 1  # posted messages that it handles at the same time

    def __init__(self, runtime: "Runtime | None" = None) -> None:
        self._runtime = runtime
        if runtime is not None:
            self.config: Any = runtime.config

    @classmethod
    async def start(cls, runtime: "Runtime") -> Self:
        """Return the running service. What it raises is logged, and it is tried again later;
        `PermanentFailure` says that trying again is no use."""
        return cls(runtime)

    async def stop(self) -> None:
        """Close what `start` opened; what `spawn` and `every` began ends by itself."""

    @classmethod
    def register_send_handlers(cls, runtime: "Runtime", service: Self) -> Awaitable[None] | None:
        """Register what sends messages for this service, once it has started.

        Without that, `send_message(channel, text)` is what sends them.
        """

    @property
    def runtime(self) -> "Runtime":
        """Return the runtime that the service was made with."""
        runtime: Runtime | None = self.__dict__.get("_runtime")
        if runtime is None:
            raise RuntimeError(
                f"{type(self).__name__} was made without a runtime: make it with cls(runtime)"
            )
        return runtime

    def spawn(
        self, work: Coroutine[Any, Any, Any], name: str | None = None
    ) -> "asyncio.Task[None]":
        """Run work in the background as long as the service lives.

        It is cancelled when the service stops; an exception in it is a crash of the service.
        """
        return self.runtime.spawn(work, name)

    def every(
        self, seconds: float, work: Callable[[], Awaitable[Any] | Any]
    ) -> "asyncio.Task[None]":
        """Call a function every so many seconds, first after as many, never twice at once.

        An exception in it is a crash of the service. A plain function runs in the service's loop.
        """
        if not 0 < seconds < float("inf"):
            raise ValueError(f"every takes a number of seconds above 0, not {seconds!r}")

        async def repeat() -> None:
            loop = asyncio.get_running_loop()
            due = loop.time() + seconds
            while True:
                await asyncio.sleep(max(due - loop.time(), 0))
                result = work()
                if inspect.isawaitable(result):
                    await result
                due = max(due + seconds, loop.time())  # what was missed is not made up for

        return self.spawn(repeat(), getattr(work, "__name__", None))

    if TYPE_CHECKING:
        # `start` fills in what the class does not declare: `service.client = …`
        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


IDEMPOTENT = "__garrison_idempotent__"
F = TypeVar("F", bound=Callable[..., Any])


def idempotent(method: F) -> F:
    """Say of a method that running it twice does no harm.

    A call of it that was lost, with its worker or with the router, is sent again by itself within
    its deadline, twice at the most. Of no meaning for a stream.
    """
    setattr(method, IDEMPOTENT, True)
    return method


RESERVED = frozenset(
    {
        "start",
        "stop",
        "health",
        "config",
        "runtime",
        "spawn",
        "every",
        "register_send_handlers",
    }
)
