"""Whether a worker on another machine is silent itself, or its messages are held up. Pure.

A connection that a partition has interrupted may stay silent for as long again after it: TCP
doubles the time to its next attempt (RFC 6298, 5.5). So the silence of a worker says little about
its loop. The report of its machine says more: when the loop turned last, as was read there. Times
are monotonic seconds of the supervisor.
"""

from math import inf
from typing import NamedTuple

DEAF_SILENCES = 2  # times the longest silence of a connection


class Contact(NamedTuple):
    """What is known of a worker on another machine.

    Attributes:
        sure_at: When its machine was heard of last. After a partition, when it was before that,
            until the worker's own connection had the time to come back.
        held_up: Whether its messages may be held up now.
        loop_s: For how long its loop had not turned, by the last report of its machine; None: that
            does not know it.
        reported_at: When that report arrived.
        silence_s: For how long a connection may carry nothing until the kernel ends it.
    """

    sure_at: float
    held_up: bool
    loop_s: float | None = None
    reported_at: float = -inf
    silence_s: float = inf


def is_own(contact: Contact, heard_at: float, watchdog: float) -> bool:
    """Return whether a worker that runs is silent because its loop does not turn.

    Args:
        contact: What is known of it.
        heard_at: When it was heard of last.
        watchdog: Its watchdog, which is over.
    """
    if contact.reported_at <= heard_at:  # that was before the silence
        return False
    if contact.loop_s is None:
        # Beats come four times within a watchdog. So a machine that was heard of half a watchdog
        # after the last one has none under way.
        return contact.sure_at >= heard_at + watchdog / 2
    if contact.loop_s >= watchdog:
        return True
    # Its connection would have ended, and another one begun: something on the way keeps it.
    return contact.sure_at > heard_at + watchdog + DEAF_SILENCES * contact.silence_s


def waits(contact: Contact, due_at: float, now: float) -> bool:
    """Return whether a deadline waits for what a worker may have sent.

    Args:
        contact: What is known of it.
        due_at: When the deadline came first: a network that fails again and again holds up no
            longer than a connection would.
        now: The time.
    """
    return contact.held_up and now < due_at + contact.silence_s
