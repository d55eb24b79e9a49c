"""A process that a service consists of has ended, or does not start: errors without a traceback.

Their texts are for the operator, whom the code that raised them does not concern.
"""


class ProcessEnded(Exception):
    """A process that the service consists of has ended.

    Raise it in `start`, or in work of `spawn`: the worker ends in the same way, with that exit code
    or by that signal, and the text is the reason in `garrison status` and in the crash report. With
    the exit code 0, in work of `spawn`, it is a clean end.

    Attributes:
        status: The exit code; a negative one is a signal, as in `subprocess`.
    """

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class ProcessNotStarted(Exception):
    """A process that the service consists of cannot be run, or did not become ready.

    Raise it in `start`: the start fails, and the text is the reason in `garrison status`, without a
    traceback.

    Attributes:
        permanent: Whether trying again is of no use.
    """

    def __init__(self, reason: str, permanent: bool = False) -> None:
        super().__init__(reason)
        self.permanent = permanent
