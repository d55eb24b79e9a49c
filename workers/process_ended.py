"""`ProcessEnded`: a process that a service consists of has ended, and the service ends with it."""


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
