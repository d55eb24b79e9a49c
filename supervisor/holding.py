"""Stops the processes of all services for a moment, so that their files are those of one moment.

A process that is stopped cannot send, so nothing is received anywhere that its sender's files do
not have: the files are as if all processes had been killed at once, which services survive. Times
are monotonic seconds.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from garrison.ipc.system import process_tree
from garrison.supervisor.lifecycle.policy import has_process
from garrison.supervisor.lifecycle.services import Service, ServiceTable

MOST_S = 5.0  # for one hold; less where a watchdog would end what is held
PROCESSES_MOST = 10_000
SOON_S, LOOK_S = 0.004, 0.0005  # most processes stop within this; the loop is not held up longer


class HeldProcesses:
    """The processes that are stopped, if any are.

    Args:
        services: The services.
    """

    def __init__(self, services: ServiceTable) -> None:
        self._services = services
        self._pidfds: dict[int, int] = {}  # by pid
        self._named: list[Service] = []
        self._holds = False  # also where there is no process
        self._before: dict[str, tuple[object, ...]] = {}

    def __bool__(self) -> bool:
        return self._holds

    def longest(self) -> float:
        """Return for how long processes may be stopped: half of the shortest watchdog, at most."""
        watchdogs = (one.spec.supervision.watchdog for one in self._services)
        return min([MOST_S, *(watchdog / 2 for watchdog in watchdogs if watchdog > 0)])

    def stop(self) -> list[str]:
        """Have the workers stop, and all that they have started; return their services' NAMEs.

        A process stops at its next instruction, which is later on a busy machine: see `are_still`.
        """
        everyone = self._services.all()  # in a reload, both incarnations of a service
        here = [one for one in everyone if not one.current.handle.node]
        self._named = [one for one in here if has_process(one.state) and one.current.pid]
        self._before = self._identities()
        self._holds = True
        self._stop_trees()
        until = time.monotonic() + SOON_S
        while not self.are_still() and time.monotonic() < until:
            time.sleep(LOOK_S)
        return list(dict.fromkeys(service.name for service in self._named))

    def are_still(self) -> bool:
        """Return whether all threads have stopped. What they had just started is stopped too."""
        known = len(self._pidfds)
        self._stop_trees()
        return len(self._pidfds) == known and all(map(process_tree.is_still, self._pidfds))

    def _stop_trees(self) -> None:
        for service in self._named:
            for pid, parent in tree_of(service.current.pid, service.current.handle.ticks):
                if pid not in self._pidfds:
                    self._stop_one(pid, parent)

    def _stop_one(self, pid: int, parent: int) -> None:
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(pid)
            if parent and pid not in process_tree.children(parent):  # reused meanwhile
                os.close(pidfd)
                return
            self._pidfds[pid] = pidfd
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)

    def resume(self) -> list[str]:
        """Have them go on; return the NAMEs of services that were started or ended meanwhile."""
        pidfds, self._pidfds, self._named = self._pidfds, {}, []
        self._holds = False
        for pidfd in reversed(pidfds.values()):
            with contextlib.suppress(OSError):  # it was killed
                signal.pidfd_send_signal(pidfd, signal.SIGCONT)
            os.close(pidfd)
        now = self._identities()
        names = {*now, *self._before}
        return sorted(name for name in names if now.get(name) != self._before.get(name))

    def _identities(self) -> dict[str, tuple[object, ...]]:
        found = dict[str, tuple[object, ...]]()
        for one in self._services.all():
            found[one.name] = (*found.get(one.name, ()), _identity(one))
        return found


def _identity(service: Service) -> tuple[object, ...]:
    return service.state, service.child.generation, service.current.pid


def tree_of(pid: int, ticks: int) -> Iterator[tuple[int, int]]:
    """Yield a worker's pid and those of all that it has started, with each one's parent.

    A caller that stops each before the next is yielded has none start others meanwhile.
    """
    if not process_tree.is_alive(pid, ticks):
        return
    yield pid, 0
    todo, seen = [pid], {pid}
    while todo and len(seen) < PROCESSES_MOST:
        parent = todo.pop()
        for child in process_tree.children(parent):
            if child not in seen:
                yield child, parent
                seen.add(child)
                todo.append(child)
