"""Reaps what a worker adopted, and leaves alone what its author's code waits for.

A worker is a subreaper, so orphans of its descendants become its children; unreaped they would
stay as zombies. The kernel does not say which child was adopted and which is the author's own,
whose exit status is the author's. So a zombie is taken only after `RIPE_S` seconds in which nobody
waited for it, and only where nothing in this process knows of it: no `os.fork`, `os.posix_spawn`
or `pty.fork` made it, no live object of `subprocess`, `multiprocessing` or `multiprocess` has it,
and no thread but the main one is its parent (orphans fall to the main thread). What is left over
is a child that native code forked on the main thread and waits for later than that: its status is
lost. Times are monotonic seconds.
"""

import contextlib
import functools
import gc
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from garrison.ipc.system import process_tree

GRACE_S = 2.0  # so long a zombie stands before it is taken for an adopted one
NOTED_MOST = 64  # own children noted, until those that are gone are forgotten

# Where classes live whose instances wait for the process that their `pid` names.
WAITING = ("subprocess", "multiprocessing", "multiprocess")  # libuv never lets one stand


class Reaper:
    """The children of this process that nobody waits for."""

    def __init__(self) -> None:
        self._own: dict[int, int] = {}  # pid → start: forked by this process's own Python code
        self._owners: dict[int, weakref.ref[Any]] = {}  # pid → the object that waits for it
        self._zombies: dict[tuple[int, int], float] = {}  # pid and start → first seen
        self._before = threading.local()

    def watch_forks(self) -> None:
        """Note from now on what this process forks itself."""
        os.register_at_fork(before=self._forking, after_in_parent=self._forked)
        for name in ("posix_spawn", "posix_spawnp"):  # these run no hooks
            setattr(os, name, self._noting(getattr(os, name)))

    def look(self, now: float) -> list[int]:
        """Reap what is adopted, ended and ripe; return its pids. To be called now and then.

        Where no child has ended, it costs one system call.
        """
        if process_tree.peek_ended() is None:
            self._zombies.clear()
            return []
        _poll_dropped()
        adoptable = process_tree.children_of_thread(os.getpid())  # the main thread's
        ended = {pid: process_tree.start_ticks(pid) for pid in adoptable if _has_ended(pid)}
        self._zombies = {one: self._zombies.get(one, now) for one in ended.items()}
        ripe = [
            pid
            for (pid, start), since in self._zombies.items()
            if now - since >= GRACE_S and self._own.get(pid) != start and not self._is_owned(pid)
        ]
        reaped: list[int] = []
        if ripe:
            self._find_owners(set(ripe))
        for pid in ripe:
            if not self._is_owned(pid):
                with contextlib.suppress(ChildProcessError):  # somebody did, meanwhile
                    os.waitpid(pid, os.WNOHANG)
                    reaped.append(pid)
        return reaped

    # --- what is this process's own ---------------------------------------------------------

    def _forking(self) -> None:
        self._before.children = frozenset(_of_this_thread())

    def _forked(self) -> None:
        """Note what was not there before: the child, perhaps with one adopted just then."""
        before: frozenset[int] = getattr(self._before, "children", frozenset())
        for pid in _of_this_thread():
            if pid not in before:
                self._note(pid)

    def _noting(self, spawn: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(spawn)
        def noted(*args: Any, **kwargs: Any) -> int:
            pid = spawn(*args, **kwargs)
            self._note(pid)
            return pid

        return noted

    def _note(self, pid: int) -> None:
        if len(self._own) >= NOTED_MOST:
            there = set(process_tree.children())
            for gone in [one for one in self._own if one not in there]:
                del self._own[gone]
        self._own[pid] = process_tree.start_ticks(pid)

    def _is_owned(self, pid: int) -> bool:
        reference = self._owners.get(pid)
        if reference is None:
            return False
        owner = reference()
        if owner is not None and _waits_for(owner) == pid:
            return True
        del self._owners[pid]
        return False

    def _find_owners(self, pids: set[int]) -> None:
        """Look through all objects for those that wait for these: some 10 ms."""
        for owner in _waiting():
            pid = _waits_for(owner)
            if pid in pids:
                with contextlib.suppress(TypeError):  # no weak reference to it: the next look
                    self._owners[pid] = weakref.ref(owner)


def _waiting() -> Iterator[Any]:
    """Yield every object that may wait for a process."""
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
    """Have `subprocess` reap what was dropped while it ran, as it does at each new start."""
    poll = getattr(sys.modules.get("subprocess"), "_cleanup", None)
    if poll is not None:
        poll()


def _waits_for(owner: Any) -> int | None:
    """Return the pid that an object waits for; None where it has waited."""
    if getattr(owner, "returncode", None) is not None:
        return None
    for name in ("pid", "_pid", "_forkserver_pid"):
        pid = getattr(owner, name, None)
        if isinstance(pid, int):
            return pid
    return None


def _of_this_thread() -> list[int]:
    return process_tree.children_of_thread(threading.get_native_id())


def _has_ended(pid: int) -> bool:
    """Tell whether a child is a zombie; it stays one."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
