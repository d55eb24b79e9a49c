"""Ends process trees: the processes that a worker started end with it.

The process that uses this is a subreaper: a process that an ended worker leaves behind becomes its
child, even if it called `setsid` or forked twice, and is killed and reaped here.
"""

import contextlib
import functools
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import ctypes

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36  # linux/prctl.h
PROC_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()  # the kernel provides it
TICKS, PAGE_BYTES = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
STAT_BYTES = 4096  # of /proc/PID/stat, which has some 300
LOOKS = 3  # before an empty list is trusted
STILL = frozenset("TtZX")  # states: stopped, by a debugger too, or ended
STOP_ROUNDS = 20  # of stopping new processes, before all are killed


@functools.cache
def libc() -> "ctypes.CDLL":
    """Return the C library."""
    import ctypes  # slow to import, and commands come here without need of it

    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def _fork() -> "Callable[[], int]":
    """Return the C library's `fork`, called without release of the interpreter's lock."""
    import ctypes

    found: Callable[[], int] = ctypes.PyDLL(None, use_errno=True).fork
    return found


def bare_fork() -> int:
    """Fork without Python's hooks, for a child that only forks again and exits; like `os.fork`.

    The hooks run once then, in the child's child. This process has one thread.
    """
    pid = _fork()()
    if pid < 0:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if libc().prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        import ctypes

        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_name(name: str) -> None:
    """Set the name of this process that `ps -o comm` shows, at most 15 bytes of it."""
    libc().prctl(PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def forbid_cores() -> None:
    """Disable core files of this process and its children.

    The limit does not apply to a core that is piped to a program, so its content is emptied too.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # a kernel without core files
        Path("/proc/self/coredump_filter").write_text("0")


def children(of: int | None = None) -> list[int]:
    """Return the pids of a process's children, zombies included; by default of this process."""
    if not PROC_CHILDREN:
        return _listed_children(of)
    folder = f"/proc/{of or 'self'}/task"
    found: list[int] = []
    with contextlib.suppress(OSError):  # the process ended meanwhile
        for task in os.listdir(folder):  # noqa: PTH208 (a thousand times a second)
            try:
                found += _children(folder, task)
            except OSError:  # a thread ended meanwhile; the others may have children
                continue
    return found


def _listed_children(of: int | None) -> list[int]:
    import psutil  # rarely needed, and every worker would import it

    with contextlib.suppress(psutil.Error):
        return [process.pid for process in psutil.Process(of).children()]
    return []


def children_of_thread(thread: int) -> list[int]:
    """Return the pids of the children of one of this process's threads.

    Without kernel support, return those of all threads.
    """
    try:
        return _children("/proc/self/task", thread)
    except OSError:  # without CONFIG_PROC_CHILDREN
        return children()


def _children(folder: str, task: int | str) -> list[int]:
    with open(f"{folder}/{task}/children", "rb", buffering=0) as file:  # noqa: PTH123 (often)
        return [int(pid) for pid in file.read().split()]


def peek_ended() -> int | None:
    """Return the pid of a child that ended and was not reaped, or None."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return found.si_pid if found is not None else None


def has_ended(pid: int) -> bool:
    """Return whether a child is a zombie, without reaping it."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def start_ticks(pid: int) -> int:
    """Return a process's start time in clock ticks since boot; 0 if there is no such process.

    Pid and start time identify a process; a pid alone is reused.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def usage(pid: int) -> tuple[int, int, float]:
    """Return a process's start ticks, resident bytes and CPU seconds; zeros if it has ended.

    It reads a single file, because up to 200 processes are sampled at a time.
    """
    fields = _stat(pid)
    if not fields:
        return 0, 0, 0.0
    seconds = (int(fields[11]) + int(fields[12])) / TICKS
    return int(fields[19]), int(fields[21]) * PAGE_BYTES, seconds


class TreeUsage(NamedTuple):
    """What a process has used, and what its children that have ended had."""

    ticks: int  # its start; 0: it has ended
    resident: int  # bytes
    seconds: float  # of processors, by itself
    ended_seconds: float  # by children that have ended and were waited for


def usage_with_ended(pid: int) -> TreeUsage:
    """Return what a process has used, from one file; zeros if it has ended."""
    fields = _stat(pid)
    if not fields:
        return TreeUsage(0, 0, 0.0, 0.0)
    own, ended = (int(fields[at]) + int(fields[at + 1]) for at in (11, 13))
    return TreeUsage(int(fields[19]), int(fields[21]) * PAGE_BYTES, own / TICKS, ended / TICKS)


def children_of_main_thread(pid: int) -> list[int]:
    """Return the pids of the children that a process's main thread has; a quarter of the work of
    `children`."""
    try:
        return _children(f"/proc/{pid}/task", pid)
    except OSError:  # it has ended, or the kernel has no such file
        return [] if PROC_CHILDREN else children(pid)


def _stat(pid: int | str) -> list[str]:
    """Return the fields after a process's name in its stat: state, parent, group, …

    Args:
        pid: Of the process; or "PID/task/ID", of a thread.
    """
    try:  # not by a Path and a text file: a supervisor reads one of each worker all the time
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        return os.read(descriptor, STAT_BYTES).rpartition(b")")[2].decode("ascii").split()
    except OSError:  # it has ended meanwhile
        return []
    finally:
        os.close(descriptor)


def processor_wait() -> float:
    """Return the seconds that this process's main thread was ready to run, while no processor was
    free; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/self/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def state(pid: int) -> str:
    """Return a process's state as one letter: R, S, D (waits for the disk), T …; '' without one."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def pid_namespace() -> int:
    """Return the number of this process's PID namespace: a pid means nothing in another one.

    0 if it is unknown.
    """
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def is_pid_namespace(number: object) -> bool:
    """Return True if a number is that of this process's PID namespace, or says nothing."""
    own = pid_namespace()
    return number == own or not own or not number or not isinstance(number, int)


def is_alive(pid: int, start: int | None = None) -> bool:
    """Return True if a process is running, and is not a zombie."""
    fields = _stat(pid)
    there = bool(fields) and fields[0] not in {"Z", "X"}
    return there and start in {None, int(fields[19])}


def stopped(pid: int) -> bool:
    """Return True if a process is stopped, by SIGSTOP or by a debugger."""
    return _stat(pid)[:1] in (["T"], ["t"])


def is_still(pid: int) -> bool:
    """Return True if every thread of a process is stopped, or has ended."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 (as in `children`)
    except OSError:
        return True
    states = (_stat(f"{pid}/task/{task}")[:1] for task in tasks)
    return all(not state or state[0] in STILL for state in states)


def signal_one(pid: int, number: int) -> None:
    """Signal a child that was not reaped, unless it changed its user."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(pid: int, number: int) -> None:
    """Signal a worker's process group, or the worker itself if it has no group yet.

    The worker must be a child that was not reaped, so that its pid was not reused.
    """
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # no group yet, or no member of our user
        signal_one(pid, number)


def below(keep: Container[int] = (), of: int | None = None) -> dict[int, int]:
    """Return a process's descendants, by default of this one, as pid → parent, parents first.

    Processes in `keep` and their descendants are left out.
    """
    found = {pid: of or os.getpid() for pid in children(of) if pid not in keep}
    todo = list(found)
    while todo:
        parent = todo.pop(0)
        for pid in children(parent):
            if pid not in found and pid not in keep:
                found[pid] = parent
                todo.append(pid)
    return found


def kill_orphans(keep: Container[int] = ()) -> list[int]:
    """Kill all descendants of this process that are not to be kept; return those still there.

    All are stopped before any is killed: processes that restart each other would otherwise survive
    being killed one after another.
    """
    found = _find_below(keep)
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
    return left or list(_find_below(keep))


def _find_below(keep: Container[int]) -> dict[int, int]:
    """Return the descendants. Repeated, since a process that is being reparented is in no list."""
    for _ in range(LOOKS):
        if found := below(keep):
            return found
    return {}


def _reaped(pid: int, parent: int) -> bool:
    """Reap a child that has ended; return True if a descendant is gone."""
    if parent == os.getpid():
        with contextlib.suppress(ChildProcessError):
            return os.waitpid(pid, os.WNOHANG)[0] != 0
        return True
    return not is_alive(pid)  # reparented to this process, it is reaped in the next round


def _signal_below(pid: int, parent: int, number: int, keep: Container[int]) -> None:
    """Signal a descendant and its group: a fork cannot escape a signal to the group.

    A session starts in one worker's tree and no process joins it from outside. So if one member of
    a group is a descendant, all are, unless its leader is kept.
    """
    with contextlib.suppress(OSError):
        group = os.getpgid(pid)
        if group != os.getpgrp() and group not in keep:
            os.killpg(group, number)
    if parent == os.getpid():  # not reaped, so the pid was not reused
        signal_one(pid, number)
        return
    with contextlib.suppress(OSError):
        watched = os.pidfd_open(pid)
        try:
            if _stat(pid)[1:2] == [str(parent)]:  # still the same process
                signal.pidfd_send_signal(watched, number)
        finally:
            os.close(watched)


def end_everything_below(seconds: float, keep: Container[int] = ()) -> None:
    """Kill all descendants of this process, a subreaper, within a time."""
    deadline = time.monotonic() + seconds
    while kill_orphans(keep) and time.monotonic() < deadline:
        time.sleep(0.002)  # no event reports that a process was reparented


def describe(status: int | None) -> str:
    """Return a wait status in words; None is the end of a process without a known parent."""
    if status is None:
        return "ended with an unknown status"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return f"was killed by {name}"
    return f"exited with code {os.WEXITSTATUS(status)}"


# --- processes that are not descendants ---------------------------------------------------

MARK = "GARRISON_INCARNATION"  # environment variable of a worker's processes


def incarnation_mark(token: bytes) -> str:
    """Return the mark of an incarnation's processes; not the token, which is its address."""
    import hashlib  # it is slow to import, for a command

    return hashlib.sha256(token).hexdigest()[:16]


def own_mark() -> str:
    """Return the mark of the incarnation that started this process; empty if none did."""
    return os.environ.get(MARK, "")


def ended(pidfd: int, seconds: float) -> bool:
    """Return True if a process ends within that time."""
    poll = select.poll()  # not select(), which supports no descriptor above 1023
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def end_marked(marked: str) -> list[int]:
    """Kill every process that was started with a mark in its environment; return their pids.

    It finds processes that an incarnation started by `exec`, and their children, wherever they were
    reparented, but not those that cleared their environment. It reads the environment of every
    process, which takes tens of milliseconds.
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
            try:  # again: the pid may have been reused
                if needle in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    found.append(int(name))
            finally:
                os.close(pidfd)
    return found
