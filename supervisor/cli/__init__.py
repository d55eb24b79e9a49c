"""The command line: `garrison VERB`. `app` finds the verbs; each is imported when it is used.

This module, and what it imports first, does without `typing`: the launcher, which a host waits for,
would be started a hundredth of a second later.
"""

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from garrison.supervisor.processes.early_launcher import EarlyLauncher

__all__ = ["main"]

NOT_LINUX = (
    "garrison runs on Linux alone, so start it in Docker (macOS, Windows) or in WSL 2 (Windows)"
)


def main() -> None:
    """Run the command line. Errors are printed as sentences, never as tracebacks."""
    if sys.platform != "linux":
        sys.exit(f"error: {NOT_LINUX}")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback if Ctrl-C comes during imports
    gc.disable()  # until the command runs: its imports leave next to nothing to collect
    from .streams import Streams

    streams = Streams()  # before anything else is opened
    early = _begin_early() if starts_host(sys.argv[1:]) else None
    try:
        from .app import run

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run(streams, early)
    except SystemExit as end:
        if early is None:
            _leave(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise
    finally:
        if early is not None:
            early.drop()


def _leave(code: int) -> "NoReturn":
    """End as an interpreter does, but leave memory to the kernel: to take all modules apart is a
    fifth of a short command's time."""
    try:
        with contextlib.suppress(KeyboardInterrupt):  # what the command did is done
            if (threading := sys.modules.get("threading")) is not None:
                threading._shutdown()  # waits for threads that are no daemons
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # its reader has ended; it is closed
                stream.flush()
    finally:
        os._exit(code)


def starts_host(words: Sequence[str]) -> bool:
    """Return whether a command line runs a host in its own process: `up` in the foreground."""
    found = ""
    left = iter(words)
    for word in left:
        if word in {"--home", "-c", "--config"}:
            next(left, "")
        elif not word.startswith("-"):
            found = word
            break
    other = {"--detach", "--check-takeover", "--prove", "--help", "-h"}
    return found == "up" and other.isdisjoint(words)


def _begin_early() -> "EarlyLauncher | None":
    """Start the host's launcher, which imports what it needs while this process does the same."""
    from garrison.supervisor.processes import early_launcher

    return early_launcher.begin(os.environ)
