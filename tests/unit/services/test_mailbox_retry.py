"""The outcome of a delivery: acknowledge, retry, redeliver, or dead letter."""

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
from garrison.workers import Busy, NotSent, RetryLater
from garrison.workers.services.mailbox.checksums import DEAD, WAITING, Message
from garrison.workers.services.mailbox.retry import (
    BUSY_S,
    INITIAL_BACKOFF_S,
    MAX_BACKOFF_S,
    MIN_RETRY_LATER_S,
    DeliveryLimits,
    Outcome,
    decide,
    is_expired,
)

NOW = 1_000_000.0
LIMITS = DeliveryLimits(timeout=300.0, max_attempts=10, retry_for=86_400.0)
PATIENT = LIMITS._replace(max_attempts=99)


def message(**fields: object) -> Message:
    """Return a new message with some fields changed."""
    new = Message(id="1", receiver="bot", method="say", args=b"\x90", kwargs=b"\x80", seq=1)
    return msgspec.structs.replace(new, **fields)


def error(kind: type[CallError]) -> CallError:
    """Return an error of a kind."""
    return kind("bot", "say", "5" if kind is CallTimeout else "it went wrong")


def test_what_a_platform_refuses_for_good_is_not_tried_again() -> None:
    """Ten attempts would have the same end."""
    decision = decide(message(), NotSent("the channel is gone"), LIMITS, NOW, 0.5)
    assert decision.outcome is Outcome.DEAD_LETTER
    assert "the channel is gone" in decision.message.reason


@pytest.mark.parametrize(
    ("before", "kind", "expected", "attempts", "deaths"),
    [
        (message(), None, Outcome.ACKNOWLEDGE, 0, 0),
        (message(), ServiceUnavailable, Outcome.REDELIVER, 0, 0),  # it never ran
        (message(), Overloaded, Outcome.REDELIVER, 0, 0),
        (message(attempts=9), ServiceUnavailable, Outcome.REDELIVER, 9, 0),
        (message(), RemoteError, Outcome.RETRY, 1, 0),
        (message(attempts=8), RemoteError, Outcome.RETRY, 9, 0),
        (message(attempts=9), RemoteError, Outcome.DEAD_LETTER, 10, 0),
        (message(), CallTimeout, Outcome.RETRY, 1, 0),
        (message(attempts=9), CallTimeout, Outcome.DEAD_LETTER, 10, 0),
        (message(), InvalidCall, Outcome.DEAD_LETTER, 0, 0),  # no attempt can succeed
        (message(), ServiceLost, Outcome.RETRY, 0, 1),
        (message(deaths=1), ServiceLost, Outcome.DEAD_LETTER, 0, 2),
        (message(attempts=9), ServiceLost, Outcome.RETRY, 9, 1),  # a crash is no attempt
        (message(deaths=1), RemoteError, Outcome.RETRY, 1, 1),
    ],
)
def test_each_end_of_a_delivery(
    before: Message, kind: type[CallError] | None, expected: Outcome, attempts: int, deaths: int
) -> None:
    """Ten failed attempts or two crashes make a dead letter; a call that never ran counts as
    neither."""
    decision = decide(before, error(kind) if kind else None, LIMITS, NOW, 0.5)

    assert decision.outcome is expected
    assert (decision.message.attempts, decision.message.deaths) == (attempts, deaths)
    assert (decision.message.state == DEAD) == (expected is Outcome.DEAD_LETTER)
    assert (decision.message.died_at == NOW) == (expected is Outcome.DEAD_LETTER)


def test_delays_double_up_to_a_minute_with_full_jitter() -> None:
    """From zero to the whole delay. After a crash there is no delay besides the restart."""
    delays = [
        decide(message(attempts=n), error(RemoteError), PATIENT, NOW, 1.0).delay for n in range(40)
    ]
    assert delays[:3] == [INITIAL_BACKOFF_S, 2 * INITIAL_BACKOFF_S, 4 * INITIAL_BACKOFF_S]
    assert max(delays) == MAX_BACKOFF_S == delays[-1]
    assert decide(message(attempts=5), error(RemoteError), PATIENT, NOW, 0.0).delay == 0.0
    assert decide(message(), error(ServiceLost), PATIENT, NOW, 1.0).delay == 0.0


def test_a_dead_letter_has_its_reason() -> None:
    """The count, and the error of the last delivery."""
    reason = decide(message(deaths=1), error(ServiceLost), LIMITS, NOW, 0.5).message.reason
    assert reason.startswith("the receiver crashed 2 times while handling it: bot.say was lost")
    reason = decide(message(attempts=9), error(RemoteError), LIMITS, NOW, 0.5).message.reason
    assert reason.startswith("10 attempts failed: bot.say raised")


def test_a_message_expires_at_its_second() -> None:
    """A dead letter does not expire: an operator decides about it."""
    assert not is_expired(message(), NOW)
    assert not is_expired(message(expires_at=NOW + 1), NOW)
    assert is_expired(message(expires_at=NOW), NOW)
    assert not is_expired(message(expires_at=NOW, state=DEAD), NOW)
    assert message().state == WAITING


def test_a_receiver_that_names_a_time_is_called_again_then() -> None:
    """No attempt is counted; it ends `retry_for` after the post, with a last attempt then."""
    posted = message(posted_at=NOW - 86_000.0, attempts=9)
    decision = decide(posted, RetryLater(60.0), LIMITS, NOW, 0.5)
    assert (decision.outcome, decision.delay) == (Outcome.RETRY, 60.0)
    assert (decision.message.attempts, decision.message.died_at) == (9, NOW + 60.0)
    assert decide(posted, RetryLater(1e9), LIMITS, NOW, 0.5).delay == 400.0
    assert decide(posted, RetryLater(0.0), LIMITS, NOW, 0.5).delay == MIN_RETRY_LATER_S
    decision = decide(posted, RetryLater(60.0), LIMITS, NOW + 400.0, 0.5)
    assert decision.outcome is Outcome.DEAD_LETTER
    assert decision.message.reason.startswith("retry_for (86400 s) is over")


def test_a_busy_receiver_is_no_failed_attempt() -> None:
    """It did nothing: a flood makes no dead letters. It may say when it has room."""
    posted = message(attempts=9, posted_at=NOW - 86_000.0)
    decision = decide(posted, Busy("full", retry_after=30.0), LIMITS, NOW, 0.5)
    assert (decision.outcome, decision.delay) == (Outcome.RETRY, 30.0)
    assert decision.message.attempts == 9
    assert decide(posted, Busy("full"), LIMITS, NOW, 0.5).delay == BUSY_S / 2
    assert decide(posted, Busy("full"), LIMITS, NOW + 400.0, 0.5).outcome is Outcome.DEAD_LETTER


def test_a_death_together_with_others_counts_against_none() -> None:
    """Whatever the message was through before; that it may have run is noted."""
    for before in (message(), message(deaths=1), message(attempts=9, died_at=NOW - 1)):
        decision = decide(before, error(ServiceLost), LIMITS, NOW, 0.5, is_alone=False)
        assert (decision.outcome, decision.delay) == (Outcome.RETRY, 0.0)
        after = decision.message
        assert (after.attempts, after.deaths) == (before.attempts, before.deaths)
        assert after.died_at is None
        assert after.reason.startswith("the receiver died with this and other messages")
