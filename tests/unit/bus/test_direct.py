"""Which pairs of services call each other directly: grants, bounds, ends."""

import itertools
from collections.abc import Callable

import pytest

from garrison.ipc.messages import (
    AcceptDirect,
    DirectOpen,
    DirectRoute,
    GrantDirect,
    RevokeDirect,
    Token,
)
from garrison.supervisor.bus.direct import (
    AGAIN_S,
    ANSWER_S,
    EACH_MOST,
    GRANTS_MOST,
    IDLE_S,
    RATE,
    Fitness,
    Grants,
    Mode,
)

A, B, C = b"ga", b"gb", b"gc"
FIT = Fitness(True, True, True, True, "/run/d.sock")


class Host:
    """Grants of a host whose incarnations are fit unless a test changes it."""

    def __init__(self, mode: Mode = Mode.BUSY) -> None:
        self.fitness: dict[Token, Fitness] = {}
        numbers = itertools.count()
        self.grants = Grants(
            mode, lambda token: self.fitness.get(token, FIT), lambda: b"d%d" % next(numbers)
        )

    def busy(self, caller: Token = A, callee: Token = B, now: float = 0.0) -> list[object]:
        """Report calls at the rate of a route."""
        return list(self.grants.called(caller, callee, int(RATE), 1.0, now))

    def active(self, caller: Token = A, callee: Token = B, now: float = 0.0) -> Token:
        """Take a pair to an active route; return its address."""
        self.busy(caller, callee, now)
        address = self.grants.address_of(caller, callee)
        self.grants.opened(callee, DirectOpen(address), now)
        self.grants.reported(caller, DirectRoute(address, callee, True), now)
        return address


def test_the_callee_is_asked_first() -> None:
    """A caller is given a grant once its callee listens, and its report makes it active."""
    host = Host()
    assert host.busy() == [(B, AcceptDirect(b"d0", A, "/run/d.sock"))]
    assert host.grants.opened(B, DirectOpen(b"d0"), 1.0) == [
        (A, GrantDirect(b"d0", B, "/run/d.sock"))
    ]
    assert host.grants.active == []
    assert host.grants.reported(A, DirectRoute(b"d0", B, True), 1.0) == []
    assert (host.grants.active, host.grants.granted) == ([(A, B)], 1)


@pytest.mark.parametrize(
    ("calls", "seconds", "granted"),
    [(49, 1.0, False), (50, 1.0, True), (50, 0.01, True), (99, 2.0, False), (100, 2.0, True)],
)
def test_a_pair_gets_a_route_from_a_rate_on(calls: int, seconds: float, granted: bool) -> None:
    """Over a heartbeat; a short one counts as a second, so that a burst is no rate."""
    assert bool(Host().grants.called(A, B, calls, seconds, 0.0)) is granted


@pytest.mark.parametrize(
    ("caller", "callee"),
    [
        (FIT, Fitness()),
        (Fitness(), FIT),
        (Fitness(lives=True, takes=True, keeps=True, path="/p"), FIT),
        (FIT, Fitness(lives=True, calls=True, keeps=True, path="/p")),
        (FIT, Fitness(lives=True, calls=True, takes=True, keeps=True)),
    ],
    ids=["no callee", "no caller", "unfit caller", "unfit callee", "no path"],
)
def test_only_those_that_are_fit_get_one(caller: Fitness, callee: Fitness) -> None:
    """Not across users, nor to a callee that is paused, drains, or has another release."""
    host = Host()
    host.fitness = {A: caller, B: callee}
    assert host.busy() == []


def test_a_service_has_no_route_to_itself() -> None:
    """Its calls go through the supervisor."""
    assert Host().busy(A, A) == []


def test_without_the_key_there_are_none() -> None:
    """`direct = false`."""
    host = Host(Mode.OFF)
    assert host.busy() == []
    assert host.grants.met(A, B, 0.0) == []


def test_for_tests_every_pair_gets_one_at_once() -> None:
    """At its first message, or at any later heartbeat."""
    host = Host(Mode.ALL)
    assert host.grants.met(A, B, 0.0) == [(B, AcceptDirect(b"d0", A, "/run/d.sock"))]
    assert host.grants.met(A, B, 0.0) == []
    assert host.grants.called(A, C, 1, 1.0, 0.0) != []
    assert Host().grants.met(A, B, 0.0) == []


def test_a_pair_has_one_grant() -> None:
    """The next one is for after its end."""
    host = Host()
    host.active()
    assert host.busy() == []
    assert len(host.grants) == 1


