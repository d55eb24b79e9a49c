"""Ends process trees: what a worker started is gone when the worker is.

The process that uses this is a subreaper: whatever a dead worker leaves behind, also what called
`setsid` and forked twice, becomes its child, and is ended and reaped here.
"""

import contextlib
import ctypes
import hashlib
import os
import resource
import select
import signal
import time
from collections.abc import Container
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
PROC_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()  # the kernel has them
TICKS, PAGE_BYTES = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
LOOKS = 3  # until nothing is taken for nothing
STOP_ROUNDS = 20  # of stopping what came up meanwhile, until it is killed as it is


def become_subreaper() -> None:
    """Adopt every descendant whose own parent ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def forbid_cores() -> None:
    """Keep this process's memory, and that of what it starts, out of core files.

    A core that is piped to a program is not held to the limit, so it is given no memory either.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a kernel without core files
        Path("/proc/self/coredump_filter").write_text("0")


def children(of: int | None = None) -> list[int]:
    """Return the pids of a process's children, this one's by default, zombies among them."""
    folder = f"/proc/{of or 'self'}/task"
    found: list[int] = []
    try:
        for task in os.listdir(folder):  # noqa: PTH208 (a thousand times a second)
            found += _children(folder, task)
    except OSError:
        if PROC_CHILDREN:  # it has ended meanwhile
            return found
        import psutil  # seldom needed, and every worker would have it

        with contextlib.suppress(psutil.Error):
            found = [process.pid for process in psutil.Process(of).children()]
    return found


def children_of_thread(thread: int) -> list[int]:
    """Return the pids of the children of one of this process's threads; of all where the kernel
    does not tell."""
    try:
        return _children("/proc/self/task", thread)
    except OSError:  # without CONFIG_PROC_CHILDREN
        return children()


def _children(folder: str, task: int | str) -> list[int]:
    return [int(pid) for pid in Path(f"{folder}/{task}/children").read_text().split()]


def peek_ended() -> int | None:
    """Return the pid of a child that ended and is not reaped yet, or None."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def start_ticks(pid: int) -> int:
    """Return when a process began, in clock ticks since the boot; 0 where there is none.

    With the number it names a process for good: a number alone is used again.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def usage(pid: int) -> tuple[int, int, float]:
    """Return when a process began, its resident bytes and the seconds of a processor that it has
    used; nothing of all where there is none. One file is read: 200 are asked for at a time."""
    fields = _stat(pid)
    if not fields:
        return 0, 0, 0.0
    seconds = (int(fields[11]) + int(fields[12])) / TICKS
    return int(fields[19]), int(fields[21]) * PAGE_BYTES, seconds


def _stat(pid: int) -> list[str]:
    """Return what follows a process's name in its stat: its state, its parent, its group, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int, start: int | None = None) -> bool:
    """Tell whether a process is there, and does not only wait to be reaped."""
    fields = _stat(pid)
    there = bool(fields) and fields[0] not in {"Z", "X"}
    return there and start in {None, int(fields[19])}


def stopped(pid: int) -> bool:
    """Tell whether a process is stopped, by SIGSTOP or by a debugger."""
    return _stat(pid)[:1] in (["T"], ["t"])


def signal_one(pid: int, number: int) -> None:
    """Signal a child that is not reaped, unless it became another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(pid: int, number: int) -> None:
    """Signal a worker's process group; the worker itself where it made none yet.

    The worker must be a child that is not reaped, so that its number is nobody else's.
    """
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # none yet; or no member is ours, but it may be
        signal_one(pid, number)


def below(keep: Container[int] = ()) -> dict[int, int]:
    """Return this process's descendants, but for those to keep and theirs: pid → parent.

    Parents come before their children.
    """
    found = {pid: os.getpid() for pid in children() if pid not in keep}
    todo = list(found)
    while todo:
        parent = todo.pop(0)
        for pid in children(parent):
            if pid not in found and pid not in keep:
                found[pid] = parent
                todo.append(pid)
    return found


