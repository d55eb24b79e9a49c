"""Which updates are handed over: Telegram forgets those below the offset of the next poll. Pure."""


class Offsets:
    """The updates that were received since the start, by their ids."""

    def __init__(self) -> None:
        self._open: set[int] = set()  # received, not handed over
        self._done: set[int] = set()  # handed over; Telegram may return them once more
        self._next = 0  # after the last one that was received

    @property
    def open(self) -> int:
        """Return how many are not handed over."""
        return len(self._open)

    @property
    def offset(self) -> int:
        """Return the id of the first update that Telegram must keep; 0: it is not known."""
        return min(self._open, default=self._next)

    def add(self, update: int) -> bool:
        """Note an update; return False if it was received before."""
        if update in self._open or update in self._done:
            return False
        self._open.add(update)
        self._next = update + 1 if not self._open - {update} else max(self._next, update + 1)
        return True

    def done(self, update: int) -> None:
        """Note that an update is handed over."""
        self._open.discard(update)
        self._done.add(update)

    def confirmed(self, offset: int) -> None:
        """Note that a poll from this offset on has returned: what is below it comes no more."""
        self._done = {one for one in self._done if one >= offset}
