"""Which fault is next, and whose: so many in all, or until the time is over. Pure.

Times are monotonic seconds and arrive as `now`.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from math import inf

HOST = ""  # in the place of a NAME: the fault is the supervisor's


class Fault(Enum):
    """What can be done to a host."""

    KILL = "kill"  # SIGKILL to a worker
    STOP = "stop"  # SIGSTOP to a worker
    HANG = "hang"  # its loop is blocked
    LEAK = "leak"  # it takes memory past its memory_max
    FLOOD = "flood"  # it sends another one calls and events as fast as they go
    SUPERVISOR = "supervisor"  # SIGKILL to the supervisor


AT_ONCE = {Fault.KILL: 2, Fault.LEAK: 2, Fault.STOP: 8, Fault.HANG: 8}  # of one kind
ALONE = frozenset({Fault.FLOOD, Fault.SUPERVISOR})  # they touch everybody: nothing else beside them
ALONE_EVERY_S = 2.0  # where no number says how often


class FaultSchedule:
    """The faults of one run.

    Args:
        takers: Each fault with the NAMEs that take it.
        total: Faults in all, shared by the kinds evenly; None is without end.
        began: Monotonic seconds.
    """

    def __init__(
        self, takers: Mapping[Fault, Sequence[str]], total: int | None, began: float
    ) -> None:
        self._takers = {fault: list(names) for fault, names in takers.items()}
        self._quota: dict[Fault, float] = dict.fromkeys(takers, inf)
        if total is not None:
            each, more = divmod(total, len(takers))
            self._quota = {fault: each + (n < more) for n, fault in enumerate(takers)}
        self._endless = total is None
        self._begun: dict[Fault, int] = dict.fromkeys(takers, 0)
        self._due: dict[Fault, float] = dict.fromkeys(ALONE & set(takers), began)
        self._busy: dict[str, Fault] = {}
        names = {name for some in takers.values() for name in some}
        self._most = max(1, len(names) // 2)  # others are to be there for the callers

    @property
    def busy(self) -> int:
        """Return how many faults are under way."""
        return len(self._busy)

    @property
    def begun(self) -> int:
        """Return how many faults there were."""
        return sum(self._begun.values())

    @property
    def spent(self) -> bool:
        """Tell whether no fault will follow."""
        return not self._open()

    def next(self, now: float) -> tuple[Fault, str] | None:
        """Begin a fault where one may begin now; its NAME is busy until `ended`."""
        if any(fault in ALONE for fault in self._busy.values()):
            return None
        left = self._open()
        for fault in left:
            if fault in ALONE and self._is_due(fault, left, now):
                return None if self._busy else self._begin(fault)
        for fault in sorted(left, key=self._progress):
            if fault not in ALONE and self._has_room(fault):
                return self._begin(fault)
        return None

    def ended(self, name: str, now: float) -> None:
        """Take back a NAME whose fault is over."""
        fault = self._busy.pop(name)
        if fault in ALONE:
            self._due[fault] = now + ALONE_EVERY_S

    def drop(self, name: str) -> None:
        """Leave out a NAME from now on: it did not come back."""
        for names in self._takers.values():
            if name in names:
                names.remove(name)

    def _open(self) -> list[Fault]:
        return [f for f, names in self._takers.items() if names and self._begun[f] < self._quota[f]]

    def _progress(self, fault: Fault) -> float:
        return self._begun[fault] if self._endless else self._begun[fault] / self._quota[fault]

    def _is_due(self, fault: Fault, left: Sequence[Fault], now: float) -> bool:
        if self._endless:
            return now >= self._due[fault]
        return self._progress(fault) <= min(map(self._progress, left))

    def _has_room(self, fault: Fault) -> bool:
        of_kind = sum(busy is fault for busy in self._busy.values())
        idle = any(name not in self._busy for name in self._takers[fault])
        return idle and of_kind < AT_ONCE[fault] and len(self._busy) < self._most

    def _begin(self, fault: Fault) -> tuple[Fault, str]:
        names = self._takers[fault]
        name = next(name for name in names if name not in self._busy)
        names.remove(name)
        names.append(name)  # by turns
        self._busy[name] = fault
        self._begun[fault] += 1
        return fault, name
