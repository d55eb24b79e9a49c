"""Ends a worker that has lost both its launcher and its supervisor.

The launcher is the worker's parent. While either of the two is there, it can end a worker that is
stopped or blocked. When both have been gone for the grace period, the worker ends itself; so it
does when the launcher exists but has not ended it long after the supervisor's end. Where the event
loop is blocked by then, a kernel timer kills the process: it needs neither the loop nor the
interpreter's lock, and works on a stopped process. Durations are seconds.
"""

import contextlib
import ctypes
import os
import signal

from garrison.ipc.system import process_tree

MARGIN_S = 5.0  # beyond watchdog and grace, so that a supervisor acts first
CLOCK_MONOTONIC, TIMER_ABSTIME, SIGEV_SIGNAL = 1, 1, 0  # linux/time.h, bits/sigevent-consts.h


class ParentWatch:
    """Watches the launcher and the supervisor of this process.

    Args:
        launcher: Pid of the launcher, the parent of this process.
        grace: Seconds that the worker outlives both.
    """

    def __init__(self, launcher: int, grace: float) -> None:
        self._launcher = launcher
        self._grace = grace
        self._supervisor = -1  # pidfd
        self._had_supervisor = False
        self._alone_since: float | None = None
        self._timer = KillTimer()

    def set_supervisor(self, pid: int) -> None:
        """Set the pid of the supervisor, which has just sent a message."""
        self._had_supervisor = True
        if self._supervisor >= 0:
            os.close(self._supervisor)
            self._supervisor = -1
        with contextlib.suppress(OSError):
            self._supervisor = os.pidfd_open(pid)

    @property
    def supervised(self) -> bool:
        """Return whether there is a supervisor, or will be the first one."""
        return self._is_there() or not self._had_supervisor

    def expect_beat(self, silence: float) -> None:
        """Rearm the kernel timer, for the loop's next beat.

        Args:
            silence: Seconds without a beat that a supervisor would tolerate; 0 is any number.
        """
        self._timer.rearm(silence + self._grace + MARGIN_S if silence else 0.0)

    def is_orphaned(self, now: float) -> bool:
        """Return whether both have been gone for the grace, or the launcher alone fails to act."""
        has_launcher = os.getppid() == self._launcher
        if self._is_there() or (has_launcher and not self._had_supervisor):
            self._alone_since = None
            return False
        if self._alone_since is None:
            self._alone_since = now
        return now - self._alone_since > self._grace + (MARGIN_S if has_launcher else 0.0)

    def end_launcher(self) -> None:
        """Kill a launcher that hangs or is stopped: it should have ended this worker by now."""
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(self._launcher)
            try:
                if os.getppid() == self._launcher:  # so the pid was not reused
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    def _is_there(self) -> bool:
        return self._supervisor >= 0 and not process_tree.ended(self._supervisor, 0)


class KillTimer:
    """A kernel timer that kills this process unless it is rearmed in time.

    It sends SIGKILL, which also ends a process that is stopped, or blocked in C code that holds
    the interpreter's lock. Where the kernel has no such timer, nothing happens.

    Args:
        clock: The clock that it goes by.
    """

    def __init__(self, clock: int = CLOCK_MONOTONIC) -> None:
        self._libc = process_tree.libc()
        self._id = ctypes.c_void_p()
        event = _Event(0, signal.SIGKILL, SIGEV_SIGNAL)
        result = self._libc.timer_create(clock, ctypes.byref(event), ctypes.byref(self._id))
        self._created = result == 0

    def rearm(self, seconds: float) -> None:
        """Kill the process after so many seconds from now; 0 disarms the timer."""
        if self._created:
            whole = int(seconds)
            after = _Setting(_Time(0, 0), _Time(whole, int((seconds - whole) * 1e9)))
            self._libc.timer_settime(self._id, 0, ctypes.byref(after), None)

    def kill_at(self, time_ns: int) -> None:
        """Kill the process at this time of the clock, in nanoseconds; at once if it is over."""
        if self._created:
            at = _Setting(_Time(0, 0), _Time(*divmod(max(time_ns, 1), 1_000_000_000)))
            self._libc.timer_settime(self._id, TIMER_ABSTIME, ctypes.byref(at), None)


class _Event(ctypes.Structure):
    """struct sigevent, of 64 bytes."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    ]


class _Time(ctypes.Structure):
    """struct timespec."""

    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


class _Setting(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = [("interval", _Time), ("value", _Time)]
