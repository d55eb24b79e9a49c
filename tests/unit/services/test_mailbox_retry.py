"""What becomes of a posted message after a delivery."""

import msgspec
import pytest

from garrison.ipc import (
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.workers.services.mailbox.retry import (
    BACKOFF_FIRST,
    BACKOFF_MOST,
    Next,
    decide,
    expired,
)
from garrison.workers.services.mailbox.schema import DEAD, WAITING, Message

NOW = 1_000_000.0


def letter(**fields: object) -> Message:
    """Return a message that nothing happened to, but what is said."""
    new = Message(id="1", receiver="bot", method="say", args=b"\x90", kwargs=b"\x80", seq=1)
    return msgspec.structs.replace(new, **fields)


def error(kind: type[CallError]) -> CallError:
    """Return an error of a kind."""
    return kind("bot", "say", "5" if kind is CallTimeout else "it went wrong")


@pytest.mark.parametrize(
    ("before", "kind", "expected", "attempts", "deaths"),
    [
        (letter(), None, Next.ACKNOWLEDGE, 0, 0),
        (letter(), ServiceUnavailable, Next.AWAY, 0, 0),  # never run: it is nobody's fault
        (letter(), Overloaded, Next.AWAY, 0, 0),
        (letter(attempts=9), ServiceUnavailable, Next.AWAY, 9, 0),
        (letter(), RemoteError, Next.AGAIN, 1, 0),
        (letter(attempts=8), RemoteError, Next.AGAIN, 9, 0),
        (letter(attempts=9), RemoteError, Next.DEAD, 10, 0),
        (letter(), CallTimeout, Next.AGAIN, 1, 0),
        (letter(attempts=9), CallTimeout, Next.DEAD, 10, 0),
        (letter(), InvalidCall, Next.DEAD, 0, 0),  # no attempt will ever fit
        (letter(), ServiceLost, Next.AGAIN, 0, 1),
        (letter(deaths=1), ServiceLost, Next.DEAD, 0, 2),
        (letter(attempts=9), ServiceLost, Next.AGAIN, 9, 1),  # deaths are no refusals
        (letter(deaths=1), RemoteError, Next.AGAIN, 1, 1),
    ],
)
def test_each_end_of_a_delivery(
    before: Message, kind: type[CallError] | None, expected: Next, attempts: int, deaths: int
) -> None:
    """Refusals count up to ten, deaths up to two, and what was never run counts nothing."""
    verdict = decide(before, error(kind) if kind else None, 10, NOW, 0.5)

    assert verdict.next is expected
    assert (verdict.letter.attempts, verdict.letter.deaths) == (attempts, deaths)
    assert (verdict.letter.state == DEAD) == (expected is Next.DEAD)
    assert (verdict.letter.died_at == NOW) == (expected is Next.DEAD)


def test_waits_double_up_to_a_minute_with_full_jitter() -> None:
    """Nothing at the least, all at the most; a death waits for the restart alone."""
    waits = [decide(letter(attempts=n), error(RemoteError), 99, NOW, 1.0).wait for n in range(40)]
    assert waits[:3] == [BACKOFF_FIRST, 2 * BACKOFF_FIRST, 4 * BACKOFF_FIRST]
    assert max(waits) == BACKOFF_MOST == waits[-1]
    assert decide(letter(attempts=5), error(RemoteError), 99, NOW, 0.0).wait == 0.0
    assert decide(letter(), error(ServiceLost), 99, NOW, 1.0).wait == 0.0


def test_a_dead_letter_says_why() -> None:
    """In one sentence, with the error of its last delivery."""
    verdict = decide(letter(deaths=1), error(ServiceLost), 10, NOW, 0.5)
    assert verdict.letter.reason.startswith("its receiver died with it 2 times: bot.say was lost")
    verdict = decide(letter(attempts=9), error(RemoteError), 10, NOW, 0.5)
    assert verdict.letter.reason.startswith("refused 10 times: bot.say raised")


def test_what_is_too_late_is_told_at_its_second() -> None:
    """A dead letter does not expire: somebody is to look at it."""
    assert not expired(letter(), NOW)
    assert not expired(letter(expires_at=NOW + 1), NOW)
    assert expired(letter(expires_at=NOW), NOW)
    assert not expired(letter(expires_at=NOW, state=DEAD), NOW)
    assert letter().state == WAITING