def kill_orphans(keep: Container[int] = ()) -> list[int]:
    """Kill all that is below this process, but for what is to be kept; return what is not gone.

    Everything is stopped before anything is killed: of processes that start each other again,
    one killed after the other, there would always be one.
    """
    found = _seen_below(keep)
    if not found:
        return []
    stopped: set[int] = set()
    for _ in range(STOP_ROUNDS):
        fresh = found.keys() - stopped
        if not fresh:
            break
        for pid in fresh:
            _signal_below(pid, found[pid], signal.SIGSTOP, keep)
        stopped |= fresh
        found = below(keep)
    for pid, parent in found.items():
        _signal_below(pid, parent, signal.SIGKILL, keep)
    left = [pid for pid, parent in found.items() if not _reaped(pid, parent)]
    return left or list(_seen_below(keep))


def _seen_below(keep: Container[int]) -> dict[int, int]:
    """Return what is below, from more than one look: what falls to us just now is in no list."""
    for _ in range(LOOKS):
        if found := below(keep):
            return found
    return {}


def _reaped(pid: int, parent: int) -> bool:
    """Reap a child that has ended; tell whether a descendant is gone."""
    if parent == os.getpid():
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(pid, os.WNOHANG)[0] != 0
        return True
    return not is_alive(pid)  # once it falls to us, the next round reaps it


def _signal_below(pid: int, parent: int, number: int, keep: Container[int]) -> None:
    """Signal a descendant, and its group, which cannot fork out of a signal's way.

    A session begins in one worker's tree and nobody joins it from outside, so a group that has a
    member below is wholly below, unless its leader is kept.
    """
    with contextlib.suppress(OSError):
        group = os.getpgid(pid)
        if group != os.getpgrp() and group not in keep:
            os.killpg(group, number)
    if parent == os.getpid():  # not reaped yet, so the number is its own
        signal_one(pid, number)
        return
    with contextlib.suppress(OSError):
        watched = os.pidfd_open(pid)
        try:
            if _stat(pid)[1:2] == [str(parent)]:  # it is still the one that was seen
                signal.pidfd_send_signal(watched, number)
        finally:
            os.close(watched)


def end_everything_below(seconds: float, keep: Container[int] = ()) -> None:
    """End all descendants of this process, a subreaper, as far as that can be done in time."""
    deadline = time.monotonic() + seconds
    while kill_orphans(keep) and time.monotonic() < deadline:
        time.sleep(0.002)  # no event tells of grandchildren that fall to us


def describe(status: int | None) -> str:
    """Return a wait status in words; None is an end that nobody could wait for."""
    if status is None:
        return "ended, nobody knows how"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was killed by {name}"
    return f"exited with code {os.WEXITSTATUS(status)}"


# --- what is nobody's child ---------------------------------------------------------------

MARK = "GARRISON_INCARNATION"  # in the environment of whatever a worker starts


def incarnation_mark(token: bytes) -> str:
    """Return what an incarnation's processes bear; not the token, which is its address."""
    return hashlib.sha256(token).hexdigest()[:16]


def ended(pidfd: int, seconds: float) -> bool:
    """Tell whether a process ends within so long."""
    poll = select.poll()  # not select(), which knows no descriptor above 1023
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def end_marked(marked: str) -> list[int]:
    """Kill every process that began with a mark in its environment; return their pids.

    It finds what an incarnation started by `exec`, and what that started, wherever it has gone;
    not what cleared its environment. Reads every process's: tens of milliseconds.
    """
    needle = f"{MARK}={marked}".encode()
    found: list[int] = []
    for name in os.listdir("/proc"):  # noqa: PTH208
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if needle not in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                continue
            pidfd = os.pidfd_open(int(name))
            try:  # once more: the number may be another's by now
                if needle in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    found.append(int(name))
            finally:
                os.close(pidfd)
    return found
