"""What each signal means to the supervisor and to a launcher.

Unhandled, most signals end a process without a trace. So every signal that can be caught is, apart
from those that report a fault of the process itself (a handler would run it again and again), and
those of job control, with which a shell stops and continues a program at a terminal.
"""

import enum
import os
import signal
from collections.abc import Callable, Iterable
from types import FrameType

STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}  # the last one at a terminal alone
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
JOB_CONTROL = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCONT}
IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}  # by Python: a write fails with an error instead
UNCATCHABLE = {signal.SIGKILL, signal.SIGSTOP}
SILENT = {signal.SIGWINCH, signal.SIGURG}  # harmless, and a terminal sends many


class Meaning(enum.Enum):
    """What the supervisor does about a signal; as its event says it."""

    STOP = "stops"
    REAP = "reaps"
    REOPEN = "opens the logs anew"
    APPLY = "applies what garrison diff shows"
    NOTHING = "ignored: it has no meaning here"


def handled() -> list[int]:
    """Return the numbers of all signals that are handled."""
    left_out = FAULTS | JOB_CONTROL | IGNORED | UNCATCHABLE | SILENT
    return sorted(int(one) for one in signal.valid_signals() - left_out)


def blocked_at_start() -> list[int]:
    """Return the signals to block until the loop handles them, and through an `exec`.

    The end of a child is harmless without a handler, and a launcher that inherited that signal as
    blocked would see no worker end.
    """
    return [number for number in handled() if number != signal.SIGCHLD]


def meaning(number: int, terminal: bool) -> Meaning:
    """Return what the supervisor does about a signal.

    Args:
        number: The signal.
        terminal: Whether the supervisor was started at a terminal, whose end SIGHUP reports.
    """
    if number == signal.SIGHUP:
        return Meaning.STOP if terminal else Meaning.APPLY
    if number in STOPPING:
        return Meaning.STOP
    if number == signal.SIGUSR1:
        return Meaning.REOPEN
    return Meaning.REAP if number == signal.SIGCHLD else Meaning.NOTHING


def name_of(number: int) -> str:
    """Return a signal's name; a real-time signal has none of its own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def at_terminal() -> bool:
    """Return whether this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def catch(handler: Callable[[int, FrameType | None], object], numbers: Iterable[int]) -> None:
    """Install a handler. An ignored SIGHUP stays so: that is how `nohup` works."""
    for number in numbers:
        if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
            continue  # an ignored SIGINT, though, is only what a script's & passes down
        signal.signal(number, handler)
    # With `stty tostop`, a write of a background job would stop the whole host.
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
