"""What a worker does with its session in addition to a program."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import msgspec

from . import messages
from .messages import Token, Upward


class WorkerHooks(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker does in addition to a program. Each is called from the session's loop.

    Attributes:
        redact: Returns a message to the supervisor without secrets.
        welcomed: A Welcome was applied; True if it came from another supervisor than the last.
        ordered: The supervisor requests a drain or stack dump, or rejects this worker.
        batch_read: A batch from an incarnation or program is about to be handled.
        synced: What is read from now on came through another router than before.
        router_changed: Calls that arrived through the former router can no longer be answered.
        peer_ended: An incarnation ended, so its calls need no answer.
        broken: Messages may be lost although the supervisor runs on: this process must end, which
            settles every call. With the reason.
    """

    redact: Callable[[Upward], Upward]
    welcomed: Callable[[messages.Welcome, bool], None]
    ordered: Callable[[messages.Drain | messages.ShowTasks | messages.Rejected], None]
    batch_read: Callable[[Token], None]
    synced: Callable[[], None]
    router_changed: Callable[[], None]
    peer_ended: Callable[[Token], None]
    broken: Callable[[str], None] = lambda reason: None


DirectOrder: TypeAlias = messages.AcceptDirect | messages.GrantDirect | messages.RevokeDirect


class DirectHooks(Protocol):
    """What a worker's session does by its direct routes, see `direct.Direct`."""

    def ordered(self, message: DirectOrder) -> None:
        """Take an order of the supervisor."""

    def passed(self, source: Token, number: int) -> None:
        """Take the answer to a barrier."""

    def ended(self, message: messages.Ended) -> bool:
        """Take the notice of an end; return True if `Session.lose` is called for it later."""
        ...

    def close(self) -> None:
        """Close all routes."""
