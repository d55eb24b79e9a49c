"""Ends the process trees of workers that have ended, and other descendants that lost their parent.

Nothing here waits: `work` does what can be done now. Times are monotonic seconds.
"""

import time
from collections.abc import Callable, Collection
from pathlib import Path

from garrison.ipc.system import process_tree

from . import cgroups
from .protocol import TREE_WAIT


class TreeEnds:
    """The process trees that are being ended.

    Args:
        worker_cgroups: Made a cgroup for each worker.
        pids: The children that are known, and not to be ended.
        gone: Called with the key of a worker of which nothing is left, or only these processes.

    Attributes:
        ending: Key of a worker → until when its tree may take to end.
    """

    def __init__(
        self,
        worker_cgroups: cgroups.Cgroups,
        pids: Collection[int],
        gone: Callable[[bytes, tuple[int, ...]], None],
    ) -> None:
        self._cgroups, self._pids, self._gone = worker_cgroups, pids, gone
        self.ending: dict[bytes, float] = {}
        self._ending_cgroups: dict[bytes, Path | None] = {}
        self._orphans_until = 0.0  # end other descendants until then
        self._stuck: set[int] = set()  # reported as left over: they survive SIGKILL

    @property
    def busy(self) -> bool:
        """Return whether `work` has something to do."""
        return bool(self.ending or self._orphans_until)

    def begin(self, key: bytes, cgroup: Path | None) -> None:
        """End what is left of a worker, which has ended."""
        self.ending[key] = time.monotonic() + TREE_WAIT
        self._ending_cgroups[key] = cgroup

    def reaped(self, pid: int) -> None:
        """Take note that a child that was not known has ended: there may be more of its tree."""
        self._stuck.discard(pid)
        self.end_orphans_soon()

    def end_orphans_soon(self) -> None:
        """End descendants that are not known, for a while from now on."""
        self._orphans_until = time.monotonic() + TREE_WAIT

    def work(self) -> None:
        """Kill what is left, and report what has ended."""
        if self.ending:
            self._end_trees()
        elif self._orphans_until:
            self._end_orphans()

    def _end_trees(self) -> None:
        """Kill what ended workers left behind, until nothing is left or the deadline passes."""
        full = {key for key, cgroup in self._ending_cgroups.items() if cgroups.kill(cgroup)}
        found = process_tree.kill_orphans(self._pids)
        self._stuck.intersection_update(found)
        left = [pid for pid in found if pid not in self._stuck]
        now = time.monotonic()
        for key, deadline in list(self.ending.items()):
            if now < deadline and (left or key in full):
                continue
            del self.ending[key]
            cgroup = self._ending_cgroups.pop(key)
            inside = cgroups.inside(cgroup) if key in full else []
            self._cgroups.discard(cgroup)
            self._stuck.update(left)  # reported once; later ends do not wait for these
            self._gone(key, tuple({*left, *inside}))

    def _end_orphans(self) -> None:
        """Kill descendants that lost their parent while no worker was ending."""
        left = set(process_tree.kill_orphans(self._pids)) - self._stuck
        if time.monotonic() >= self._orphans_until:
            self._stuck |= left
        if left <= self._stuck:
            self._orphans_until = 0.0
