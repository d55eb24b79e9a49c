"""The command line: `garrison VERB`. `app` finds the verbs; each is imported when it is used."""

import os
import signal
import sys

from garrison.supervisor.processes import early_launcher

__all__ = ["main"]

NOT_LINUX = (
    "garrison runs on Linux alone, so start it in Docker (macOS, Windows) or in WSL 2 (Windows)"
)


def main() -> None:
    """Run the command line. Errors are printed as sentences, never as tracebacks."""
    if sys.platform != "linux":
        sys.exit(f"error: {NOT_LINUX}")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback if Ctrl-C comes during imports
    from .streams import Streams

    streams = Streams()  # before anything else is opened
    early = early_launcher.begin_for(sys.argv[1:], os.environ)  # it imports meanwhile
    try:
        from .app import run

        signal.signal(signal.SIGINT, signal.default_int_handler)
        run(streams, early)
    finally:
        if early is not None:
            early.drop()
