"""When heartbeats are waited for, so that one turn reads many. Pure; times in seconds."""

GATHER_S = 0.004  # after a beat, for those of other workers: each turn of the loop costs the same


class Gathering:
    """Decides until when the control plane is left unread, after heartbeats alone were read.

    Attributes:
        until: When it is read again, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.until = 0.0

    def note_read(self, only_beats: bool, now: float) -> None:
        """Note that the control plane was read. What was gathered is not waited for again.

        Args:
            only_beats: Whether it had heartbeats alone.
            now: The time.
        """
        if not only_beats:
            self.until = 0.0
        elif now >= self.until + GATHER_S:
            self.until = now + GATHER_S