@pytest.mark.parametrize(
    ("pairs", "most"),
    [
        ([(A, b"g%d" % n) for n in range(40)], EACH_MOST),
        ([(b"g%d" % n, B) for n in range(40)], EACH_MOST),
        ([(b"g%d" % (n % 40), b"h%d" % (n // 8)) for n in range(400)], GRANTS_MOST),
    ],
    ids=["of a caller", "of a callee", "of the host"],
)
def test_grants_are_bounded(pairs: list[tuple[Token, Token]], most: int) -> None:
    """Each takes descriptors."""
    host = Host()
    for pair in pairs:
        host.busy(*pair)
    assert len(host.grants) == most


def test_what_is_idle_is_given_up() -> None:
    """The caller closes it, the callee gets a notice then; the pair may have the next later."""
    host = Host()
    address = host.active()
    assert host.grants.called(A, B, 1, 1.0, 10.0) == []
    assert host.grants.check(9.9 + IDLE_S) == []
    now = 10.0 + IDLE_S
    assert host.grants.check(now) == [(A, RevokeDirect(address))]
    assert host.grants.active == []
    closed = DirectRoute(address, B, False)
    assert host.grants.reported(A, closed, now) == [(B, RevokeDirect(address))]
    assert host.busy(now=now) == []
    assert host.busy(now=now + AGAIN_S) != []
    assert host.grants.failed == 0


@pytest.mark.parametrize("ended", [A, B])
def test_a_grant_dies_with_either(ended: Token) -> None:
    """A callee that lives gets a notice that its caller has ended."""
    host = Host()
    address = host.active()
    host.fitness[ended] = Fitness()
    assert host.grants.check(1.0) == ([] if ended == B else [(B, RevokeDirect(address))])
    assert len(host.grants) == 0


def test_a_callee_that_is_no_longer_fit_is_left() -> None:
    """It is paused, drains, is reloaded, or a fault is tried on it."""
    host = Host()
    address = host.active()
    host.fitness[B] = Fitness(lives=True, calls=True)
    assert host.grants.check(1.0) == [(A, RevokeDirect(address))]


def test_an_order_that_was_not_carried_out_is_repeated() -> None:
    """It may have been lost, or the callee's loop be blocked."""
    host = Host()
    address = host.active()
    host.fitness[B] = Fitness(lives=True)
    revoked = [(A, RevokeDirect(address))]
    assert host.grants.check(1.0) == revoked
    assert host.grants.check(1.0 + ANSWER_S / 2) == []
    assert host.grants.check(1.0 + ANSWER_S) == revoked


def test_what_is_not_answered_is_given_up() -> None:
    """A callee that does not listen in time is not waited for; nor is a caller."""
    host = Host()
    host.busy()
    assert host.grants.check(ANSWER_S) == [(B, RevokeDirect(b"d0"))]
    assert (len(host.grants), host.grants.failed) == (0, 1)

    host = Host()
    host.busy()
    host.grants.opened(B, DirectOpen(b"d0"), 1.0)
    assert host.grants.check(1.0 + ANSWER_S) == [(A, RevokeDirect(b"d0"))]


@pytest.mark.parametrize(
    "fail",
    [
        lambda grants: grants.opened(B, DirectOpen(b"d0", "no room"), 1.0),
        lambda grants: grants.reported(A, DirectRoute(b"d0", B, False, "no room"), 1.0),
    ],
    ids=["callee", "caller"],
)
def test_a_problem_is_remembered(fail: Callable[[Grants], object]) -> None:
    """The pair goes on through the supervisor."""
    host = Host()
    host.busy()
    fail(host.grants)
    assert (len(host.grants), host.grants.failed, host.grants.problem) == (0, 1, "no room")
    assert host.busy(now=1.0) == []


def test_others_cannot_report_of_a_grant() -> None:
    """The caller's and the callee's words count, each for its part."""
    host = Host()
    host.busy()
    assert host.grants.opened(C, DirectOpen(b"d0"), 1.0) == []
    host.grants.opened(B, DirectOpen(b"d0"), 1.0)
    for token in (B, C):
        assert host.grants.reported(token, DirectRoute(b"d0", B, False), 1.0) == []
        host.grants.reported(token, DirectRoute(b"d0", B, True), 1.0)
    assert host.grants.active == []
    assert len(host.grants) == 1


def test_a_new_supervisor_learns_the_routes() -> None:
    """Its caller reports one; its callee is confirmed it."""
    host = Host()
    report = DirectRoute(b"d9", B, True)
    host.fitness[B] = Fitness(lives=True, keeps=True, path="/p")  # it has not reported in yet
    assert host.grants.reported(A, report, 0.0) == [(B, AcceptDirect(b"d9", A, "/p"))]
    assert host.grants.active == [(A, B)]
    assert host.grants.check(1.0) == []


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.BUSY])
def test_what_it_does_not_want_it_revokes(mode: Mode) -> None:
    """Its config may have no routes, or one of both have ended meanwhile."""
    host = Host(mode)
    if mode is Mode.BUSY:
        host.fitness[B] = Fitness()
    messages = host.grants.reported(A, DirectRoute(b"d9", B, True), 0.0)
    assert (A, RevokeDirect(b"d9")) in messages
    assert host.grants.active == []
