"""Results of a run: recoveries, outcomes of calls, posts, and counters that must be zero. Pure.

Memory does not grow with a run's length: durations are counted in steps of 1 %, so a percentile is
right to 1 %. The longest is exact. Durations are seconds.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, inf, log
from typing import Any

from .schedule import PlannedFault

STEP = 1.01
PROBLEMS_MOST = 20  # that are kept, the first ones
STALLS_KEPT = 1000
NAMED_MOST = 3
LATE_S = 0.25  # past a call's deadline, without the stalls of its caller's loop


class Histogram:
    """Durations in steps of 1 %."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0.0
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Add a duration."""
        self.count += 1
        self.most = max(self.most, seconds)
        self._steps[ceil(log(max(seconds, 1e-6)) / log(STEP))] += 1

    def add_all(self, other: "Histogram") -> None:
        """Add the durations of another."""
        self.count += other.count
        self.most = max(self.most, other.most)
        self._steps.update(other._steps)

    def at(self, share: float) -> float:
        """Return the duration that this share of them did not exceed; 0 without any."""
        passed = 0
        for step, count in sorted(self._steps.items()):
            passed += count
            if passed >= share * self.count:
                return min(STEP**step, self.most)
        return self.most


class Stalls:
    """The spans in which an event loop stalled, and could not notice the end of a call."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=STALLS_KEPT)
        self._due = inf

    def expect(self, due: float) -> None:
        """Record when the loop is to wake next: a later `within` is during a stall."""
        self._due = due

    def add(self, due: float, turned: float) -> None:
        """Record a stall from when the loop was to wake until it did."""
        self._spans.append((due, turned))

    def within(self, begin: float, end: float) -> float:
        """Return how long the loop was stalled in a span."""
        spans = (*self._spans, (self._due, end))
        return sum(max(0.0, min(end, to) - max(begin, since)) for since, to in spans)


def is_late(deadline: float, ended: float, stalls: Stalls) -> bool:
    """Return True if a call ended too late; stalls of its caller's loop are not counted."""
    over = ended - deadline
    return over > LATE_S and over - stalls.within(deadline, ended) > LATE_S


@dataclass
class DeliveryLog:
    """The numbers that were posted to one receiver, and those that it recorded."""

    in_order: bool = True  # it receives one after the other
    waiting: dict[int, str] = field(default_factory=dict)  # acknowledged, not recorded: → ID
    acknowledged: int = 0
    delivered: int = 0  # of those that were acknowledged
    again: int = 0  # recorded more than once, or not acknowledged in time
    misplaced: int = 0
    last: int = 0  # the highest that was recorded
    strict: bool = True  # False once dead letters were sent again, after the others
    _early: set[int] = field(default_factory=set)  # recorded before the acknowledgement came

    def posted(self, number: int, message_id: str) -> None:
        """Record an acknowledgement: the message is on disk."""
        self.acknowledged += 1
        if number in self._early:
            self._early.discard(number)
            self.delivered += 1
        else:
            self.waiting[number] = message_id

    def unsure(self, number: int) -> None:
        """Record that a post was not acknowledged: it may be delivered or not."""
        self._early.discard(number)

    def came(self, number: int, posting: int) -> None:
        """Record a number that the receiver wrote.

        Args:
            number: The number.
            posting: The number that is being posted now; its acknowledgement may follow.
        """
        if number > self.last:
            self.last = number
        elif number in self.waiting and self.in_order and self.strict:
            self.misplaced += 1
        if self.waiting.pop(number, None) is not None:
            self.delivered += 1
        elif number == posting and number not in self._early:
            self._early.add(number)
        else:
            self.again += 1


@dataclass
class Growth:
    """The supervisor's memory and descriptors, before and now."""

    memory_before: int = 0
    descriptors_before: int = 0
    memory: int = 0
    descriptors: int = 0
    restarted: bool = False  # it was killed: the figures are of the latest one


