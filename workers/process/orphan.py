"""Those who could end this worker, and what ends it where none of them is left.

A worker belongs to a launcher, its parent, and to a supervisor. Either alone is enough: it ends
what is stopped or blocked. Where both are gone for longer than the grace the worker leaves by
itself, and so it does where the launcher is there and yet has not ended it long after; and where
its loop cannot turn by then, a timer of the kernel's ends it, which needs no loop, no lock of the
interpreter, and not even a process that runs. Durations are seconds.
"""

import contextlib
import ctypes
import os
import signal

from garrison.ipc.system import process_tree

MARGIN_S = 5.0  # beyond watchdog and grace, so that a supervisor that is there comes first
CLOCK_MONOTONIC, SIGEV_SIGNAL = 1, 0  # linux/time.h, bits/sigevent-consts.h


class ParentWatch:
    """The launcher and the supervisor of this process.

    Args:
        launcher: The launcher's pid, which is this process's parent.
        grace: So long the worker outlives both.
    """

    def __init__(self, launcher: int, grace: float) -> None:
        self._launcher = launcher
        self._grace = grace
        self._supervisor = -1  # pidfd
        self._met = False  # a supervisor has spoken
        self._since: float | None = None
        self._timer = KillTimer()

    def meet(self, supervisor: int) -> None:
        """Take a supervisor's pid: it has just spoken, so it is there."""
        self._met = True
        if self._supervisor >= 0:
            os.close(self._supervisor)
            self._supervisor = -1
        try:
            self._supervisor = os.pidfd_open(supervisor)
        except OSError:
            return

    @property
    def supervised(self) -> bool:
        """Tell whether there is a supervisor."""
        return self._is_there() or not self._met

    def next_beat_within(self, silence: float) -> None:
        """Have the timer wait for the loop's next beat.

        Args:
            silence: So many seconds without one a supervisor would bear; 0 is any number.
        """
        self._timer.put_off(silence + self._grace + MARGIN_S if silence else 0.0)

    def gone(self, now: float) -> bool:
        """Tell whether both are gone for longer than the grace, or the one left does nothing."""
        led = os.getppid() == self._launcher
        if self._is_there() or (led and not self._met):
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since > self._grace + (MARGIN_S if led else 0.0)

    def end_launcher(self) -> None:
        """End a launcher that is stopped or hangs: it should have ended this worker by now."""
        with contextlib.suppress(OSError):
            pidfd = os.pidfd_open(self._launcher)
            try:
                if os.getppid() == self._launcher:  # so the number was still its own
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)

    def _is_there(self) -> bool:
        return self._supervisor >= 0 and not process_tree.ended(self._supervisor, 0)


class KillTimer:
    """A timer of the kernel's that kills this process unless it is put off in time.

    SIGKILL rather than a signal that could be caught: it ends also what is stopped, or blocked in
    C with the interpreter's lock held.
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._id = ctypes.c_void_p()
        event = _Event(0, signal.SIGKILL, SIGEV_SIGNAL)
        made = self._libc.timer_create(CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._id))
        self._made = made == 0  # else there is no such timer here: the loop's own beat must do

    def put_off(self, seconds: float) -> None:
        """Kill after so long from now, unless it is put off again; 0 is never."""
        if self._made:
            whole = int(seconds)
            after = _Setting(_Time(0, 0), _Time(whole, int((seconds - whole) * 1e9)))
            self._libc.timer_settime(self._id, 0, ctypes.byref(after), None)


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
