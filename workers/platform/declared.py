"""The declared errors that a platform raises and catches, imported in one place."""

from garrison.ipc.errors import GarrisonError


class NotSent(GarrisonError):
    """The platform refused a message for good."""


class Busy(GarrisonError):
    """Nothing was done: too much waits already."""


class RetryLater(GarrisonError):
    """Nothing was done: try again in `seconds`."""

    def __init__(self, seconds: float, text: str = "") -> None:
        self.seconds = seconds
        super().__init__(text)
