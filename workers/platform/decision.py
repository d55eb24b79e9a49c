"""What to do about one part of an answer, by what the send log has of it. Pure.

Durations are seconds.
"""

from enum import Enum
from typing import Literal, NamedTuple


class SendState(Enum):
    """What the send log has of a part."""

    SENDING = "sending"  # `deliver` may have been called
    SENT = "sent"
    REFUSED = "refused"  # for good
    UNCERTAIN = "uncertain"


class Step(Enum):
    """What comes next."""

    DELIVER = "deliver"
    WAIT = "wait"  # for a send of an earlier process, which may still be under way
    QUERY = "query"  # whether the platform has the part
    GIVE_UP = "give up"  # record it as uncertain
    DONE = "done"  # the log has the outcome


class SendPolicy(NamedTuple):
    """How a platform's sends are decided."""

    settle: float  # seconds after which a send of a process that has ended is no longer under way
    can_query: bool  # its author wrote `was_delivered`
    uncertain: Literal["skip", "repeat"]
    log_lost: bool = False  # the log does not have every send of the last days


def next_step(
    state: SendState | None, elapsed: float, policy: SendPolicy, expect: bool = False
) -> Step:
    """Return the first step of a request.

    Args:
        state: The log's; None: it has no such part.
        elapsed: Seconds since the logged time of a part that is `SENDING`.
        policy: The platform's.
        expect: The part may have been sent before.
    """
    match state:
        case SendState.SENT | SendState.REFUSED:
            return Step.DONE
        case SendState.UNCERTAIN:  # the platform may know by now
            return Step.QUERY if policy.can_query else Step.DONE
        case SendState.SENDING:
            return Step.WAIT if elapsed < policy.settle else doubtful(policy)
        case None:
            if not expect:
                return Step.DELIVER
            if policy.can_query:
                return Step.QUERY
            return doubtful(policy) if policy.log_lost else Step.DELIVER


def doubtful(policy: SendPolicy, can_answer: bool = True) -> Step:
    """Return the step for a part that may have been delivered, or may not.

    Args:
        policy: The platform's.
        can_answer: Whether the platform, if it can be queried, answers.
    """
    if policy.can_query and can_answer:
        return Step.QUERY
    return Step.DELIVER if policy.uncertain == "repeat" else Step.GIVE_UP


REBOOT_MOST = 86_400.0  # seconds that a reboot counts for: the wall clock may be wrong after it

Clocks = tuple[float, str, float]  # Unix time, id of the boot, seconds since it


def advanced(before: Clocks, now: Clocks) -> float:
    """Return the seconds by which the time of a log advances between two readings of the clocks.

    It is never more than the time that has passed, as far as that is known: rows that are kept too
    long do no harm.
    """
    elapsed = elapsed_since(*before, now)
    if elapsed == float("inf"):
        return min(max(now[0] - before[0], 0.0), REBOOT_MOST)
    return elapsed


def elapsed_since(wall: float, boot: str, uptime: float, now: Clocks) -> float:
    """Return the seconds since a logged time, as far as the clocks show.

    Within one boot that is exact. Across a reboot, no send of a process is under way any more.

    Args:
        wall: The logged Unix time.
        boot: The logged boot's id; empty: not known.
        uptime: Seconds from that boot to the logged time, suspended time included.
        now: The same three, now.
    """
    wall_now, boot_now, uptime_now = now
    if boot and boot_now:
        return max(uptime_now - uptime, 0.0) if boot == boot_now else float("inf")
    return max(wall_now - wall, 0.0)
