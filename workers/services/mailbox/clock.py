"""The mailbox's own time: it passes with the machine's, whatever the wall clock is set to. Pure.

Within one run of the machine it is the clock that counts from the machine's start, suspension
included. From one run to the next the wall clock tells how long the machine was away, which is
never less than nothing. Times are seconds; without a jump they are those of the wall clock.
"""

import msgspec


class ClockReading(msgspec.Struct, frozen=True):
    """What the machine's clocks say at one moment."""

    boot: str  # this run of the machine
    ran: float  # since its start
    wall: float


class Kept(msgspec.Struct, frozen=True):
    """The same, and what the mailbox's own time was then; it is in its file."""

    boot: str
    ran: float
    wall: float
    own: float


class Clock:
    """The mailbox's own time.

    Args:
        kept: What the mailbox before has noted last; None: there was none.
        at: What the clocks say now.
    """

    def __init__(self, kept: Kept | None, at: ClockReading) -> None:
        if kept is None:
            began = at.wall
        elif kept.boot == at.boot and at.ran >= kept.ran:
            began = kept.own + at.ran - kept.ran
        else:
            began = kept.own + max(at.wall - kept.wall, 0.0)
        self._ahead = began - at.ran  # of what has passed since the machine's start

    def at(self, ran: float) -> float:
        """Return the own time when the machine has run for so long."""
        return self._ahead + ran

    def kept(self, at: ClockReading) -> Kept:
        """Return what is to be noted."""
        return Kept(at.boot, at.ran, at.wall, self.at(at.ran))

    def on_the_wall(self, own: float, at: ClockReading) -> float:
        """Return what the wall clock of now would have shown at an own time."""
        return own + at.wall - self.at(at.ran)
