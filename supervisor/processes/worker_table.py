"""The workers of the local engine, and the pidfds that show their exits."""

import os
import select
import time
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path

import msgspec

from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle

from .engine import NO_LIMITS, Key
from .launcher_process import LauncherProcess


class LocalWorker(msgspec.Struct, eq=False):
    """One worker."""

    launcher: LauncherProcess | None  # None: its launcher has ended
    limits: ProcessLimits = NO_LIMITS
    log_began: tuple[int, int] | None = None
    pid: int = 0
    pidfd: int = -1
    ticks: int = 0
    reparented: bool = False  # without a launcher: it is not a child of this process either
    paused: bool = False  # it was stopped when its stacks were requested
    cgroup: Path | None = None  # without a launcher: its cgroup
    end_tree_until: float = 0.0  # without a launcher, ended: deadline for its tree
    answer_due: float = inf  # when its launcher must have answered; after that it is killed
    command: bool = False  # it runs a plain command, which is measured in its place

    @property
    def handle(self) -> Handle:
        """Return how it is found again."""
        return Handle(self.pid, self.ticks, self.log_began)


class WorkerTable(dict[Key, LocalWorker]):
    """All workers by key."""

    def __init__(self) -> None:
        super().__init__()
        self._exits = select.epoll()
        self._by_pidfd: dict[int, Key] = {}
        self.answers_due = inf  # the earliest `answer_due` of all workers

    def fileno(self) -> int:
        """Return the descriptor that is readable when a worker has exited."""
        return self._exits.fileno()

    def watch_exit(self, key: Key, pidfd: int) -> None:
        """Watch for the exit of a worker's process; the table owns the descriptor."""
        self[key].pidfd = pidfd
        self._exits.register(pidfd, select.EPOLLIN)
        self._by_pidfd[pidfd] = key

    def expect_answer(self, worker: LocalWorker, seconds: float) -> None:
        """Note that a worker's launcher has to answer within that time."""
        worker.answer_due = time.monotonic() + seconds
        self.answers_due = min(self.answers_due, worker.answer_due)

    def answered(self, keys: Iterable[Key], seconds: float) -> None:
        """Note that a launcher has reported: it works, so it has that time for what it still owes.

        Args:
            keys: Its workers.
            seconds: From now on; what is due later stays so.
        """
        due = time.monotonic() + seconds
        for key in keys:
            worker = self[key]
            if worker.answer_due < due:
                worker.answer_due = due

    def answers_late(self, again: float) -> list[LocalWorker]:
        """Return the workers whose launcher has not answered in time.

        Args:
            again: Seconds after which they are returned again.
        """
        now = time.monotonic()
        late = [worker for worker in self.values() if worker.answer_due <= now]
        for worker in late:
            worker.answer_due = now + again
        self.answers_due = min((worker.answer_due for worker in self.values()), default=inf)
        return late

    def exit_seen(self, worker: LocalWorker) -> bool:
        """Return whether `exited` has returned a worker."""
        return worker.pidfd >= 0 and worker.pidfd not in self._by_pidfd

    def exited(self) -> Iterator[tuple[Key, LocalWorker]]:
        """Yield the workers whose exit has not been seen before."""
        for fd, _ in self._exits.poll(0):
            key = self._by_pidfd[fd]
            self._see_exit(fd)
            yield key, self[key]

    def exited_by_report(self, key: Key) -> bool:
        """Return whether a worker's exit is news, when its launcher reports how it ended."""
        worker = self.get(key)
        return worker is not None and self._see_exit(worker.pidfd)

    def _see_exit(self, pidfd: int) -> bool:
        if self._by_pidfd.pop(pidfd, None) is None:
            return False
        self._exits.unregister(pidfd)
        return True

    def forget(self, key: Key) -> None:
        """Remove a worker of which nothing is left."""
        worker = self.pop(key, None)
        if worker is None:
            return
        if worker.launcher is not None:
            worker.launcher.keys.discard(key)
            worker.launcher.idle_since = time.monotonic()
        if worker.pidfd >= 0:
            self._see_exit(worker.pidfd)
            os.close(worker.pidfd)

    def without_launcher(self) -> set[int]:
        """Return the pids of workers without a launcher."""
        return {worker.pid for worker in self.values() if worker.launcher is None}

    def close(self) -> None:
        """Release all descriptors."""
        for worker in self.values():
            if worker.pidfd >= 0:
                os.close(worker.pidfd)
        self.clear()
        self._exits.close()
