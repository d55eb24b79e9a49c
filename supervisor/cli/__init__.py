"""The command line: `garrison VERB`. The verbs are in `verbs`; each is imported when it is used."""

import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line; never show a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # nor one of an import, at an early Ctrl-C
    from .app import run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    run()
