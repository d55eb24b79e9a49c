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


def children() -> list[int]:
    """Return the pids of this process's children, zombies among them."""
    found: list[int] = []
    try:
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208 (a thousand times a second)
            found += map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
    except OSError:  # a kernel without CONFIG_PROC_CHILDREN
        import psutil  # seldom needed, and every worker would have it

        return [process.pid for process in psutil.Process().children()]
    return found


def peek_ended() -> int | None:
    """Return the pid of a child that ended and is not reaped yet, or None."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def signal_group(pid: int, number: int) -> None:
    """Signal a worker's process group; the worker itself where it made none yet.

    The worker must be a child that is not reaped, so that its number is nobody else's.
    """
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:  # a member runs as another user; the worker itself may be ours
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def end_escaped(keep: Container[int]) -> list[int]:
    """Kill every child that is not to be kept; return those that are not gone yet."""
    left: list[int] = []
    for pid in children():
        if pid in keep:
            continue
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                left.append(pid)
    return left


def end_everything_below(seconds: float, keep: Container[int] = ()) -> None:
    """End all descendants of this process, a subreaper, as far as that can be done in time."""
    deadline = time.monotonic() + seconds
    while end_escaped(keep) and time.monotonic() < deadline:
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


def mark(token: bytes) -> str:
    """Return what an incarnation's processes bear; not the token, which is its address."""
    return hashlib.sha256(token).hexdigest()[:16]


def started(pid: int) -> int:
    """Return when a process started, in clock ticks since the machine did; 0: there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])


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
