"""Where frames go (pure), and who has talked to whom.

A message is `[source, destination, batch, *blobs]`; the source is the ROUTER's own word. Bodies are
never read here.
"""

from collections.abc import Container
from typing import Any, TypeAlias

from garrison.ipc.messages import GONE, Token

Frames: TypeAlias = list[Any]  # bytes, and after the batch frames of libzmq's own

FRAMES_MOST = 64  # of one message; a batch and what large arguments travel in
PLAIN = 3  # frames of a message without such


def route(frames: Frames, live: Container[Token], most: int) -> Frames | None:
    """Return what to send for one message received, or None for what is no message of ours.

    Args:
        frames: As they came.
        live: Who may speak and be spoken to.
        most: Bytes of one message: of each frame the socket bounds them, of all together this.
    """
    if not PLAIN <= len(frames) <= FRAMES_MOST:
        return None
    if len(frames) > PLAIN and sum(map(len, frames)) > most:
        return None
    source, destination = frames[0], frames[1]
    if source not in live:
        return None
    if destination in live:
        frames[0], frames[1] = destination, source
        return frames
    return [source, GONE, destination, frames[2]]  # never run, so its caller may wait and resend


class PeerTable:
    """Who sent how many messages to whom, so that an end is told to those whom it concerns."""

    def __init__(self) -> None:
        self._sent: dict[Token, dict[Token, int]] = {}  # destination → source → messages

    def count(self, source: Token, destination: Token) -> None:
        """Count one message on its way."""
        sources = self._sent.get(destination)
        if sources is None:
            sources = self._sent[destination] = {}
        sources[source] = sources.get(source, 0) + 1

    def forget(self, token: Token) -> set[Token]:
        """Drop an ended member; return everyone who sent to it or had something from it."""
        partners = set(self._sent.pop(token, ()))
        for destination, sources in self._sent.items():
            if sources.pop(token, None) is not None:
                partners.add(destination)
        return partners

    def to(self, token: Token) -> dict[Token, int]:
        """Return how many messages each source has sent to a member."""
        return dict(self._sent.get(token, {}))