class Tally:
    """Every counter of a run."""

    def __init__(self) -> None:
        self.recoveries: dict[tuple[PlannedFault, str], Histogram] = {}
        self.ends: Counter[str] = Counter()  # of calls
        self.late = self.second = self.wrong = self.unended = 0
        self.deliveries: dict[str, DeliveryLog] = {}
        self.lost = self.undelivered = self.replayed = self.refused_posts = 0
        self.orphans = 0
        self.not_back = 0
        self.restarted = 0  # services that ended with a supervisor
        self.problems: list[str] = []
        self.growth = Growth()

    def recovered(self, fault: PlannedFault, name: str, seconds: float) -> None:
        """Record how long a fault lasted."""
        self.recoveries.setdefault((fault, name), Histogram()).add(seconds)

    def failed(self, problem: str) -> None:
        """Record a fault after which a service did not come back."""
        self.not_back += 1
        self.note(problem)

    def note(self, problem: str) -> None:
        """Record a sentence about a broken promise; only the first ones are kept."""
        if len(self.problems) < PROBLEMS_MOST:
            self.problems.append(problem)

    def of_kind(self, fault: PlannedFault) -> Histogram:
        """Return all recoveries from one kind of fault."""
        both = Histogram()
        for (kind, _), spread in self.recoveries.items():
            if kind is fault:
                both.add_all(spread)
        return both

    @property
    def faults(self) -> int:
        """Return how many faults are over."""
        return sum(spread.count for spread in self.recoveries.values()) + self.not_back

    @property
    def acknowledged(self) -> int:
        """Return how many posts were acknowledged."""
        return sum(log.acknowledged for log in self.deliveries.values())

    def zeros(self) -> dict[str, int]:
        """Return the counters that must be zero, by name."""
        misplaced = sum(log.misplaced for log in self.deliveries.values())
        return {
            "past_deadline": self.late,
            "never_ended": self.unended,
            "second_answers": self.second,
            "wrong_answers": self.wrong,
            "messages_lost": self.lost,
            "out_of_order": misplaced,
            "undelivered": self.undelivered,
            "orphans": self.orphans,
            "not_back": self.not_back,
            "restarted_with_supervisor": self.restarted,
        }

    @property
    def ok(self) -> bool:
        """Return True if every counter that must be zero is zero."""
        return not any(self.zeros().values())

    def as_data(self) -> dict[str, Any]:
        """Return all of it, as `--json` prints it."""
        kinds = dict.fromkeys(fault for fault, _ in self.recoveries)
        growth = self.growth
        return {
            "ok": self.ok,
            "faults": self.faults,
            "zeros": self.zeros(),
            "recoveries": [
                *(_row(kind, None, self.of_kind(kind)) for kind in kinds),
                *(
                    _row(kind, name, spread)
                    for kind in kinds
                    for (of, name), spread in self.recoveries.items()
                    if name and of is kind
                ),
            ],
            "calls": {"total": self.ends.total(), "outcomes": dict(self.ends.most_common())},
            "posts": {
                "acknowledged": self.acknowledged,
                "delivered": sum(log.delivered for log in self.deliveries.values()),
                "delivered_again": sum(log.again for log in self.deliveries.values()),
                "dead_letters_replayed": self.replayed,
                "not_acknowledged": self.refused_posts,
            },
            "supervisor": {
                "memory_before_bytes": growth.memory_before,
                "memory_bytes": growth.memory,
                "memory_growth_bytes": growth.memory - growth.memory_before,
                "descriptors_before": growth.descriptors_before,
                "descriptors": growth.descriptors,
                "descriptors_growth": growth.descriptors - growth.descriptors_before,
                "since_its_last_start": growth.restarted,
            },
            "problems": [
                *self.problems,
                *(
                    f"{name} took {counted} of its messages out of order"
                    for name, log in self.deliveries.items()
                    if (counted := log.misplaced)
                ),
            ],
        }


def _row(kind: PlannedFault, name: str | None, spread: Histogram) -> dict[str, Any]:
    return {
        "fault": kind.value,
        "service": name,
        "count": spread.count,
        "p50_s": spread.at(0.5),
        "p99_s": spread.at(0.99),
        "max_s": spread.most,
    }


def takers_of(
    fault: PlannedFault, services: Iterable[dict[str, Any]], room: float
) -> tuple[list[str], list[str]]:
    """Return the NAMEs that can take a fault and recover from it, and sentences on the others.

    Args:
        fault: The fault.
        services: What the supervisor reported of each.
        room: Bytes that a leak may allocate.
    """
    names: list[str] = []
    left: dict[str, list[str]] = {}
    for row in services:
        why = _why_not(fault, row, room)
        (left.setdefault(why, []) if why else names).append(row["name"])
    return names, [f"{fault.value} of {listed(left_out)}: {why}" for why, left_out in left.items()]


def listed(names: list[str]) -> str:
    """Return the first NAMEs, and how many more there are."""
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    return ", ".join(names[:NAMED_MOST]) + more


def _why_not(fault: PlannedFault, row: dict[str, Any], room: float) -> str:
    if fault is not PlannedFault.FLOOD and row["restart"] == "temporary":
        return "never started again (restart is temporary)"
    if fault in {PlannedFault.STOP, PlannedFault.HANG} and not row["watchdog"]:
        return "nothing would end it (watchdog is 0)"
    if fault is PlannedFault.LEAK and not row["memory_max"]:
        return "nothing would end it (memory_max is 0)"
    if fault is PlannedFault.LEAK and 2 * row["memory_max"] > room:
        return "twice its memory_max is too much for this machine now"
    return ""
