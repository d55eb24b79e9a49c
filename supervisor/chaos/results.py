"""What came of a run: recoveries, ends of calls, posts; and whether every zero is one. Pure.

It takes the same memory however long a run is: durations are counted in steps of 1 %, so a
percentile is right to 1 %; the longest is exact. Durations are seconds.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil, inf, log
from typing import Any

from .schedule import Fault

STEP = 1.01
TOLD_MOST = 20  # problems that are told one by one
STALLS_KEPT = 1000
NAMED_MOST = 3
LATE_S = 0.25  # past its deadline, of its caller's own loop


class Histogram:
    """How long something took, each time."""

    def __init__(self) -> None:
        self.count = 0
        self.most = 0.0
        self._steps: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Note one."""
        self.count += 1
        self.most = max(self.most, seconds)
        self._steps[ceil(log(max(seconds, 1e-6)) / log(STEP))] += 1

    def add_all(self, other: "Histogram") -> None:
        """Note all that another has noted."""
        self.count += other.count
        self.most = max(self.most, other.most)
        self._steps.update(other._steps)

    def at(self, share: float) -> float:
        """Return what so large a share of them did not exceed; 0 where there were none."""
        passed = 0
        for step, count in sorted(self._steps.items()):
            passed += count
            if passed >= share * self.count:
                return min(STEP**step, self.most)
        return self.most


class Stalls:
    """When a loop did not turn, though it should have: a call's end could not be seen then."""

    def __init__(self) -> None:
        self._spans: deque[tuple[float, float]] = deque(maxlen=STALLS_KEPT)
        self._due = inf

    def expect(self, due: float) -> None:
        """Note when the loop is to turn next: who looks later than that looks in a stall's end."""
        self._due = due

    def add(self, due: float, turned: float) -> None:
        """Note that what was due at a time came at another."""
        self._spans.append((due, turned))

    def within(self, begin: float, end: float) -> float:
        """Return how long the loop stood still in a span."""
        spans = (*self._spans, (self._due, end))
        return sum(max(0.0, min(end, to) - max(begin, since)) for since, to in spans)


def is_late(deadline: float, ended: float, stalls: Stalls) -> bool:
    """Tell whether a call ended too late, by the time that its caller's loop was there to see."""
    over = ended - deadline
    return over > LATE_S and over - stalls.within(deadline, ended) > LATE_S


@dataclass
class DeliveryLog:
    """The numbers that one receiver was posted: each is written down by it, in their order."""

    in_order: bool = True  # whether it takes one after the other
    waiting: dict[int, str] = field(default_factory=dict)  # acknowledged, not seen: number → id
    acknowledged: int = 0
    delivered: int = 0  # those that were acknowledged
    again: int = 0  # came more than once, or without having been acknowledged in time
    misplaced: int = 0
    last: int = 0  # the highest that came
    strict: bool = True  # False once dead letters were sent again, behind the others
    _early: set[int] = field(default_factory=set)  # seen before its acknowledgement was

    def posted(self, number: int, letter: str) -> None:
        """Note that it is on disk."""
        self.acknowledged += 1
        if number in self._early:
            self._early.discard(number)
            self.delivered += 1
        else:
            self.waiting[number] = letter

    def unsure(self, number: int) -> None:
        """Note that nobody knows whether it is on disk; it may come, or not."""
        self._early.discard(number)

    def came(self, number: int, posting: int) -> None:
        """Note a number that the receiver wrote down.

        Args:
            number: It.
            posting: The number that is being posted now, whose acknowledgement may follow.
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
    """What the supervisor had, and has now."""

    memory_before: int = 0
    descriptors_before: int = 0
    memory: int = 0
    descriptors: int = 0
    restarted: bool = False  # it was killed: all this is of the last one


class Tally:
    """Everything that is counted in a run."""

    def __init__(self) -> None:
        self.recoveries: dict[tuple[Fault, str], Histogram] = {}
        self.ends: Counter[str] = Counter()  # of calls
        self.late = self.second = self.wrong = self.unended = 0
        self.letters: dict[str, DeliveryLog] = {}
        self.lost = self.undelivered = self.replayed = self.refused_posts = 0
        self.orphans = 0
        self.not_back = 0
        self.restarted = 0  # services, by a supervisor's end
        self.problems: list[str] = []
        self.growth = Growth()

    def recovered(self, fault: Fault, name: str, seconds: float) -> None:
        """Note how long a fault was felt."""
        self.recoveries.setdefault((fault, name), Histogram()).add(seconds)

    def failed(self, problem: str) -> None:
        """Note a fault after which a service did not come back."""
        self.not_back += 1
        self.tell(problem)

    def tell(self, problem: str) -> None:
        """Keep a sentence about what is not as promised; the first ones of a run say most."""
        if len(self.problems) < TOLD_MOST:
            self.problems.append(problem)

    def of_kind(self, fault: Fault) -> Histogram:
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
        return sum(letters.acknowledged for letters in self.letters.values())

    def zeros(self) -> dict[str, int]:
        """Return what must be zero, by name."""
        misplaced = sum(letters.misplaced for letters in self.letters.values())
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
        """Tell whether every zero is one."""
        return not any(self.zeros().values())

    def told(self) -> dict[str, Any]:
        """Return all of it, for JSON."""
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
                "delivered": sum(letters.delivered for letters in self.letters.values()),
                "delivered_again": sum(letters.again for letters in self.letters.values()),
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
                    for name, letters in self.letters.items()
                    if (counted := letters.misplaced)
                ),
            ],
        }


def _row(kind: Fault, name: str | None, spread: Histogram) -> dict[str, Any]:
    return {
        "fault": kind.value,
        "service": name,
        "count": spread.count,
        "p50_s": spread.at(0.5),
        "p99_s": spread.at(0.99),
        "max_s": spread.most,
    }


def who_takes(
    fault: Fault, services: Iterable[dict[str, Any]], room: float
) -> tuple[list[str], list[str]]:
    """Return the NAMEs that a fault can be done to and is recovered from, and sentences on those
    left out.

    Args:
        fault: The fault.
        services: What the supervisor told of each.
        room: Bytes that a leak may take.
    """
    names: list[str] = []
    left: dict[str, list[str]] = {}
    for row in services:
        why = _why_not(fault, row, room)
        (left.setdefault(why, []) if why else names).append(row["name"])
    return names, [f"{fault.value} of {listed(who)}: {why}" for why, who in left.items()]


def listed(names: list[str]) -> str:
    """Return NAMEs in a few words."""
    more = f" and {len(names) - NAMED_MOST} more" if len(names) > NAMED_MOST else ""
    return ", ".join(names[:NAMED_MOST]) + more


def _why_not(fault: Fault, row: dict[str, Any], room: float) -> str:
    if fault is not Fault.FLOOD and row["restart"] == "temporary":
        return "never started again (restart is temporary)"
    if fault in {Fault.STOP, Fault.HANG} and not row["watchdog"]:
        return "nothing would end it (watchdog is 0)"
    if fault is Fault.LEAK and not row["memory_max"]:
        return "nothing would end it (memory_max is 0)"
    if fault is Fault.LEAK and 2 * row["memory_max"] > room:
        return "twice its memory_max is too much for this machine now"
    return ""
