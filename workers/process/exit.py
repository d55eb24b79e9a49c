"""The end of a worker's process, and its exit codes."""

import contextlib
import logging
import os
import sys
from typing import NoReturn

from . import redaction

CRASHED, NOT_STARTED = 70, 1  # EX_SOFTWARE once it was running; before that


def leave(code: int) -> NoReturn:
    """End the process at once, without waiting for threads that libraries left behind."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    redaction.release()
    os._exit(code)
