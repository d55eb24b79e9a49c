"""What proxies, streams and posting use of a client."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

from .call_start import StartsCalls
from .calls import Calls
from .directory import Directory
from .errors import CallError
from .messages import LONGEST_TIMEOUT, Entry, Value

if TYPE_CHECKING:
    from .joined_posts import JoinedPosts, Post


def check_number(seconds: object, what: str) -> None:
    """Check that seconds are a number. One may come from a config as text.

    Args:
        seconds: What was given; Decimal and numpy's numbers count.
        what: What takes it.

    Raises:
        TypeError: It is no number.
    """
    if not hasattr(type(seconds), "__float__"):
        raise TypeError(
            f"{what} a number of seconds, not {type(seconds).__name__}: {seconds!r:.80}"
        )


def bounded_seconds(seconds: float) -> float:
    """Return a number of seconds, 366 days at most.

    Raises:
        ValueError: It is below 0, or nan.
        TypeError: It is no number.
    """
    check_number(seconds, "a timeout is")
    if not seconds >= 0:
        raise ValueError(f"a timeout is a number of seconds from 0, not {seconds!r}")
    return min(seconds, LONGEST_TIMEOUT)


class ItemSink(Protocol):
    """Receives the items and the end of a stream."""

    @property
    def wants_more(self) -> bool:
        """Return True if a consumer waits for the next item."""
        ...

    def arrived(self, value: Value) -> None:
        """Take the next item."""

    def settle(self, outcome: Value | CallError) -> None:
        """Take the stream's end."""


class Caller(StartsCalls, Protocol):
    """A process's way to call services, as `Client` has it."""

    name: str
    agent: str
    loop: asyncio.AbstractEventLoop
    thread: int
    now: Callable[[], float]
    calls: Calls
    posts: "JoinedPosts"
    directory: Directory
    proxies: "WeakValueDictionary[int, Any]"

    @property
    def max_message(self) -> int:
        """Return the largest message, in bytes."""
        ...

    def entry_of(self, wanted: str | Callable[..., object]) -> Entry | None:
        """Return the directory's entry of a NAME or type."""
        ...

    def new_post(self, request: Any, size: int, keyed: bool) -> "Post | None":
        """Return a post with its deadline; None if it is to be a call of its own."""
        ...

    def stream(
        self,
        name: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        timeout: float | None,
        stream: ItemSink,
    ) -> int:
        """Start a stream; return its call's id."""
        ...

    def cancel(self, call_id: int) -> None:
        """Cancel a call."""

    def schedule(self) -> None:
        """Set the timer to the next deadline."""
