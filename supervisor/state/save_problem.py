"""Reports why a file cannot be written, once for each new reason."""

from collections.abc import Callable


class SaveProblem:
    """The reason why a file could not be written at the last attempt.

    Args:
        report: Called with each new reason.

    Attributes:
        text: The reason; empty if the last attempt succeeded.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self.text = ""

    def note(self, error: Exception) -> None:
        """Report a failure, unless the one before had the same reason."""
        if str(error) != self.text:
            self._report(str(error))
        self.text = str(error)

    def clear(self) -> None:
        """Note a success."""
        self.text = ""
