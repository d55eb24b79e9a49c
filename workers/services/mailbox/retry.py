"""The outcome of a delivery: acknowledge, retry, redeliver, or dead letter. Pure. Seconds."""

from enum import Enum
from typing import NamedTuple

import msgspec

from garrison.ipc import (
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.workers import Busy, NotSent, RetryLater

from .checksums import DEAD, WAITING, Message

# Delay between attempts: doubles up to the maximum, with full jitter.
INITIAL_BACKOFF_S, MAX_BACKOFF_S = 0.5, 60.0
MAX_DEATHS = 2  # receiver crashes with the message in flight: the message causes them
MAX_REASON = 2_000  # characters
BUSY_S = 5.0  # before the next attempt at a receiver that does not state when it has room
MIN_RETRY_LATER_S = 0.05  # a receiver that names no time must not be called in a loop


class DeliveryLimits(NamedTuple):
    """Limits from the service's config."""

    timeout: float  # seconds for one delivery
    max_attempts: int
    retry_for: float  # seconds after the post in which RetryLater and Busy are followed


class Outcome(Enum):
    """What to do with a message after a delivery."""

    ACKNOWLEDGE = "acknowledge"
    RETRY = "retry"  # after the delay
    REDELIVER = "redeliver"  # as soon as the receiver is there; no attempt is counted
    DEAD_LETTER = "dead letter"


class Decision(msgspec.Struct, frozen=True):
    """The outcome, the message with its counters updated, and the delay of a retry."""

    outcome: Outcome
    message: Message
    delay: float = 0.0


def decide(
    message: Message,
    error: CallError | None,
    limits: DeliveryLimits,
    now: float,
    jitter: float,
    is_alone: bool = True,
) -> Decision:
    """Return the outcome of a delivery.

    Args:
        message: The message before the delivery.
        error: Why the delivery failed; None if it was handled.
        limits: What makes the message a dead letter.
        now: The mailbox's time, for `died_at`.
        jitter: A random number from 0 to 1.
        is_alone: No other message was in delivery to the receiver.
    """
    match error:
        case None:
            return Decision(Outcome.ACKNOWLEDGE, message)
        case ServiceUnavailable() | Overloaded():
            return Decision(Outcome.REDELIVER, message)
        case InvalidCall() | NotSent():  # refused for good: no attempt changes that
            return _dead_letter(message, _error_text(message, error), now)
        case ServiceLost() if not error.died:
            return Decision(Outcome.REDELIVER, message)
        case ServiceLost():
            return _after_crash(message, error, now, is_alone)
        case RetryLater():
            return _after_putting_off(message, error, error.seconds, limits, now)
        case Busy():  # nothing was done: a flood must not make dead letters
            wait = BUSY_S * jitter if error.retry_after is None else error.retry_after
            return _after_putting_off(message, error, wait, limits, now)
        case RemoteError() | CallTimeout() | _:
            return _after_failure(message, error, limits.max_attempts, now, jitter)


def _after_crash(message: Message, error: ServiceLost, now: float, is_alone: bool) -> Decision:
    death = f"{message.receiver}-{error.generation}"
    counted = msgspec.structs.replace(
        message, deaths=message.deaths + is_alone, death=death, died_at=None
    )
    reason = _error_text(message, error)
    if not is_alone:
        reason = f"the receiver died with this and other messages in delivery: {reason}"
        return Decision(Outcome.RETRY, msgspec.structs.replace(counted, reason=reason[:MAX_REASON]))
    if counted.deaths >= MAX_DEATHS:
        reason = f"the receiver crashed {counted.deaths} times while handling it: {reason}"
        return _dead_letter(counted, reason, now)
    return Decision(Outcome.RETRY, msgspec.structs.replace(counted, reason=reason))


def _after_failure(
    message: Message, error: CallError, max_attempts: int, now: float, jitter: float
) -> Decision:
    reason = _error_text(message, error)
    counted = msgspec.structs.replace(message, attempts=message.attempts + 1, reason=reason)
    if counted.attempts >= max_attempts:
        return _dead_letter(counted, f"{_tries(counted.attempts)} failed: {reason}", now)
    limit = min(INITIAL_BACKOFF_S * 2.0 ** min(counted.attempts - 1, 32), MAX_BACKOFF_S)
    return _retry(counted, limit * jitter, now)


def _after_putting_off(
    message: Message, error: CallError, seconds: float, limits: DeliveryLimits, now: float
) -> Decision:
    """The receiver put the message off: that is no failed attempt."""
    reason = _error_text(message, error)
    left = message.posted_at + limits.retry_for - now
    if left <= 0:
        reason = f"retry_for ({limits.retry_for:g} s) is over: {reason}"
        return _dead_letter(message, reason, now)
    noted = msgspec.structs.replace(message, reason=reason[:MAX_REASON])
    return _retry(noted, min(max(seconds, MIN_RETRY_LATER_S), left), now)


def _retry(message: Message, delay: float, now: float) -> Decision:
    due = now + delay if delay > 0 else None
    return Decision(Outcome.RETRY, msgspec.structs.replace(message, died_at=due), delay)


def is_expired(message: Message, now: float) -> bool:
    """Return True if it is too late to deliver a message. Dead letters do not expire."""
    return message.state == WAITING and message.expires_at is not None and now >= message.expires_at


def _dead_letter(message: Message, reason: str, now: float) -> Decision:
    dead = msgspec.structs.replace(message, state=DEAD, reason=reason[:MAX_REASON], died_at=now)
    return Decision(Outcome.DEAD_LETTER, dead)


def _error_text(message: Message, error: CallError) -> str:
    """Return the error's text with the posted method in place of the internal delivery method."""
    return str(error).replace(
        f"{error.service}.{error.method} ", f"{error.service}.{message.method} ", 1
    )


def _tries(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
