"""What a running method passes on to the calls that it makes, as context variables. Pure.

The trace, which it passes on likewise, is in `tracing`. Times are monotonic seconds.
"""

from contextvars import ContextVar

from .messages import Attribution

# Deadline of the method that is running; calls that it makes end by then.
DEADLINE: ContextVar[float] = ContextVar("garrison_deadline", default=float("inf"))
# The methods that led to the running one, and itself last; calls that it makes carry them on.
CHAIN: ContextVar[tuple[str, ...]] = ContextVar("garrison_chain", default=())
# The answer that the running method is a part of; calls that it makes carry it on.
ATTRIBUTION: ContextVar[Attribution | None] = ContextVar("garrison_attribution", default=None)
# The id of the running call, which is the same when the call is sent again, in a list that has it
# until it is taken: what the method calls and starts inherits the list. Set where it is used.
CALL_ID: ContextVar[list[str] | None] = ContextVar("garrison_call_id", default=None)


def take_call_id() -> str:
    """Return the id of the call or posted message that the running method is for; "" if that was
    taken before, or if the method is called by its own process."""
    held = CALL_ID.get()
    return held.pop() if held else ""
