"""Has a worker write the stacks of its threads to its log.

`faulthandler` lists 100 threads at most, the main thread last. A worker with more of them is
therefore sent a signal to its main thread first, then to the threads that use the processor, and
only then the one for all. Two dumps at the same moment would cancel each other, so each is waited
for, in a thread of its own: a tenth of a second, on a loaded machine longer. Durations are seconds.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time
from pathlib import Path

from garrison.ipc.system import process_tree
from garrison.ipc.system.stack_signals import ALL_THREADS, ONE_THREAD, THREADS_MOST

MEASURE_S = 0.05  # for which processor time is compared
APART_S = 0.01  # for which a log does not grow once a dump is complete
WRITTEN_S = 0.2  # for one dump, at most: the worker is ended half a second after the first one
LOOK_S = 0.002  # between two looks at the log
BUSY_MOST = 6  # threads that use the processor and are listed before the others
MEASURED_MOST = 1000
SYS_TGKILL = {"x86_64": 234, "aarch64": 131, "riscv64": 131}.get(os.uname().machine)


def dump_many(pid: int, log: Path | None) -> bool:
    """Have a worker with more threads than one list shows write their stacks; return at once.

    Returns:
        False: It has fewer threads, or cannot list one alone; ALL_THREADS does it.
    """
    if SYS_TGKILL is None or log is None or len(threads(pid)) <= THREADS_MOST:
        return False
    with contextlib.suppress(OSError):
        pidfd = os.pidfd_open(pid)
        if _catches_one(pid):
            made = threading.Thread(target=_dump, args=(pid, pidfd, log), name="stacks")
            made.daemon = True
            made.start()
            return True
        os.close(pidfd)
    return False


def threads(pid: int) -> list[int]:
    """Return the ids of a process's threads; the main thread's is the pid."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208
    except OSError:
        return []


def busiest(before: dict[int, int], after: dict[int, int]) -> list[int]:
    """Return the threads that used the processor in between, the one that used most first."""
    used = {one: time - before[one] for one, time in after.items() if one in before}
    busy = sorted((one for one in used if used[one] > 0), key=lambda one: -used[one])
    return busy[:BUSY_MOST]


def _dump(pid: int, pidfd: int, log: Path) -> None:
    try:
        with contextlib.suppress(OSError):
            before = _processor_times(pid)
            count = len(threads(pid))
            measured = time.monotonic() + MEASURE_S
            _write(log, f"{count} threads, the main thread first:")
            _dump_thread(pid, pidfd, pid, log)
            time.sleep(max(measured - time.monotonic(), 0))
            for one in busiest(before, _processor_times(pid)):
                if one != pid:
                    _write(log, f"thread {one}, which uses the processor:")
                    _dump_thread(pid, pidfd, one, log)
            left = count - THREADS_MOST
            _write(log, f"the {THREADS_MOST} threads started last; up to {left} more are left out:")
            signal.pidfd_send_signal(pidfd, ALL_THREADS)
    finally:
        os.close(pidfd)


def _catches_one(pid: int) -> bool:
    """Return whether a worker handles the signal for one thread; one of an older version does not.

    Unhandled, the signal would end it.
    """
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(status.partition("\nSigCgt:")[2].split()[0], 16)
        return bool(caught & 1 << ONE_THREAD - 1)
    return False


def _processor_times(pid: int) -> dict[int, int]:
    """Return the processor time of each thread, in nanoseconds."""
    found: dict[int, int] = {}
    for one in threads(pid)[:MEASURED_MOST]:
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/task/{one}/schedstat").read_text()
            found[one] = int(text.split()[0])
    return found


def _dump_thread(pid: int, pidfd: int, thread: int, log: Path) -> None:
    """Have one thread write its stack; return when it has, or after `WRITTEN_S`."""
    if process_tree.ended(pidfd, 0):
        return
    before = size = log.stat().st_size
    ctypes.CDLL(None).syscall(SYS_TGKILL, pid, thread, ONE_THREAD)
    now = time.monotonic()
    until, grown_at = now + WRITTEN_S, now
    while now < until and (size == before or now < grown_at + APART_S):
        time.sleep(LOOK_S)
        now, last, size = time.monotonic(), size, log.stat().st_size
        if size != last:
            grown_at = now


def _write(log: Path, text: str) -> None:
    """Append a line to the worker's log, between the stacks."""
    with contextlib.suppress(OSError):
        opened = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.write(opened, f"garrison: {text}\n".encode())
        finally:
            os.close(opened)
