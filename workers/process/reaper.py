"""Reaps the orphans that a worker adopts, and leaves the author's own children alone.

A worker is a subreaper: orphans of its descendants become its children, and stay as zombies until
they are reaped. The kernel does not distinguish an adopted child from the author's own, whose exit
status belongs to the author. The pids that `os.fork`, `os.forkpty` and `os.posix_spawn` return are
therefore recorded; which children appeared meanwhile says nothing, because orphans appear too. A
zombie is reaped only after `GRACE_S` seconds, and only if nothing in this process refers to it: its
pid is not recorded, no live object of `subprocess`, `multiprocessing` or `multiprocess` has it, and
its parent is the main thread (which is where the kernel puts orphans). What remains uncertain is a
child that native code forks on the main thread and waits for later than that: its status is lost.
Times are monotonic seconds.
"""

import contextlib
import functools
import gc
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from garrison.ipc.system import process_tree

GRACE_S = 2.0  # age at which a zombie counts as adopted
OWN_MOST = 64  # recorded own children; above that, ended ones are dropped

# Packages with classes whose instances wait for the process of their `pid`. libuv needs no entry:
# it reaps its children at once.
WAITING = ("subprocess", "multiprocessing", "multiprocess")
FORKS = ("fork", "forkpty", "posix_spawn", "posix_spawnp")  # of `os`; all return a pid


class Reaper:
    """Finds and reaps the children of this process that no code of it waits for."""

    def __init__(self) -> None:
        self._own: dict[int, int] = {}  # pid to start: forked by Python code of this process
        self._owners: dict[int, weakref.ref[Any]] = {}  # pid to the object that waits
        self._zombies: dict[tuple[int, int], float] = {}  # pid and start to first seen

    def watch_forks(self) -> None:
        """Record the children that Python code of this process forks from now on."""
        for name in FORKS:
            setattr(os, name, self._recording(getattr(os, name)))

    def reap(self, now: float) -> list[int]:
        """Reap adopted children that ended `GRACE_S` ago; return their pids. Call it periodically.

        It costs one system call while no child has ended.
        """
        if process_tree.peek_ended() is None:
            self._zombies.clear()
            return []
        _poll_dropped()
        adoptable = process_tree.children_of_thread(os.getpid())  # the main thread's
        ended = {
            pid: process_tree.start_ticks(pid) for pid in adoptable if process_tree.has_ended(pid)
        }
        self._zombies = {one: self._zombies.get(one, now) for one in ended.items()}
        ripe = [
            pid
            for (pid, start), since in self._zombies.items()
            if now - since >= GRACE_S and self._own.get(pid) != start and not self._has_owner(pid)
        ]
        reaped: list[int] = []
        if ripe:
            self._find_owners(set(ripe))
        for pid in ripe:
            if not self._has_owner(pid):
                with contextlib.suppress(ChildProcessError):  # reaped elsewhere meanwhile
                    os.waitpid(pid, os.WNOHANG)
                    reaped.append(pid)
        return reaped

    # --- own children -----------------------------------------------------------------------

    def _recording(self, fork: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fork)
        def recorded(*args: Any, **kwargs: Any) -> Any:
            made = fork(*args, **kwargs)
            pid: int = made[0] if isinstance(made, tuple) else made
            if pid:
                self._record(pid)
            return made

        return recorded

    def _record(self, pid: int) -> None:
        if len(self._own) >= OWN_MOST:
            there = set(process_tree.children())
            for gone in [one for one in self._own if one not in there]:
                del self._own[gone]
        self._own[pid] = process_tree.start_ticks(pid)

    def _has_owner(self, pid: int) -> bool:
        reference = self._owners.get(pid)
        if reference is None:
            return False
        owner = reference()
        if owner is not None and _waits_for(owner) == pid:
            return True
        del self._owners[pid]
        return False

    def _find_owners(self, pids: set[int]) -> None:
        """Find the objects that wait for these among all objects; takes some 10 ms."""
        for owner in _waiting():
            pid = _waits_for(owner)
            if pid in pids:
                with contextlib.suppress(
                    TypeError
                ):  # it permits no weak reference: search again next time
                    self._owners[pid] = weakref.ref(owner)


def _waiting() -> Iterator[Any]:
    """Yield all objects that may wait for a process."""
    kinds: dict[type, bool] = {}
    for one in gc.get_objects():
        kind = type(one)
        if kind not in kinds:
            kinds[kind] = any(
                base.__module__.partition(".")[0] in WAITING and "Popen" in base.__name__
                for base in kind.__mro__
            )
        if kinds[kind]:
            yield one
    for package in ("multiprocessing", "multiprocess"):
        for name in ("forkserver", "resource_tracker"):
            if module := sys.modules.get(f"{package}.{name}"):
                yield getattr(module, f"_{name}", None)


def _poll_dropped() -> None:
    """Let `subprocess` reap children whose objects were deleted, as it does at each new start."""
    poll = getattr(sys.modules.get("subprocess"), "_cleanup", None)
    if poll is not None:
        poll()


def _waits_for(owner: Any) -> int | None:
    """Return the pid that an object waits for; None if it has the status already."""
    if getattr(owner, "returncode", None) is not None:
        return None
    for name in ("pid", "_pid", "_forkserver_pid"):
        pid = getattr(owner, name, None)
        if isinstance(pid, int):
            return pid
    return None
