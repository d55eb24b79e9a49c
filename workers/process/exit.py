"""The end of a worker's process, and its exit codes."""

import contextlib
import faulthandler
import logging
import os
import signal
import sys
from typing import NoReturn

from . import redaction

CRASHED, NOT_STARTED = 70, 1  # EX_SOFTWARE once it was running; before that


def leave(code: int) -> NoReturn:
    """End the process at once, without waiting for threads that libraries left behind.

    Args:
        code: The exit code; a negative one is a signal, by which the process ends itself.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    redaction.release()
    if code < 0:
        _end_by(-code)
    os._exit(code if code >= 0 else 128 - code)


def _end_by(number: int) -> None:
    """End the process by a signal; return if that one does not end it."""
    with contextlib.suppress(OSError, ValueError):
        faulthandler.disable()  # else it would write this process's stacks
        if number not in {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
