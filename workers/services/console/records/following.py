"""Followers: what is recorded from now on, kept for a page that takes it at its own pace.

A follower begins before its page is read, so that nothing is missing between the two, and stays
for a while when its stream ends, because a browser in the background ends it. Its buffer is
bounded: of a page that is slow, the oldest items are left out, and counted. Durations are seconds.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
P = TypeVar("P")

FOLLOWERS_MOST = 24
KEPT_MOST = 1000  # items of one
KEPT_CHARS = 256 * 1024
SENT_MOST, SENT_CHARS = 20, 128 * 1024  # parts that may not have arrived
UNUSED_S = 20.0  # for the first stream of a page
AWAY_S = 120.0  # for a browser that has been in the background
FREE_S = 2.0  # for the former stream of a page to end
EVERY_S = 0.5  # between two parts of a stream


class Follower(Generic[T, P]):
    """What is recorded from now on, for one page.

    Args:
        uid: Whose page it is.
        page: What goes on with the page.
        items: What is recorded.
        size: Characters of one item.
    """

    def __init__(
        self, uid: int, page: P, items: AsyncIterator[T], size: Callable[[T], int]
    ) -> None:
        self.uid, self.page, self.key = uid, page, secrets.token_urlsafe(12)
        self.freed = asyncio.Event()  # no stream has it
        self.freed.set()
        self._items, self._size = items, size
        self._kept: deque[T] = deque()
        self._chars = self._left_out = 0
        self._added = asyncio.Event()
        self._error: Exception | None = None
        self._sent: deque[tuple[int, str]] = deque(maxlen=SENT_MOST)
        self._number = 0
        self._task = asyncio.create_task(self._collect(), name="follow")

    async def take(self) -> tuple[list[T], int]:
        """Wait for items; return them, and how many before them are left out.

        Raises:
            EOFError: The following has ended, and everything before that was taken.
            Exception: The same, for this reason.
        """
        while not self._kept:
            if self._task.done():
                raise self._error or EOFError
            await self._added.wait()
            self._added.clear()
        taken, left_out = list(self._kept), self._left_out
        self._kept.clear()
        self._chars = self._left_out = 0
        return taken, left_out

    @property
    def is_used(self) -> bool:
        """Return whether a stream has it."""
        return not self.freed.is_set()

    def sent(self, text: str) -> tuple[str, str, str]:
        """Keep a part that is sent now; return it with its id."""
        self._number += 1
        self._sent.append((self._number, text))
        while sum(len(one) for _, one in self._sent) > SENT_CHARS and len(self._sent) > 1:
            self._sent.popleft()
        return "", text, f"{self.key}.{self._number}"

    def not_arrived(self, last: str) -> list[tuple[str, str, str]]:
        """Return the parts that were sent when the browser had gone.

        Args:
            last: The id of the last part that it has got; empty: it has got none.
        """
        key, _, digits = last.rpartition(".")
        number = int(digits) if key == self.key and digits.isdigit() else 0
        return [("", text, f"{self.key}.{n}") for n, text in self._sent if n > number]

    async def batches(self) -> AsyncGenerator[tuple[list[T], int], None]:
        """Yield what `take` returns, `EVERY_S` apart, until the following has ended."""
        while True:
            try:
                batch = await self.take()
            except EOFError:
                return
            yield batch
            await asyncio.sleep(EVERY_S)

    async def close(self) -> None:
        """Follow no more."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _collect(self) -> None:
        try:
            async with contextlib.aclosing(_closable(self._items)) as items:
                async for item in items:
                    self._keep(item)
        except Exception as error:  # noqa: BLE001 (the stream raises it)
            self._error = error
        finally:
            self._added.set()

    def _keep(self, item: T) -> None:
        self._kept.append(item)
        self._chars += self._size(item)
        while len(self._kept) > KEPT_MOST or (self._chars > KEPT_CHARS and len(self._kept) > 1):
            self._chars -= self._size(self._kept.popleft())
            self._left_out += 1
        self._added.set()


async def _closable(items: AsyncIterator[T]) -> AsyncGenerator[T, None]:
    try:
        async for item in items:
            yield item
    finally:
        if isinstance(items, AsyncGenerator):
            await items.aclose()


class Following(Generic[T, P]):
    """All followers of one kind.

    Args:
        size: Characters of one item.
    """

    def __init__(self, size: Callable[[T], int]) -> None:
        self._size = size
        self._followers: dict[str, Follower[T, P]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def begin(
        self, uid: int, page: P, items: Callable[[], AsyncIterator[T]]
    ) -> Follower[T, P] | None:
        """Begin to follow; return None if there are too many that are in use.

        Args:
            uid: Whose page it is.
            page: What goes on with the page.
            items: Returns what is recorded from now on.
        """
        if len(self._followers) >= FOLLOWERS_MOST:
            unused = next((one for one in self._followers.values() if not one.is_used), None)
            if unused is None:
                return None
            self.end(unused)
        follower = Follower(uid, page, items(), self._size)
        self._followers[follower.key] = follower
        self._expire(follower, UNUSED_S)
        return follower

    async def resume(self, key: str, uid: int) -> Follower[T, P] | None:
        """Return the follower of a page whose stream begins, until `pause`.

        None: there is none for this user, or another stream has it, as that of a copy of the tab.
        """
        follower = self._followers.get(key)
        if follower is None or follower.uid != uid:
            return None
        with contextlib.suppress(TimeoutError):  # its former stream may be about to end
            async with asyncio.timeout(FREE_S):
                await follower.freed.wait()
        if follower.is_used or key not in self._followers:
            return None
        self._timers.pop(key).cancel()
        follower.freed.clear()
        return follower

    def pause(self, follower: Follower[T, P]) -> None:
        """Note that its stream has ended: it is kept for a while."""
        if follower.key in self._followers:
            follower.freed.set()
            self._expire(follower, AWAY_S)

    def end(self, follower: Follower[T, P]) -> None:
        """End one."""
        self._followers.pop(follower.key, None)
        if timer := self._timers.pop(follower.key, None):
            timer.cancel()
        task = asyncio.create_task(follower.close(), name="end following")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all."""
        for follower in list(self._followers.values()):
            self.end(follower)
        if self._ending:
            await asyncio.wait(set(self._ending))

    def _expire(self, follower: Follower[T, P], seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timers[follower.key] = loop.call_later(seconds, self.end, follower)
