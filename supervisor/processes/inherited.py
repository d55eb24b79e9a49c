"""Ends workers whose launcher has ended: this process, or init, is their parent now."""

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from garrison.ipc import flight_recorder
from garrison.ipc.system import process_tree

from . import cgroups
from .early_launcher import LAUNCHER
from .engine import Inherited, Key
from .launcher_process import FORMER_LAUNCHER, LEAVE_WAIT
from .protocol import TREE_WAIT
from .worker_table import LocalWorker, WorkerTable

# Minimum time between searches for what reparented workers left, which read the environment of
# every process; or twenty times the duration of a search, if that is longer.
SEARCH_GAP_S = 0.05


def is_worker(key: Key, known: Inherited) -> bool:
    """Return whether the process of a snapshot is that worker, by its owner and its mark.

    The mark is the flight recorder, which it has mapped. A worker without one, as on a full disk,
    still has the launcher's command line and the name that it gave itself.
    """
    process = Path(f"/proc/{known.handle.pid}")
    try:
        status = (process / "status").read_text("utf-8", "replace")
        uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
        if not {int(uids[0]), int(uids[1])} <= {os.geteuid(), known.uid}:
            return False
        flight = f"{known.name}.{key.hex()}{flight_recorder.SUFFIX}"
        if f"/{flight}" in (process / "maps").read_text("utf-8", "replace"):
            return True
        words = (process / "cmdline").read_bytes().split(b"\0")
        name = (process / "comm").read_text("utf-8", "replace").strip()
    except (OSError, StopIteration):  # it has ended, or is another user's
        return False
    launched = not {LAUNCHER.encode(), FORMER_LAUNCHER.encode()}.isdisjoint(words)
    return launched and name == f"g:{known.name}".encode()[:15].decode("utf-8", "ignore")


def open_worker(key: Key, known: Inherited) -> int:
    """Return a pidfd of the worker of a snapshot; -1 if it has ended."""
    handle = known.handle
    try:
        pidfd = os.pidfd_open(handle.pid)
    except (OSError, OverflowError, ValueError):  # also for a number that is no pid
        return -1
    same = process_tree.start_ticks(handle.pid) == handle.ticks
    if same and not process_tree.ended(pidfd, 0) and is_worker(key, known):
        return pidfd
    os.close(pidfd)
    return -1


def inherit(worker: LocalWorker, children: Collection[int]) -> None:
    """Take over a worker from a launcher that has ended.

    Args:
        worker: The worker.
        children: The pids of this process's children.
    """
    worker.launcher, worker.reparented = None, worker.pid not in children
    worker.cgroup = cgroups.cgroup_of(worker.pid)


def reap(worker: LocalWorker) -> int | None:
    """Reap a worker without a launcher; return its wait status, None if that is unknown.

    Its tree is ended from now on, by `InheritedTrees`.
    """
    # A zombie still holds its pid, and so does a process group with a member left.
    cgroups.signal_worker(worker.pid, signal.SIGKILL, worker.cgroup)
    status: int | None = None
    if not worker.reparented:
        with contextlib.suppress(ChildProcessError):
            process_tree.ended(worker.pidfd, LEAVE_WAIT)  # it may have been killed just now
            reaped, word = os.waitpid(worker.pid, os.WNOHANG)
            status = word if reaped else None
    worker.pid = 0
    worker.end_tree_until = time.monotonic() + TREE_WAIT
    return status


def reap_strangers(waited: Collection[int]) -> set[int]:
    """Reap the ended children of this process that it does not wait for; return their pids.

    All orphans of a container fall to this process as its PID 1, and others to it as a subreaper.
    """
    strangers = {pid for pid in process_tree.children() if pid not in waited}
    reaped = {pid for pid in strangers if process_tree.has_ended(pid)}
    for pid in reaped:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return reaped


class InheritedTrees:
    """Ends what workers without a launcher left, and what a lost launcher left besides workers."""

    def __init__(self) -> None:
        self._orphans_until = 0.0  # end other processes of a lost launcher until then
        self._search_at = 0.0  # when to search for what reparented workers left
        self._ending = False  # a worker without a launcher has ended, and its tree may be left

    def launcher_lost(self, keep: Collection[int]) -> None:
        """End what a lost launcher left besides the pids to keep."""
        orphans = process_tree.kill_orphans(keep)
        self._orphans_until = time.monotonic() + TREE_WAIT if orphans else 0.0

    def worker_ended(self) -> None:
        """Note that a worker without a launcher was reaped."""
        self._ending = True

    def busy(self, workers: WorkerTable) -> bool:
        """Return whether `step` has something to do."""
        if self._ending:
            self._ending = any(one.end_tree_until for one in workers.values())
        return bool(self._orphans_until) or self._ending

    def step(self, workers: WorkerTable, keep: Collection[int]) -> Iterator[tuple[Key, list[int]]]:
        """End trees further; yield each worker whose tree is gone, and pids that are left of it.

        Args:
            workers: All workers.
            keep: Children of this process that are not to be ended.
        """
        now = time.monotonic()
        if not self.busy(workers) or now < self._search_at:
            return
        orphans = process_tree.kill_orphans(keep)
        if not orphans or now >= self._orphans_until:
            self._orphans_until = 0.0
        for key, worker in [item for item in workers.items() if item[1].end_tree_until]:
            left = list(orphans)
            if worker.reparented:  # init has what it left; environment and cgroup identify it
                began = time.monotonic()
                left += process_tree.end_marked(process_tree.incarnation_mark(key))
                took = time.monotonic() - began
                self._search_at = max(self._search_at, now + max(SEARCH_GAP_S, 20 * took))
            if cgroups.kill(worker.cgroup):
                left += cgroups.inside(worker.cgroup)
            if not left or now >= worker.end_tree_until:
                yield key, left


def end_left(key: Key, worker: LocalWorker, cgroup: Path | None) -> None:
    """Kill a worker whose launcher had to be killed at the end: it may be init's child by now."""
    process_tree.signal_group(worker.pid, signal.SIGKILL)
    cgroups.kill(cgroup)
    process_tree.end_marked(process_tree.incarnation_mark(key))
    process_tree.ended(worker.pidfd, TREE_WAIT)
