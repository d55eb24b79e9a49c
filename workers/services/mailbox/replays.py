"""What became of messages that an operator replayed, for a page that shows it. Pure.

It is kept in memory: after a restart of the mailbox, a message that left it is only gone.
"""

from collections.abc import Iterable
from enum import StrEnum

KEPT_MOST = 1_000  # messages; the one that was replayed longest ago is forgotten first


class Ended(StrEnum):
    """How a message left the mailbox."""

    HANDLED = "handled"  # by its receiver
    DROPPED = "dropped"  # by an operator
    EXPIRED = "expired"  # before it was delivered
    GONE = "gone"  # one of these; it is not known which


class Replays:
    """The messages that were replayed last."""

    def __init__(self) -> None:
        self._ended: dict[str, Ended] = {}  # GONE: it has not left yet

    def begin(self, ids: Iterable[str]) -> None:
        """Note that messages are replayed."""
        for one in ids:
            self._ended.pop(one, None)
            self._ended[one] = Ended.GONE
            if len(self._ended) > KEPT_MOST:
                del self._ended[next(iter(self._ended))]

    def end(self, ids: Iterable[str], how: Ended) -> None:
        """Note how messages left the mailbox; the first note holds."""
        for one in ids:
            if self._ended.get(one) is Ended.GONE:
                self._ended[one] = how

    def outcome(self, message_id: str) -> Ended:
        """Return how a message left that is no longer in the mailbox."""
        return self._ended.get(message_id, Ended.GONE)
