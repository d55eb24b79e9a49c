"""Workers of a former supervisor that its snapshot names, and what is left of those that ended."""

import time
from collections import deque
from collections.abc import Sequence

from garrison.ipc.system import process_tree

from . import engine, inherited
from .engine import Found, Happened, Inherited, Key
from .post_mortem import PostMortem
from .worker_table import LocalWorker, WorkerTable

SEARCH_S = 0.005  # of one turn, for processes that former workers left


class FormerWorkers:
    """The workers of a snapshot.

    Args:
        workers: All workers; those that are found are added.
        post_mortem: Has the files that a worker leaves.
        others: Pids of children of this process that are not the engine's.

    Attributes:
        known: Those that the snapshot names.
    """

    def __init__(self, workers: WorkerTable, post_mortem: PostMortem, others: set[int]) -> None:
        self._workers, self._post_mortem, self._others = workers, post_mortem, others
        self._missing: deque[Key] = deque()  # known ones that ended unseen
        self.known: dict[Key, Inherited] = {}

    def begin(self, known: Sequence[Inherited]) -> None:
        """Take the workers of a snapshot."""
        self.known = {one.key: one for one in known}

    @property
    def busy(self) -> bool:
        """Return whether `end_missing` has something to do."""
        return bool(self._missing)

    def resume(self, key: Key, name: str) -> None:
        """Note where a former supervisor's worker leaves its files; an unknown one by its name."""
        known = self.known.get(key)
        if name := known.name if known is not None else name:
            self._post_mortem.resume(key, name, self.log_began(key))

    def log_began(self, key: Key) -> tuple[int, int] | None:
        """Return where the log of a worker begins, if that is known."""
        known = self.known.get(key)
        return known.handle.log_began if known is not None else None

    def hold_reparented(self, found: Found) -> dict[Key, str]:
        """Hold the known workers that no launcher has; return them with their names.

        The others have ended unseen: `end_missing` reports them.
        """
        reparented: dict[Key, str] = {}
        for key, one in self.known.items():
            if key in found.running or key in found.ended:
                continue
            self.resume(key, one.name)
            if self._hold(key, one):
                reparented[key] = one.name
            else:
                self._missing.append(key)
        return reparented

    def _hold(self, key: Key, known: Inherited) -> bool:
        """Adopt a worker that has neither launcher nor parent; return False if it has ended."""
        handle, pidfd = known.handle, inherited.open_worker(key, known)
        if pidfd < 0:
            return False
        self._others.discard(handle.pid)
        worker = self._workers[key] = LocalWorker(None, log_began=handle.log_began)
        worker.pid, worker.ticks = handle.pid, handle.ticks
        inherited.inherit(worker, process_tree.children())
        self._workers.watch_exit(key, pidfd)
        return True

    def end_missing(self) -> list[Happened]:
        """End what known workers left that ended unseen; return their ends, some at a time."""
        happened: list[Happened] = []
        until = time.monotonic() + SEARCH_S
        while self._missing and time.monotonic() < until:
            key = self._missing.popleft()
            process_tree.end_marked(process_tree.incarnation_mark(key))
            self._post_mortem.gone(key)
            happened += [engine.Ended(key, None), engine.Gone(key)]
        return happened
