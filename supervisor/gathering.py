"""When the control plane is left unread for a moment. Pure; times in seconds."""

# After a beat, for those of other workers: each turn of the loop costs the same. And after messages
# of a member that had used more than its share.
GATHER_S = 0.004


class Gathering:
    """Decides until when the control plane is left unread: after heartbeats alone, so that one turn
    reads many, and during a flood, so that it does not take all of the processor.

    Attributes:
        until: When it is read again, on the monotonic clock.
    """

    def __init__(self) -> None:
        self.until = 0.0

    def note_read(self, only_beats: bool, overdrawn: bool, now: float) -> None:
        """Note that the control plane was read. What was gathered is not waited for again.

        Args:
            only_beats: Whether it had heartbeats alone.
            overdrawn: Whether a member was served that had used more than its share.
            now: The time.
        """
        if overdrawn:
            self.until = now + GATHER_S
        elif not only_beats:
            self.until = 0.0
        elif now >= self.until + GATHER_S:
            self.until = now + GATHER_S
