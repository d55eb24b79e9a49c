"""When a node has ended everything, and when the supervisor counts on it."""

import random

import pytest

from garrison.supervisor.processes.node_lease import (
    CONNECT_S,
    GRACE_S,
    HURRY_S,
    PAUSE_RENEWALS,
    RENEW_MOST_S,
    SENT_MOST,
    NodeContact,
    NodeLease,
    connects_anew,
    interval,
    next_request,
)

LEASE_S = 10.0


def test_the_lease_runs_from_the_request() -> None:
    """However late the answer is, the time counts from when the request was sent."""
    lease = NodeLease(LEASE_S)
    first = lease.request(100.0)
    assert lease.is_over(100.0)

    assert lease.renewed(first)
    assert not lease.is_over(109.9)
    assert lease.is_over(110.0)


def test_late_and_repeated_answers_shorten_nothing() -> None:
    """Answers in another order leave the later end; one that is repeated, or of no request, too."""
    lease = NodeLease(LEASE_S)
    first, second = lease.request(100.0), lease.request(102.0)

    assert lease.renewed(second)
    assert not lease.renewed(first)
    assert not lease.renewed(second)
    assert not lease.renewed(99)
    assert lease.until == 112.0


def test_answers_of_another_session_do_not_count() -> None:
    """Nor do those to requests that are too old to be remembered."""
    lease = NodeLease(LEASE_S)
    first = lease.request(100.0)
    lease.forget_requests()
    assert not lease.renewed(first)

    first = lease.request(200.0)
    for at in range(SENT_MOST):
        lease.request(201.0 + at)
    assert not lease.renewed(first)


def test_a_former_supervisor_is_counted() -> None:
    """What it may have granted until its end must be over, too, also where its lease was longer."""
    contact = NodeContact(LEASE_S)
    assert contact.is_fenced(50.0)

    contact.assume(100.0, lease=60.0)
    contact.renew(101.0)

    assert not contact.is_fenced(160.0)
    assert contact.is_fenced(100.0 + 60.0 + GRACE_S)


def test_missing_requests_are_noticed_before_the_lease_is_over() -> None:
    """Contact is lost after two and a half intervals."""
    contact = NodeContact(LEASE_S)
    contact.renew(100.0)

    assert not contact.is_quiet(100.0 + 2 * interval(LEASE_S))
    assert contact.is_quiet(100.0 + 3 * interval(LEASE_S))
    assert not contact.is_fenced(100.0 + LEASE_S)


def test_the_node_is_always_first() -> None:
    """Whatever is lost or delayed, on the way there or back, and whichever process is stopped."""
    for seed in range(300):
        chance = random.Random(seed)
        lease, contact = NodeLease(LEASE_S), NodeContact(LEASE_S)
        events: list[tuple[float, str, int]] = []
        now = 0.0
        for _ in range(40):
            now += chance.choice((0.1, 2.0, 2.0, 9.0))
            events.append((now, "send", 0))
        answered: dict[int, float] = {}
        clock = 0.0
        while events:
            events.sort()
            clock, what, number = events.pop(0)
            if what == "send":
                number = lease.request(clock)
                if chance.random() < 0.7:
                    events.append((clock + chance.expovariate(0.5), "receive", number))
            elif what == "receive" and not (answered and contact.is_fenced(clock)):
                contact.renew(clock)
                answered[number] = clock
                if chance.random() < 0.7:
                    events.append((clock + chance.expovariate(0.5), "answer", number))
            elif what == "answer":
                lease.renewed(number)
        assert not answered or lease.until + GRACE_S <= contact.fenced_at


def test_a_node_hurries_while_answers_are_missing() -> None:
    """A partition that is nearly as long as the lease leaves it little time.

    So does the time since the last request before it, which is short with a long lease, too.
    """
    assert next_request(20.0, 1.0) == RENEW_MOST_S
    assert next_request(2.0, 0.5) == interval(2.0)
    assert next_request(20.0, PAUSE_RENEWALS * RENEW_MOST_S) == HURRY_S
    assert next_request(0.5, 0.4) == interval(0.5)  # which is shorter


@pytest.mark.parametrize(
    ("silent", "connected", "failed", "anew"),
    [
        (7.9, 100.0, 0, False),
        (8.1, 100.0, 3, True),
        (9.0, 0.9, 0, False),  # the new connection has its time, too
        (9.0, CONNECT_S, 0, False),
        (12.0, CONNECT_S + 0.1, 0, True),
        (10.0, CONNECT_S + 0.1, 1, False),  # over a slow way it needs more
        (10.0, 1.5 * CONNECT_S + 0.1, 1, True),
        (10.1, CONNECT_S + 0.1, 9, True),  # not where the lease is soon over
        (20.0, CONNECT_S + 0.1, 9, False),  # or is over anyway
        (99.0, 8.1, 20, True),
    ],
)
def test_a_node_connects_anew(silent: float, connected: float, failed: int, anew: bool) -> None:
    """TCP itself tries again after as long as it has tried already."""
    assert connects_anew(20.0, silent, connected, failed) is anew


def test_silence_after_a_partition_is_no_worker_s_own() -> None:
    """Its connection may be silent for as long again, as TCP doubles its pauses."""
    contact = NodeContact(20.0)
    for now in (10.0, 14.0, 18.0):
        contact.renew(now)
        assert contact.sure_at(now) == now
    assert not contact.is_held_up(24.0)
    assert contact.is_held_up(24.1)  # no request came for one and a half intervals
    contact.renew(31.0)  # 13 s without contact
    contact.renew(35.0)
    assert contact.is_held_up(43.9)
    assert contact.sure_at(43.9) == 18.0
    contact.renew(43.0)  # a second, shorter pause
    assert contact.sure_at(50.9) == 18.0
    assert contact.sure_at(51.0) == 43.0
    contact.renew(47.0)
    contact.renew(51.0)
    assert not contact.is_held_up(51.0)
