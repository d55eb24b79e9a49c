"""Handles updates: those of one chat in order, chats side by side.

The number of updates that are under way is bounded by whoever adds them: a poll returns 100, and
the webhook's server refuses more than its bound.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import telegram

log = logging.getLogger(__name__)

Handle = Callable[["telegram.Update"], Awaitable[None]]


class Lanes:
    """The updates that are under way.

    Args:
        handle: Returns when an update is handed over.
        spawn: Runs a coroutine until the service stops.
    """

    def __init__(self, handle: Handle, spawn: Callable[..., Any]) -> None:
        self._handle, self._spawn = handle, spawn
        self._chats: dict[int, deque[telegram.Update]] = {}  # with a task each
        self._ended: dict[int, asyncio.Future[None]] = {}  # by an update's id
        self.failed = 0  # updates that could not be read

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, update: "telegram.Update") -> "asyncio.Future[None]":
        """Take an update, or join the one of its id; return the future of its end.

        The future has no exception: what cannot be handled is logged, or no later update of the
        bot would ever be seen.
        """
        ended = self._ended.get(update.update_id)
        if ended is not None:
            return ended
        ended = self._ended[update.update_id] = asyncio.get_running_loop().create_future()
        chat = update.effective_chat
        key = chat.id if chat is not None else 0
        queue = self._chats.get(key)
        if queue is not None:
            queue.append(update)
        else:
            self._chats[key] = deque([update])
            self._spawn(self._serve(key), f"chat {key}", False)
        return ended

    async def _serve(self, key: int) -> None:
        """Handle a chat's updates, one after the other, until none waits."""
        queue = self._chats[key]
        while queue:
            update = queue[0]
            try:
                await self._handle(update)
            except Exception:
                self.failed += 1
                log.exception("telegram.update_failed update=%d", update.update_id)
            queue.popleft()
            self._ended.pop(update.update_id).set_result(None)
        del self._chats[key]
