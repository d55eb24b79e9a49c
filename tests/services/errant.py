"""A service whose errors cannot be handled as others are, and whose results cannot travel."""

import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from garrison.workers import (
    Busy,
    DeclaredError,
    ModelError,
    NotSent,
    Plugin,
    RetryLater,
    Runtime,
    Service,
)


class QuotaSpent(DeclaredError):
    """No more today."""

    limit: int


class Unsendable(DeclaredError):
    """An error of which a field cannot travel."""

    lock: object


class Own(BaseException):
    """An exception that is no Exception."""


class Unprintable(Exception):
    """An exception that raises whenever it is read."""

    def __str__(self) -> str:
        raise Own("no text")

    def __repr__(self) -> str:
        raise Own("no repr")

    @property
    def __notes__(self) -> Any:  # type: ignore[override]
        raise Own("no notes")


class Endless(Exception):
    """An exception whose text recurses."""

    def __str__(self) -> str:
        return f"<{self}>"

    __repr__ = __str__


class Secretive(Exception):
    """An exception of which nothing can be read."""

    def __getattribute__(self, name: str) -> Any:
        raise Own(f"no {name}")


class Traceless(Exception):
    """An exception that hides its frames."""

    @property
    def __traceback__(self) -> Any:  # type: ignore[override]
        raise Own("no traceback")


ERRORS: dict[str, Callable[[], BaseException]] = {
    "own": lambda: Own("of my own"),
    "unprintable": Unprintable,
    "endless": Endless,
    "generator-exit": GeneratorExit,
    "cause": lambda: _with_cause(),
    "secretive": Secretive,
    "traceless": Traceless,
    "model": lambda: ModelError("busy", 3, "429"),
    "later": lambda: RetryLater(900, "too many logins"),
    "busy": lambda: Busy("full"),
    "not-sent": lambda: NotSent("forbidden"),
    "quota": lambda: QuotaSpent("no more", limit=3),
    "unsendable": lambda: Unsendable("no", lock=threading.Lock()),
}


def _with_cause() -> Exception:
    error = ValueError("outer")
    error.__cause__ = Unprintable()
    return error


def fail(kind: str) -> None:
    """Raise one of the errors."""
    if kind == "interrupt":  # not one of them: it ends the process
        raise KeyboardInterrupt("by the author")
    raise ERRORS[kind]()


class Errant(Service):
    """Raises what it is asked for."""

    service_type = "errant"

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.checks: list[str] = []

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Fail where the config says so."""
        service = cls(runtime)
        runtime.register_event("fail", fail)
        if kind := runtime.config.get("start"):
            fail(kind)
        return service

    async def health(self) -> bool:
        """Fail once for each error that is left."""
        if self.checks:
            fail(self.checks.pop())
        return True

    async def fail_checks(self) -> None:
        """Let the next health check fail."""
        self.checks = ["unprintable"]

    async def fail(self, kind: str) -> None:
        """Fail in the loop."""
        fail(kind)

    async def pass_on(self, service: str, kind: str) -> None:
        """Let another service fail, and do not handle its error."""
        other: Any = self.runtime.get_service(service)
        await other.fail(kind)

    def fail_in_a_thread(self, kind: str) -> None:
        """Fail in a thread."""
        fail(kind)

    async def fail_in_a_stream(self, kind: str) -> AsyncIterator[int]:
        """Fail after an item."""
        yield 1
        fail(kind)

    async def emit(self, kind: str) -> str:
        """Emit an event to this service itself and to the others."""
        await self.runtime.emit_event("fail", kind)
        return "returned"

    async def local(self) -> Any:
        """Return what cannot travel."""
        return {"rows": [1, {"lock": threading.Lock()}]}

    async def local_items(self) -> AsyncIterator[Any]:
        """Yield what cannot travel."""
        yield [threading.Lock()]

    async def anything(self, value: object) -> object:
        """Return any value."""
        return value

    async def suffix(self, path: Path, other: str | Path = "") -> Path:
        """Return a path."""
        return path.with_suffix(".bak")


async def init(config: dict[str, Any], runtime: Runtime) -> None:
    """Fail where the config says so."""
    if kind := config.get("init"):
        fail(kind)


plugin = Plugin(name="errant", services=[Errant], init=init)
