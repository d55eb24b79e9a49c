"""Collects what one turn of an asyncio loop sends to each peer into one message.

A message with large frames is sent alone. After a turn that queued nothing, the next turn sends its
first message at once, so a single call is not delayed. A busy connection goes on to queue, single
messages too: what many calls in flight send would fall apart into ever smaller batches.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from garrison.ipc.system.trimmer import IdleTrimmer

from .call_state import UNKNOWN
from .frames import Packer
from .messages import Call, Token
from .system import trimmer

BATCH_BYTES = 1 << 20  # a larger batch is split


class Batching:
    """The sending half of a connection, as far as no socket is concerned.

    Args:
        max_message: Returns the largest frame that the other side accepts, in bytes.
        posted: Called with the ids of the calls of each batch that is sent, and its number among
            those to its peer; None: batches are not numbered.
    """

    def __init__(
        self, max_message: Callable[[], int], posted: Callable[[list[int], int], None] | None
    ) -> None:
        self._max_message, self._posted = max_message, posted
        self._batches: dict[Token, int] = {}  # peer → batches sent since the last Sync
        self._unnumbered: set[Token] = set()  # peers that a batch was returned from
        self._loop = asyncio.get_running_loop()
        self._outgoing: dict[Token, list[Any]] = {}
        self._pack = Packer().pack
        self._backlog: deque[Any] = deque()  # what the socket did not take yet
        self._turn_open = False  # this turn has sent something
        self._busy = False  # the last turn queued something
        self._sent_early = False  # this turn has, by `send_queued`
        self._ending = False  # `_end_turn` is about to run
        self._trimmer = IdleTrimmer()
        self._trimming: asyncio.TimerHandle | None = None

    def send(self, peer: Token, message: Any) -> None:
        """Queue a message to a peer."""
        if not self._turn_open:
            self._turn_open = True
            if not self._ending:
                self._ending = True
                self._loop.call_soon(self._end_turn)
            if not self._busy and not self._backlog:
                if self._posted is not None:
                    self._number(peer, (message,))
                self._post(peer, self._pack([message]))
                return
        queue = self._outgoing.get(peer)
        if queue is None:
            self._outgoing[peer] = [message]
        else:
            queue.append(message)

    def send_queued(self, peer: Token, least: int) -> None:
        """Send what this turn has queued for a peer now, if it is so many messages: the peer works
        on them while the others are prepared."""
        queue = self._outgoing.get(peer)
        if queue is not None and len(queue) >= least:
            del self._outgoing[peer]
            self._sent_early = True
            self._post_batch(peer, queue)

    def _end_turn(self) -> None:
        self._ending = self._turn_open = False
        self._busy = bool(self._outgoing) or self._sent_early
        self._sent_early = False
        if self._outgoing:
            self._post_queued()

    def _post_queued(self) -> None:
        outgoing, self._outgoing = self._outgoing, {}
        for peer, batch in outgoing.items():
            self._post_batch(peer, batch)

    def _post_batch(self, peer: Token, batch: list[Any]) -> None:
        frames = self._pack(batch)
        large = len(frames) > 1 or len(frames[0]) > min(BATCH_BYTES, self._max_message() // 2)
        if large and len(batch) > 1:
            middle = len(batch) // 2
            self._post_batch(peer, batch[:middle])
            self._post_batch(peer, batch[middle:])
        else:
            if self._posted is not None:
                self._number(peer, batch)
            self._post(peer, frames)

    def _number(self, peer: Token, batch: Sequence[Any]) -> None:
        assert self._posted is not None
        number = self._batches[peer] = self._batches.get(peer, 0) + 1
        if peer in self._unnumbered:
            number = UNKNOWN
        self._posted([message.id for message in batch if type(message) is Call], number)

    def _post(self, peer: Token, frames: list[Any]) -> None:
        """Send a batch and its large frames, or keep them in the backlog."""
        raise NotImplementedError

    # --- memory of large messages -----------------------------------------------------------

    def _note_large(self) -> None:
        if self._trimmer.note_large(self._loop.time()):
            self._trimming = self._loop.call_at(self._trimmer.due, self._trim_if_idle)

    def _trim_if_idle(self) -> None:
        if self._trimmer.is_idle(self._loop.time()):
            trimmer.trim_in_background()
        else:
            self._trimming = self._loop.call_at(self._trimmer.due, self._trim_if_idle)

    def _stop_trimming(self) -> None:
        if self._trimming is not None:
            self._trimming.cancel()
