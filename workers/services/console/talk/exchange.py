"""One chat while it goes on: sends its lines one after the other, and follows their answers.

Durations are seconds.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

from garrison.ipc import (
    Busy,
    CallError,
    CallTimeout,
    Overloaded,
    RemoteError,
    RetryLater,
    ServiceLost,
    ServiceUnavailable,
    State,
    with_timeout,
)
from garrison.ipc import Entry as Listed
from garrison.workers import Runtime

from ..answer_rows import tools_used
from . import rooms
from .files import RoomFiles
from .rooms import Entry, Room

log = logging.getLogger(__name__)

AGENT = "agent"
ANSWER_S = 180.0  # for an answer; more than the agent itself allows
FIRST_S, MOST_S = 1.0, 30.0  # before a line is sent again, doubled each time
RETRY_FOR_S = 900.0  # after which a line is not sent again by itself
POLL_S = 0.7  # between two looks at an answer that is under way
RECORD_S = 5.0
LISTEN_S = 86_400.0  # for a text that is no answer; then it is listened again
PAUSE_S = 0.5  # before that, where the service ended
RETRIED = (ServiceUnavailable, ServiceLost, CallTimeout, Overloaded, Busy, RetryLater)
RETRIED_NAMES = frozenset(one.__name__ for one in RETRIED)  # of what the agent raised in the chat


class Progress(NamedTuple):
    """What is known of an answer that is under way."""

    words: str = ""  # why it takes longer; empty: the agent is answering
    parts: tuple[str, ...] = ()  # texts that were sent so far
    tools: tuple[str, ...] = ()


class Exchange:
    """One chat.

    Args:
        room: As it is on disk.
        runtime: The console's.
        files: Where it is kept.
    """

    def __init__(self, room: Room, runtime: Runtime, files: RoomFiles) -> None:
        self.room, self.progress = room, Progress()
        self._runtime, self._files = runtime, files
        self._writing, self._changed = asyncio.Lock(), asyncio.Event()
        self._watchers, self._is_forgotten = 0, False
        self._held: list[str] = []  # texts that arrived while a line was being answered
        self._serving: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    # --- what pages do ----------------------------------------------------------------------

    async def update(self, change: Callable[[Room], Room]) -> None:
        """Change the chat; return once that is on disk. What `change` raises is raised."""
        async with self._writing:
            room = change(self.room)
            if room is self.room or self._is_forgotten:
                return
            await asyncio.to_thread(self._files.write, room)
            self.room = room
        self._wake()
        if room.waiting:
            self.serve()

    def serve(self) -> None:
        """Answer the lines that wait, if that does not happen already."""
        if self._serving is None or self._serving.done():
            name = f"talk {self.room.id}"
            self._serving = self._runtime.spawn(self._serve(), name, essential=False)

    async def changes(self) -> AsyncIterator[None]:
        """Yield at once, and after each change; texts for the room are listened to meanwhile."""
        self._watchers += 1
        if self._listening is None or self._listening.done():
            name = f"listen {self.room.id}"
            self._listening = self._runtime.spawn(self._listen(), name, essential=False)
        try:
            while not self._is_forgotten:
                changed = self._changed
                yield
                await changed.wait()
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._listening.cancel()

    async def settled(self, seconds: float) -> None:
        """Wait until no line waits for its answer, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.room.waiting:
                    await self._changed.wait()

    async def forget(self) -> None:
        """Delete the chat. An answer that is under way is not kept."""
        async with self._writing:
            self._is_forgotten = True
            await asyncio.to_thread(self._files.delete, self.room.id)
        for task in (self._serving, self._listening):
            if task is not None:
                task.cancel()
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _show(self, progress: Progress) -> None:
        if progress != self.progress:
            self.progress = progress
            self._wake()

    # --- answers ----------------------------------------------------------------------------

    async def _serve(self) -> None:
        while self.room.waiting and not self._is_forgotten:
            try:
                await self._answer(self.room.waiting[0])
            except OSError as error:  # the same answer comes once more, from the agent's record
                log.warning("talk.not_written chat=%s error=%s", self.room.id, error)
                self._show(Progress(f"the answer cannot be written: {error}. It is tried again"))
                await asyncio.sleep(MOST_S)

    async def _answer(self, line: Entry) -> None:
        """Have one line answered, or note why it is not."""
        until, wait = time.monotonic() + RETRY_FOR_S, FIRST_S
        while True:
            following = asyncio.create_task(self._follow(line))
            try:
                reply = await self._say(line)
                break
            except CallError as error:
                problem = _sentence(error)
                if not _is_retried(error) or time.monotonic() > until:
                    await self._fail(line, problem)
                    return
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
            self._show(Progress(f"{problem}. It is tried again"))
            await asyncio.sleep(wait)
            wait = min(wait * 2, MOST_S)
        await self._take(line, reply)

    async def _fail(self, line: Entry, problem: str) -> None:
        self.progress = Progress()
        await self.update(lambda room: rooms.failed(room, line.number, problem))

    async def _take(self, line: Entry, reply: dict[str, Any]) -> None:
        record = await self._record(line) or {"steps": (), "id": ""}
        held, self._held = self._held, []
        others, now = rooms.without_answers(held, reply["text"]), time.time()

        def change(room: Room) -> Room:
            room = rooms.with_texts(room, others, now)
            tools = tools_used(record)
            return rooms.answered(room, line.number, reply, now, tools, record["id"])

        self.progress = Progress()
        await self.update(change)

    async def _say(self, line: Entry) -> dict[str, Any]:
        """Send a line. A repeated one has one answer: its place in the chat makes its id."""
        client = self._runtime.client
        arguments = (line.text, self.room.conversation)
        reply: dict[str, Any] = await client.call_method(
            self.room.chat, "say", arguments, Any, ANSWER_S, idempotent=True
        )
        return reply

    async def _follow(self, line: Entry) -> None:
        """Show what becomes of a line, until cancelled."""
        begun = 0
        while True:
            agent = self._agent()
            if agent is not None:
                if begun and agent.generation not in (0, begun):
                    await self._note_restart(agent)
                begun = agent.generation or begun
            if agent is not None and agent.state is not State.RUNNING:
                reason = f" ({agent.reason})" if agent.reason else ""
                words = (
                    f"{agent.name} is {agent.state.value}{reason}; it answers when it runs again"
                )
                self._show(self.progress._replace(words=words))
            elif self._watchers and (record := await self._record(line)) is not None:
                parts = tuple(part["text"] for part in record["parts"] if part["text"])
                self._show(Progress("", parts, tuple(tools_used(record))))
            else:
                self._show(self.progress._replace(words=""))
            await asyncio.sleep(POLL_S)

    async def _note_restart(self, agent: Listed) -> None:
        text = f"{agent.name} was restarted while it answered; its new process answers"
        await self.update(lambda room: rooms.noted(room, text, time.time()))

    def _agent(self) -> Listed | None:
        """Return the agent that the chat service hands lines to."""
        directory = self._runtime.client.directory
        chat = directory.get(self.room.chat)
        return None if chat is None else directory.first_of(AGENT, chat.agent)

    async def _record(self, line: Entry) -> dict[str, Any] | None:
        """Return what the agent has recorded of a line; None if there is nothing yet."""
        agent = self._agent()
        if agent is None or agent.state is not State.RUNNING:
            return None
        wanted = f"{self.room.chat}/{self.room.topic}"
        try:
            found = await self._runtime.client.call_method(
                agent.name, "answers", (wanted, 1), Any, RECORD_S
            )
            detail: dict[str, Any] | None = next(iter(found["details"]), None)
        except (CallError, KeyError, TypeError):  # an agent of another plugin
            return None
        return detail if detail is not None and detail["heard_at"] >= line.at else None

    # --- texts that are no answers ----------------------------------------------------------

    async def _listen(self) -> None:
        client, chat = self._runtime.client, self.room.chat
        while not client.supervisor_gone:
            with contextlib.suppress(CallError, AttributeError):
                service: Any = self._runtime.get_service(chat)
                async for text in with_timeout(service, LISTEN_S).listen(self.room.topic):
                    if self.room.waiting:
                        self._held.append(text)
                        del self._held[: -rooms.ENTRIES_MOST]
                    else:
                        await self._hear(text)
            await asyncio.sleep(PAUSE_S)

    async def _hear(self, text: str) -> None:
        try:
            await self.update(lambda room: rooms.with_texts(room, [text], time.time()))
        except OSError as error:
            log.warning("talk.not_written chat=%s error=%s", self.room.id, error)


def _is_retried(error: CallError) -> bool:
    if isinstance(error, RETRIED):
        return True
    return isinstance(error, RemoteError) and error.type_name in RETRIED_NAMES


def _sentence(error: CallError) -> str:
    """Return an error for a user: a service that raised it wrote its text for one."""
    if isinstance(error, RemoteError):
        return error.detail.partition(": ")[2] or str(error)
    return str(error)
