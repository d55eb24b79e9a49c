"""The schedule of faults: which is next, and in which service. Pure.

Times are monotonic seconds and are passed as `now`.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from math import inf

HOST = ""  # in place of a NAME: the supervisor takes the fault


class PlannedFault(Enum):
    """The kinds of faults."""

    KILL = "kill"  # SIGKILL to a worker
    STOP = "stop"  # SIGSTOP to a worker
    HANG = "hang"  # its event loop is blocked
    LEAK = "leak"  # it allocates memory past its memory_max
    FLOOD = "flood"  # it sends another service calls and events as fast as it can
    SUPERVISOR = "supervisor"  # SIGKILL to the supervisor


AT_ONCE = {
    PlannedFault.KILL: 2,
    PlannedFault.LEAK: 2,
    PlannedFault.STOP: 8,
    PlannedFault.HANG: 8,
}  # at most, by kind
ALONE = frozenset({PlannedFault.FLOOD, PlannedFault.SUPERVISOR})  # they affect every service
ALONE_EVERY_S = 2.0  # between two of them, in a run without a total


class FaultSchedule:
    """The faults of one run.

    Args:
        takers: Each fault with the NAMEs that take it.
        total: Faults in all, divided evenly among the kinds; None is no limit.
        began: When the run began.
    """

    def __init__(
        self, takers: Mapping[PlannedFault, Sequence[str]], total: int | None, began: float
    ) -> None:
        self._takers = {fault: list(names) for fault, names in takers.items()}
        self._quota: dict[PlannedFault, float] = dict.fromkeys(takers, inf)
        if total is not None:
            each, more = divmod(total, len(takers))
            self._quota = {fault: each + (n < more) for n, fault in enumerate(takers)}
        self._endless = total is None
        self._begun: dict[PlannedFault, int] = dict.fromkeys(takers, 0)
        self._due: dict[PlannedFault, float] = dict.fromkeys(ALONE & set(takers), began)
        self._busy: dict[str, PlannedFault] = {}
        names = {name for some in takers.values() for name in some}
        self._most = max(1, len(names) // 2)  # the others answer the callers

    @property
    def busy(self) -> int:
        """Return how many faults are under way."""
        return len(self._busy)

    @property
    def begun(self) -> int:
        """Return how many faults have begun."""
        return sum(self._begun.values())

    @property
    def spent(self) -> bool:
        """Return True if no fault will follow."""
        return not self._open()

    def next(self, now: float) -> tuple[PlannedFault, str] | None:
        """Begin the next fault, if one may begin now; its NAME is busy until `ended`."""
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
        """Record that the fault of a NAME is over."""
        fault = self._busy.pop(name)
        if fault in ALONE:
            self._due[fault] = now + ALONE_EVERY_S

    def drop(self, name: str) -> None:
        """Begin no more faults for a NAME."""
        for names in self._takers.values():
            if name in names:
                names.remove(name)

    def _open(self) -> list[PlannedFault]:
        return [f for f, names in self._takers.items() if names and self._begun[f] < self._quota[f]]

    def _progress(self, fault: PlannedFault) -> float:
        return self._begun[fault] if self._endless else self._begun[fault] / self._quota[fault]

    def _is_due(self, fault: PlannedFault, left: Sequence[PlannedFault], now: float) -> bool:
        if self._endless:
            return now >= self._due[fault]
        return self._progress(fault) <= min(map(self._progress, left))

    def _has_room(self, fault: PlannedFault) -> bool:
        of_kind = sum(busy is fault for busy in self._busy.values())
        idle = any(name not in self._busy for name in self._takers[fault])
        return idle and of_kind < AT_ONCE[fault] and len(self._busy) < self._most

    def _begin(self, fault: PlannedFault) -> tuple[PlannedFault, str]:
        names = self._takers[fault]
        name = next(name for name in names if name not in self._busy)
        names.remove(name)
        names.append(name)  # in turns
        self._busy[name] = fault
        self._begun[fault] += 1
        return fault, name
