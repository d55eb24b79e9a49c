"""Whether a connection that broke was one to the supervisor process that still answers. Pure.

TCP loses nothing while a connection lasts. What a broken one had not delivered yet is lost. Where
the supervisor process has ended too, its successor asks for everything again; where the same
process goes on, no end notices what is missing. A supervisor process is known by its `boot`.
"""

CONTROL, BUS = "control", "bus"  # a connection each


class ConnectionState:
    """One connection after the other, of one socket."""

    def __init__(self) -> None:
        self.is_up = False
        self._boot = ""  # that has answered on this connection, or was the last one before it
        self._broke_with = ""

    def up(self, boot: str) -> None:
        """Take note of a new connection.

        Args:
            boot: The supervisor that answered last; empty: none yet.
        """
        self.is_up, self._boot = True, boot

    def answered(self, boot: str) -> bool:
        """Take note of an answer; return True if messages to or from this process may be lost."""
        self._boot = boot
        return bool(boot) and boot == self._broke_with

    def down(self, boot: str) -> bool:
        """Take note that the connection broke; return False if there was none.

        Args:
            boot: The supervisor that answered last on any connection.
        """
        if not self.is_up:  # an attempt that failed
            return False
        self.is_up = False
        if self._boot in {"", boot}:  # else it is the former supervisor's, whose end came late
            self._broke_with = boot
        return True

    def may_be_lost(self, boot: str) -> bool:
        """Return whether a connection to this supervisor broke, and no other has answered since."""
        return bool(boot) and boot == self._broke_with
