"""What each connection to the bus has: numbers of batches, Sync, what was not sent."""

from collections import deque
from typing import Any

from .batching import Batching
from .messages import SUPERVISOR, Call, Frames, Token, decode_data, encode


class RouterLink(Batching):
    """The sending half of a connection to a router."""

    _closed = False

    def flush(self) -> None:
        """Send what this turn has queued."""
        self._post_queued()
        self._note_use()

    def sync(self, message: Any) -> None:
        """Send a Sync to the router, and number the batches that follow from 1."""
        self.flush()
        self._batches.clear()
        self._unnumbered.clear()
        self._post(SUPERVISOR, self._pack([message]))
        self._note_use()

    def probe(self) -> None:
        """Show the connection to a router that knows no Sync."""
        self._post_frames([b""])
        self._note_use()

    def forget(self, peer: Token) -> None:
        """Forget a peer that has ended."""
        self._batches.pop(peer, None)
        self._unnumbered.discard(peer)

    def stop_numbering(self, peer: Token) -> bool:
        """Number no more batches to a peer: one was returned, so the peer has read fewer.

        Return False if that was so before.
        """
        known = peer in self._unnumbered
        self._unnumbered.add(peer)
        return not known

    def take_back(self) -> list[tuple[Token, list[Call]]]:
        """Return the calls that were not sent, each with its receiver, and drop them here.

        Replies go to the next router: it may have passed on the calls that they answer.
        """
        unsent, kept = list[tuple[Token, list[Call]]](), deque[list[Any]]()
        for frames in self._backlog:
            if frames[0] == SUPERVISOR or len(frames) < 2:  # meant for the former router
                continue
            batch = decode_data(frames[1])
            calls = [one for one in batch if isinstance(one, Call)]
            if not calls:
                kept.append(frames)
                continue
            unsent.append((frames[0], calls))
            # A message that has large frames is sent alone: these belong to a call.
            if others := [one for one in batch if not isinstance(one, Call | Frames)]:
                kept.append([frames[0], encode(others)])
        self._backlog = kept
        outgoing, self._outgoing = self._outgoing, {}
        for peer, queued in outgoing.items():
            unsent.append((peer, [one for one in queued if isinstance(one, Call)]))
            if others := [one for one in queued if not isinstance(one, Call)]:
                self._outgoing[peer] = others
        return unsent

    def drop_unsent(self) -> None:
        """Forget what was not sent: it was meant for a supervisor that has ended."""
        self._backlog.clear()
        self._outgoing.clear()

    def receive_all(self) -> None:
        """Read what has arrived."""
        raise NotImplementedError

    def close(self, until: float) -> None:
        """Send what is queued, as far as that is possible by a time of the monotonic clock, and
        close the connection."""
        raise NotImplementedError

    def _end_turn(self) -> None:
        if self._closed:
            self._ending = self._turn_open = False
        else:
            super()._end_turn()

    def _post_frames(self, frames: list[Any]) -> None:
        """Send a message, or keep it in the backlog."""
        raise NotImplementedError

    def _drain_backlog(self) -> None:
        """Send what was kept, as far as the connection takes it."""
        raise NotImplementedError

    def _note_use(self) -> None:
        """Have the connection looked at, if sending may have taken the signal of what arrived."""
