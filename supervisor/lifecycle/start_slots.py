"""Start slots: how many services start at the same time, and which starts count. Pure.

A start counts while it uses the processor, or would if one were free. One that only waits, for a
network or another process, gives its slot up, and has it again as soon as it computes. A plain
command without `ready` gives it up when it is run: nothing says how long its own start takes. Times
are monotonic seconds.
"""

from math import inf

import msgspec

LOOK_S = 0.1  # between two measurements of a start, while others wait for a slot
BUSY_SHARE = 0.2  # of one processor, used or waited for: a start that has less only waits
IDLE_LOOKS = 2  # measurements in a row that show a start waiting; then it gives its slot up
PUT_OFF_LEAST_S = 0.05  # what a start waited for a processor is added to its deadline above this


class StartWork(msgspec.Struct, frozen=True):
    """What a start has used since its process began, with all processes below it."""

    at: float
    used_s: float = 0.0  # of the processor
    waited_s: float = 0.0  # ready to run, while no processor was free
    own_waited_s: float = 0.0  # the same of the worker's main thread alone
    reads: bool = False  # a process waits for the disk at this moment


class StartSlot(msgspec.Struct):
    """What is known of one start. Without arguments it is that of a service that does not start."""

    last: StartWork | None = None
    idle_looks: int = 0
    put_off_s: float = 0.0  # already added to its deadline
    given_up: bool = False  # for good, whatever it does

    @property
    def counts(self) -> bool:
        """Return whether the start occupies a slot."""
        return self.idle_looks < IDLE_LOOKS and not self.given_up

    def give_up(self) -> None:
        """Count it no longer, whatever it does."""
        self.given_up = True

    def look(self, work: StartWork | None) -> None:
        """Take a measurement; None: the process cannot be measured, so its start counts."""
        before, self.last = self.last, work
        if before is None or work is None:
            return
        share = (work.used_s - before.used_s) + (work.waited_s - before.waited_s)
        only_waits = not work.reads and share < BUSY_SHARE * (work.at - before.at)
        self.idle_looks = self.idle_looks + 1 if only_waits else 0

    def is_due(self, now: float) -> bool:
        """Return whether to measure it again."""
        return not self.given_up and (self.last is None or now >= self.last.at + LOOK_S)

    def put_off_by(self, work: StartWork | None) -> float:
        """Return the seconds that its deadline moves, because it waited for a processor so long."""
        late = work.own_waited_s - self.put_off_s if work is not None else 0.0
        if late < PUT_OFF_LEAST_S:
            return 0.0
        self.put_off_s += late
        return late


class StartLimit(msgspec.Struct):
    """How many starts may count at the same time: fewer after one that took too long.

    Args:
        most: The configured number.
    """

    most: int
    now: int = 0

    def __post_init__(self) -> None:
        self.now = self.most

    def timed_out(self, slot: StartSlot) -> None:
        """Halve the number, unless that start only waited."""
        if slot.counts:
            self.now = max(self.now // 2, 1)

    def succeeded(self) -> None:
        """Allow one more, up to the configured number."""
        self.now = min(self.now + 1, self.most)


def look_again_at(now: float, waiting: bool) -> float:
    """Return when to measure the starts again; `waiting`: another service waits for a slot."""
    return now + LOOK_S if waiting else inf
