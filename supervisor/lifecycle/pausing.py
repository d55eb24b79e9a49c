"""A paused service: who paused it, and what its callers are shown. Pure."""

from datetime import datetime

import msgspec

from garrison.ipc.messages import Paused, Token

from .order_note import OPERATOR, OrderNote


class PauseNote(msgspec.Struct, frozen=True):
    """Who paused a service, and when."""

    at: float = 0.0  # wall clock; 0: not known
    by: str = ""  # an operator, or a service's NAME; empty: not known
    why: str = ""  # the reason that was given with the order

    def words(self, name: str) -> str:
        """Return the pause in words, and how to end it.

        Args:
            name: The service.
        """
        by = "an operator" if self.by == OPERATOR else self.by
        text = "paused" + (f" by {by}" if by else "")
        if self.at:
            since = datetime.fromtimestamp(self.at).astimezone()
            text += f" since {since.isoformat(' ', 'seconds')}"
        why = f" ({self.why})" if self.why else ""
        return f"{text}{why}; to go on: garrison resume {name}"


def note_of_pause(note: OrderNote) -> PauseNote:
    """Return what is kept of an order that pauses services."""
    return PauseNote(note.at, note.who, note.why)


def published(name: str, note: PauseNote | None, refuses: bool, token: Token) -> Paused | None:
    """Return what the directory has of a pause; None: the service is not paused.

    Args:
        name: The service.
        note: Its pause.
        refuses: Whether calls to it fail, in place of waiting.
        token: The address of its incarnation, by which its own calls are known.
    """
    return None if note is None else Paused(note.words(name), refuses, token)
