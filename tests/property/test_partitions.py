"""Partitions of any history end nothing that runs, as long as each is short and its loop turns.

A node, its one worker and the supervisor run in virtual time, over connections that lose nothing
and wait as TCP does: after an attempt that fails, twice as long as before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from hypothesis import example, given
from hypothesis import strategies as st

from garrison.supervisor.lifecycle.silence import Contact, is_own
from garrison.supervisor.manager import HELD_UP_S
from garrison.supervisor.node.process import SAMPLE_S
from garrison.supervisor.processes.node_lease import (
    NodeContact,
    NodeLease,
    connects_anew,
    next_request,
)

STEP_S, AGAIN_S, SYN_S = 0.05, 0.2, 1.0
BEAT_S = 1.0
LASTS_S = 150.0
LEASES = st.sampled_from([4.0, 10.0, 20.0, 60.0])
CONNECT_MOST_S = 2.0  # what a partition must be shorter than the lease

Cut = tuple[float, float]  # seconds since the former one has ended, share of the longest


@dataclass
class Connection:
    """One direction of a TCP connection."""

    again_s: float = AGAIN_S
    pause: float = AGAIN_S
    next: float = inf  # attempt
    waiting: list[Callable[[float], None]] = field(default_factory=list)

    def send(self, deliver: Callable[[float], None], now: float) -> None:
        """Send what is delivered by a function of the time."""
        self.waiting.append(deliver)
        if len(self.waiting) == 1:
            self.next, self.pause = now, self.again_s

    def turn(self, now: float, is_cut: bool) -> None:
        """Try again, if it is time."""
        if not self.waiting or now < self.next:
            return
        if is_cut:
            self.next, self.pause = now + self.pause, self.pause * 2
            return
        waiting, self.waiting = self.waiting, []
        for deliver in waiting:
            deliver(now)


class World:
    """A supervisor, a node and a worker of it, whose loop turns until it hangs."""

    def __init__(self, lease: float, watchdog: float, hangs_at: float = inf) -> None:
        self.watchdog, self.hangs_at = watchdog, hangs_at
        self.contact, self.lease = NodeContact(lease), NodeLease(lease, lease)
        self.contact.renew(0.0)
        self.heard_at, self.deadline = 0.0, watchdog
        self.loop_s: float | None = None
        self.loop_at = -inf
        self.ended, self.ended_at = "", inf
        self._node, self._worker = Connection(), Connection()
        self._answered_at = self._connected_at = self._next = 0.0
        self._sample_at = 0.7
        self._failed = 0
        self._beat_at, self._turned_at = 0.3, 0.0

    def turn(self, now: float, is_cut: bool) -> None:
        """Let a moment pass."""
        self._turn_worker(now)
        self._turn_node(now)
        for connection in (self._node, self._worker):
            connection.turn(now, is_cut)
        self._check(now)

    def _turn_worker(self, now: float) -> None:
        if now >= self._beat_at and now < self.hangs_at:
            self._beat_at, self._turned_at = now + min(BEAT_S, self.watchdog / 4), now
            self._worker.send(self._on_beat, now)

    def _turn_node(self, now: float) -> None:
        if now >= self._next:
            silent, connected = now - self._answered_at, now - self._connected_at
            if connects_anew(self.lease.seconds, silent, connected, self._failed):
                self._failed = self._failed + 1 if silent > connected else 0
                self._node, self._connected_at = Connection(SYN_S, SYN_S), now
            self._next = now + next_request(self.lease.seconds, silent)
            number = self.lease.request(now)
            self._node.send(lambda at: self._on_renew(number, at), now)
        if now >= self._sample_at:
            self._sample_at, silence = now + SAMPLE_S, now - self._turned_at
            self._node.send(lambda at: self._on_sample(silence, at), now)

    def _on_beat(self, now: float) -> None:
        self.heard_at, self.deadline = now, now + self.watchdog

    def _on_renew(self, number: int, now: float) -> None:
        self.contact.renew(now)
        self._answered_at = now
        self.lease.renewed(number)

    def _on_sample(self, silence: float, now: float) -> None:
        self.loop_s, self.loop_at = silence, now

    def _check(self, now: float) -> None:
        if self.ended:
            return
        if self.lease.is_over(now):
            self.ended, self.ended_at = "lease", now
        elif now >= self.deadline:
            its = self.contact
            known = Contact(its.sure_at(now), its.is_held_up(now), self.loop_s, self.loop_at)
            if is_own(known, self.heard_at, self.watchdog):
                self.ended, self.ended_at = "watchdog", now
            self.deadline = now + HELD_UP_S


def run(world: World, cuts: Sequence[Cut], longest: float) -> None:
    """Let a history pass."""
    begins, until = inf, 0.0
    left = list(cuts)
    for step in range(int(LASTS_S / STEP_S)):
        now = step * STEP_S
        if now >= until and left:
            after, share = left.pop(0)
            begins, until = now + after, now + after + share * longest
        world.turn(now, begins <= now < until)


CUTS = st.lists(st.tuples(st.floats(0.0, 12.0), st.floats(0.05, 1.0)), min_size=1, max_size=6)
WATCHDOGS = st.sampled_from([1.0, 4.0, 30.0])


@given(LEASES, WATCHDOGS, CUTS)
def test_a_loop_that_turns_is_not_taken_for_hung(
    lease: float, watchdog: float, cuts: list[Cut]
) -> None:
    """Whenever partitions come, and however short the time between them."""
    world = World(lease, watchdog)
    run(world, cuts, lease)
    assert world.ended != "watchdog"


@given(LEASES, st.floats(0.0, 12.0), st.floats(0.05, 1.0))
@example(60.0, 0.0, 1.0)
@example(20.0, 9.0, 1.0)
def test_a_partition_that_is_shorter_than_the_lease_ends_nothing(
    lease: float, after: float, share: float
) -> None:
    """By the two seconds that a node needs to connect anew, and since when it had the lease."""
    world = World(lease, lease / 2)
    run(world, [(lease + after, share)], lease - CONNECT_MOST_S)
    assert not world.ended


@given(LEASES, WATCHDOGS, st.floats(20.0, 40.0), CUTS)
def test_a_loop_that_hangs_is_found(
    lease: float, watchdog: float, at: float, cuts: list[Cut]
) -> None:
    """Within its watchdog and the time between two reports; a partition lasts that much longer."""
    world = World(lease, watchdog, at)
    run(world, cuts[:1], lease / 2)
    late = SAMPLE_S + HELD_UP_S + 2 * lease / 2 + 2 * STEP_S
    assert world.ended_at <= at + watchdog + late
    assert world.ended_at >= at + watchdog - BEAT_S
