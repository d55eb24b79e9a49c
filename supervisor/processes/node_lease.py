"""When a node must have ended what it runs, and when the supervisor may count on that. Pure.

The node counts from the moment at which it *sent* the request that was answered, the supervisor
from the moment at which it *received* that request, which is later; and the supervisor waits
`GRACE_S` longer. So whatever messages are lost or late, and whichever process is stopped, the
node's time is over first, if clocks run at the same speed. Times are seconds: of CLOCK_BOOTTIME on
the node, which also counts while the machine sleeps, and monotonic ones at the supervisor.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from math import inf

RENEWALS = 5  # in one lease, or more: one every `RENEW_MOST_S`
RENEW_MOST_S = 1.0  # between two: what has passed of a lease is missing in a partition
GRACE_S = 2.0  # that the supervisor waits longer
QUIET_RENEWALS = 2.5  # times the interval without a Renew: there is no contact
PAUSE_RENEWALS = 1.5  # times the interval between two Renews: a partition may have held them up
HURRY_S = 0.3  # between two requests while answers are missing: contact may be back any time
# For an answer over a new connection, before the next one. The supervisor gives up a handshake
# after as long; TCP itself tries again after one second, then after two more.
CONNECT_S = 2.0
CONNECT_GROWTH = 1.5  # times as long for each connection that had no answer: the way may be slow
URGENT_LEASES = 0.5  # of silence until the lease's end is near, and no try may be long
SILENCE_LEASES = 2  # leases that a connection may be silent until the kernel ends it
SENT_MOST = 64  # requests whose answers still count


def interval(lease: float) -> float:
    """Return the longest time between two requests of a node that has contact, in seconds."""
    return lease / RENEWALS


def next_request(lease: float, silent: float) -> float:
    """Return the seconds until a node's next request.

    Args:
        lease: The lease.
        silent: Seconds since the last answer.
    """
    each = min(interval(lease), RENEW_MOST_S)
    return each if silent < PAUSE_RENEWALS * each else min(each, HURRY_S)


def connects_anew(lease: float, silent: float, connected: float, failed: int) -> bool:
    """Return whether a node is to connect anew: TCP itself tries again much later.

    Args:
        lease: The lease.
        silent: Seconds since the last answer.
        connected: Seconds since the connection was begun.
        failed: Connections before it that had no answer, since the last answer.
    """
    longest = 2 * interval(lease)
    is_urgent = URGENT_LEASES * lease < silent < lease
    allowed = CONNECT_S if is_urgent else CONNECT_S * CONNECT_GROWTH**failed
    return silent > longest if silent < connected else connected > min(longest, allowed)


@dataclass(slots=True)
class NodeLease:
    """The lease, as the node knows it.

    Attributes:
        until: When everything must have ended.
    """

    seconds: float = 0.0
    until: float = -inf
    _number: int = 0
    _sent: "OrderedDict[int, float]" = field(default_factory=OrderedDict)

    def request(self, now: float) -> int:
        """Return the number of a request that is sent now, or later."""
        self._number += 1
        self._sent[self._number] = now
        while len(self._sent) > SENT_MOST:
            self._sent.popitem(last=False)
        return self._number

    def renewed(self, number: int) -> bool:
        """Take an answer; return whether the lease now lasts longer."""
        sent_at = self._sent.pop(number, None)
        if sent_at is None or sent_at + self.seconds <= self.until:
            return False
        self.until = sent_at + self.seconds
        return True

    def forget_requests(self) -> None:
        """Let no answer to a former request count: another session begins."""
        self._sent.clear()

    def is_over(self, now: float) -> bool:
        """Return whether the time is over."""
        return now >= self.until


@dataclass(slots=True)
class NodeContact:
    """The lease, as the supervisor knows it.

    Attributes:
        fenced_at: When nothing runs on the node any more. It must not be moved forward by what the
            node was not granted.
    """

    lease: float
    heard_at: float = -inf  # the last request that was answered
    fenced_at: float = -inf
    _held_since: float = -inf  # the last request before a pause
    _held_until: float = -inf  # what was under way in that pause may arrive until then

    def assume(self, now: float, lease: float) -> None:
        """Count a lease that a former supervisor may have granted until now."""
        self.fenced_at = max(self.fenced_at, now + lease + GRACE_S)

    def renew(self, now: float) -> None:
        """Note that a request is answered now."""
        pause = now - self.heard_at
        if PAUSE_RENEWALS * interval(self.lease) < pause < inf:
            if now >= self._held_until:
                self._held_since = self.heard_at
            self._held_until = now + pause
        self.heard_at = now
        self.fenced_at = max(self.fenced_at, now + self.lease + GRACE_S)

    def sure_at(self, now: float) -> float:
        """Return since when silence of a worker there is its own.

        After a partition its connection may be silent for as long again, though requests arrive:
        TCP doubles the time to its next attempt (RFC 6298, 5.5), and the node connects anew.
        """
        return self._held_since if now < self._held_until else self.heard_at

    def is_held_up(self, now: float) -> bool:
        """Return whether messages of workers there may be under way in a partition, or after it."""
        return now - self.sure_at(now) > PAUSE_RENEWALS * interval(self.lease)

    def is_quiet(self, now: float) -> bool:
        """Return whether requests are missing."""
        return now >= self.quiet_at

    @property
    def quiet_at(self) -> float:
        """Return when requests are missing, if none comes."""
        return self.heard_at + QUIET_RENEWALS * interval(self.lease)

    def is_fenced(self, now: float) -> bool:
        """Return whether the node has ended everything."""
        return now >= self.fenced_at
