"""Hands received messages to the agent: per room in order, after catch-up, until on disk.

Durations are seconds.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from garrison.ipc import Busy
from garrison.workers.agents.content import Memory

from .futures import retrieve_exception
from .messages import Heard, as_heard
from .streams import Streams

log = logging.getLogger(__name__)

WAITING_MOST = 10_000  # messages that were received and are not handed over
CATCHING_UP_MOST = 256  # of them from catch-up
HOLD_S = 60.0  # for which live messages wait for catch-up, at most
RETRY_S = 1.0  # before catch-up is tried again; doubled each time
RETRY_MOST_S = 60.0

HandOver = Callable[[Memory], Awaitable[None]]
Save = Callable[[str, str], Awaitable[None]]
Spawn = Callable[..., Any]


class Work(msgspec.Struct, eq=False):
    """One message that was received."""

    memory: Memory
    stream: str
    position: str
    confirmed: "asyncio.Future[None]"
    caught_up: bool = False
    place: int = 0  # in its stream


class Receiving:
    """The messages on their way to the agent.

    Args:
        hand_over: Returns when the message is on disk, or raises if it never can be.
        save: Saves the position of a stream.
        spawn: Runs a coroutine until the service stops.
        held: Live messages wait until `catch_up` has ended.
        overtakes: Whether a message does not wait for those before it in its room.
    """

    def __init__(
        self,
        hand_over: HandOver,
        save: Save,
        spawn: Spawn,
        held: bool,
        overtakes: Callable[[Memory], bool] = lambda memory: False,
    ) -> None:
        self._overtakes = overtakes
        self._hand_over, self._save, self._spawn = hand_over, save, spawn
        self._rooms: dict[str, deque[Work]] = {}  # with a task each
        self._streams = Streams()
        self._behind: deque[Work] | None = deque() if held else None
        # Positions are saved only when nothing before them is missing.
        self._has_caught_up = not held
        if not held:
            self._streams.forget_reached()
        self._catching_up = 0
        self._fewer = asyncio.Event()
        self.waiting = 0

    async def receive(self, memory: Memory, stream: str, position: str) -> None:
        """Take a message; return when it is on disk and its position is saved.

        Raises:
            Busy: Too many wait. No later position of its stream is saved until it has come again.
        """
        if self.waiting >= WAITING_MOST:
            self._streams.block(stream, position)
            raise Busy(f"{self.waiting} messages wait to be handed over already")
        work = self._new(memory, stream, position)
        if self._behind is not None:
            self._behind.append(work)
        else:
            self._enrol(work)
        await asyncio.shield(work.confirmed)

    def _new(self, memory: Memory, stream: str, position: str, caught_up: bool = False) -> Work:
        self.waiting += 1
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.add_done_callback(retrieve_exception)
        return Work(memory, stream, position, confirmed, caught_up)

    def _enrol(self, work: Work) -> None:
        work.place = self._streams.add(work.stream, work.position)
        room = work.memory.room_id
        if self._overtakes(work.memory):
            room = f"{room}\n"
        queue = self._rooms.get(room)
        if queue is not None:
            queue.append(work)
            return
        self._rooms[room] = deque([work])
        self._spawn(self._serve(room), f"room {room[:40]}", False)

    def oldest(self) -> float | None:
        """Return when the oldest message that waits was written, Unix seconds; None: none does."""
        queues = [*self._rooms.values(), *([self._behind] if self._behind is not None else [])]
        return min((queue[0].memory.created_at for queue in queues if queue), default=None)

    async def _serve(self, room: str) -> None:
        """Hand over a room's messages, one after the other, until none waits."""
        queue = self._rooms[room]
        while queue:
            work = queue[0]
            try:
                await self._hand_over(work.memory)
            except Exception as error:  # noqa: BLE001 (`receive` raises it to its author)
                log.error("message.refused message=%s error=%s", work.memory.id, error)
                self._ended(work, error)
            else:
                self._ended(work, None)
            queue.popleft()
        del self._rooms[room]

    def _ended(self, work: Work, error: Exception | None) -> None:
        """Confirm a message once its position, if it has one, is saved."""
        self.waiting -= 1
        if work.caught_up:
            self._catching_up -= 1
            self._fewer.set()
        moved = self._streams.done(work.stream, work.place)
        if moved is not None and self._has_caught_up:
            self._spawn(self._confirm(work, error, moved), "confirm", False)
        else:
            _settle(work, error)

    async def _confirm(self, work: Work, error: Exception | None, position: str) -> None:
        await self._try_to_save(work.stream, position)
        _settle(work, error)

    async def _try_to_save(self, stream: str, position: str) -> None:
        try:
            await self._save(stream, position)
        except Exception as problem:  # noqa: BLE001 (it is received again, with the same key)
            log.warning("platform.position_unsaved stream=%s error=%s", stream, problem)

    # --- catch-up -----------------------------------------------------------------------------

    async def catch_up(
        self,
        missed: Callable[[dict[str, str]], AsyncIterator[Heard]],
        since: Mapping[str, str],
        prepare: Callable[[Memory], Memory | None],
        warn: Callable[[str | None], None],
    ) -> None:
        """Take missed messages before live ones; after an error try again, without end.

        Args:
            missed: The author's `catch_up`.
            since: The saved position of each stream; it is passed as a copy.
            prepare: Returns a memory as it is posted; None: it is not passed on.
            warn: Shows a problem in `status`, or with None removes it.
        """
        loop, delay = asyncio.get_running_loop(), RETRY_S
        release = loop.call_later(HOLD_S, self._release)
        while True:
            try:
                async for heard in missed(dict(since)):
                    await self._take_missed(heard, prepare)
                break
            except Exception as error:  # noqa: BLE001 (an outage of the platform)
                log.warning("platform.catch_up_failed error=%r wait_s=%.3g", error, delay)
                warn(f"catch-up fails, and is tried again: {type(error).__name__}: {error}")
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MOST_S)
        warn(None)
        release.cancel()
        self._release()
        self._has_caught_up = True
        for stream, position in self._streams.reached():
            await self._try_to_save(stream, position)
        self._streams.forget_reached()

    async def _take_missed(self, heard: Heard, prepare: Callable[[Memory], Memory | None]) -> None:
        if not isinstance(heard, Heard):
            raise TypeError(f"catch_up yielded a {type(heard).__name__}: yield a Heard")
        as_heard(heard.memory, heard.stream, heard.position)
        memory = prepare(heard.memory)
        if memory is None:
            self._streams.pass_over(heard.stream, heard.position)
            return
        while self._catching_up >= CATCHING_UP_MOST:
            self._fewer.clear()
            await self._fewer.wait()
        self._catching_up += 1
        self._enrol(self._new(memory, heard.stream, heard.position, caught_up=True))

    def _release(self) -> None:
        """Let the live messages follow."""
        behind, self._behind = self._behind, None
        for work in behind or ():
            self._enrol(work)

    async def pass_over(self, stream: str, position: str) -> None:
        """Note a message that is not passed on, and save its position."""
        if self._behind is not None or not stream:
            return  # catch-up may still yield earlier ones
        moved = self._streams.pass_over(stream, position)
        if moved is not None and self._has_caught_up:
            await self._try_to_save(stream, moved)


def _settle(work: Work, error: Exception | None) -> None:
    if work.confirmed.done():
        return
    if error is not None:
        work.confirmed.set_exception(error)
    else:
        work.confirmed.set_result(None)
