"""What becomes of a message after a delivery: acknowledged, tried again, or a dead letter. Pure.

Times are seconds; `now` is the mailbox's own, `chance` a number from 0 to 1 that the caller drew.
"""

from enum import Enum

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

from .schema import DEAD, WAITING, Message

BACKOFF_FIRST, BACKOFF_MOST = 0.5, 60.0  # between attempts, doubling, with full jitter
DEATHS = 2  # of its receiver, with one message in flight: it is what kills it


class Next(Enum):
    """What is to be done with a letter."""

    ACKNOWLEDGE = "acknowledge"
    AGAIN = "again"  # after a wait
    AWAY = "away"  # its receiver is not to blame: as soon as that is there
    DEAD = "dead"


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a letter."""

    next: Next
    letter: Message
    wait: float = 0.0


def decide(
    letter: Message, error: CallError | None, max_attempts: int, now: float, chance: float
) -> Verdict:
    """Return what becomes of a letter whose delivery ended so.

    Args:
        letter: As it was before.
        error: Why it was not handled; None, it was.
        max_attempts: So many refusals make it a dead letter.
        now: For `died_at`.
        chance: For the jitter.
    """
    match error:
        case None:
            return Verdict(Next.ACKNOWLEDGE, letter)
        case ServiceUnavailable() | Overloaded():
            return Verdict(Next.AWAY, letter)
        case InvalidCall():
            return _dead(letter, _why(letter, error), now)
        case ServiceLost() if not error.died:
            return Verdict(Next.AWAY, letter)
        case ServiceLost():
            death = f"{letter.receiver}-{error.generation}"
            died = msgspec.structs.replace(letter, deaths=letter.deaths + 1, death=death)
            why = _why(letter, error)
            if died.deaths >= DEATHS:
                return _dead(died, f"its receiver died with it {died.deaths} times: {why}", now)
            return Verdict(Next.AGAIN, msgspec.structs.replace(died, reason=why))
        case RemoteError() | CallTimeout() | _:
            why = _why(letter, error)
            tried = msgspec.structs.replace(letter, attempts=letter.attempts + 1, reason=why)
            if tried.attempts >= max_attempts:
                return _dead(tried, f"refused {tried.attempts} times: {why}", now)
            most = min(BACKOFF_FIRST * 2.0 ** min(tried.attempts - 1, 32), BACKOFF_MOST)
            return Verdict(Next.AGAIN, tried, most * chance)


def expired(letter: Message, now: float) -> bool:
    """Tell whether it is too late to deliver a letter."""
    return letter.state == WAITING and letter.expires_at is not None and now >= letter.expires_at


def _dead(letter: Message, reason: str, now: float) -> Verdict:
    dead = msgspec.structs.replace(letter, state=DEAD, reason=reason[:2000], died_at=now)
    return Verdict(Next.DEAD, dead)


def _why(letter: Message, error: CallError) -> str:
    """Return an error's sentence, of the method that its poster named."""
    return str(error).replace(
        f"{error.service}.{error.method} ", f"{error.service}.{letter.method} ", 1
    )
