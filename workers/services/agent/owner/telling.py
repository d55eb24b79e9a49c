"""Follows the host's events and sends the owner what is new: merged, throttled, and once.

What is read of the events, and what is to be sent, is one file: a killed agent goes on from there.
Durations are seconds.
"""

import asyncio
import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import GarrisonError, InvalidCall
from garrison.workers import DeadLetter, Runtime
from garrison.workers.sqlite.files import replace_file

from .outbox import Item, State, is_after, load, unix_time

log = logging.getLogger(__name__)

FILE = "owner.json"
LINK_EVENT = "platform.link"
METHOD = "send_direct"
CHECK_S = 10.0  # after the start: all plugins have been read
GATHER_S = 5.0  # from the first news to the message: an end and the start after it are one line
POLL_S = 1.0  # between reads of the events
RECORDED_MOST = 1000  # events that are read again at the start; of more, the oldest are passed over
RETRY_S, RETRY_MOST_S = 1.0, 60.0  # before a message is posted again; doubled each time
OUTBOX_MOST = 100  # messages of one platform that wait; further news wait with them
SAVED_EVERY = 200  # events, after which it is noted that they are read
WARNING = "owner"


class OwnerNews:
    """Tells the owner.

    Args:
        runtime: The agent's.
        owner: NAME of a platform, and whom to tell there.
        folder: For the file.
        every: Seconds between two messages.
    """

    def __init__(
        self,
        runtime: Runtime,
        owner: dict[str, str],
        folder: Path,
        every: float,
    ) -> None:
        self._runtime, self._owner, self._path = runtime, owner, folder / FILE
        self._every, self._gather = every, min(GATHER_S, every)
        self._state = State()
        self._changed, self._saving = asyncio.Event(), asyncio.Lock()
        self._first: float | None = None  # loop time of the first news that is not reported
        self._not_before = 0.0  # loop time
        self._unsaved = 0

    async def run(self) -> None:
        """Follow the events until the service stops."""
        self._state = await asyncio.to_thread(load, self._path)
        passed = time.time() - self._state.sent_at
        self._not_before = self._now() + min(max(self._every - passed, 0.0), self._every)
        self._note()  # what an earlier process has read, and not reported
        self._runtime.register_event(LINK_EVENT, self._on_link)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._guarded(self._follow), name="owner events")
            group.create_task(self._tell(), name="owner news")
            group.create_task(self._check_names(), name="owner names")
            for platform in self._owner:
                group.create_task(self._send(platform), name=f"owner {platform}")

    def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Note that a message to the owner was given up."""
        if mail.method == METHOD:
            self._runtime.warn(WARNING, f"the owner at {mail.service} cannot be reached: {reason}")

    # --- what happens -------------------------------------------------------------------------

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Try again what fails: news are no reason for the agent to crash."""
        delay = RETRY_S
        while True:
            try:
                await work()
            except (GarrisonError, OSError) as error:
                log.warning("owner.events error=%s", error)
                self._runtime.warn(WARNING, f"the host's events cannot be read: {error}")
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_MOST_S)

    async def _follow(self) -> None:
        state = self._state
        is_new = state.cursor is None  # at the first start, what was before is no news
        number = 1 if is_new else RECORDED_MOST
        events = self._runtime.client.events(number=number, poll=min(POLL_S, self._gather))
        async with contextlib.aclosing(events) as found:  # type: ignore[type-var]
            async for event in found:
                if is_new:
                    is_new, state.cursor = False, (event.time, event.n)
                    await self._save()
                    continue
                if not is_after((event.time, event.n), state.cursor):
                    continue
                state.cursor = (event.time, event.n)
                if self._concerns(event.service):
                    at = unix_time(event.time)
                    state.news.take(event.event, event.service, event.data, at)
                    self._note()
                await self._save_sometimes()

    def _concerns(self, name: str) -> bool:
        """Return whether a service is the agent's own, or belongs to none."""
        entry = self._runtime.client.directory.get(name) if name else None
        return entry is not None and entry.agent in {"", self._runtime.agent}

    async def _on_link(self, payload: Any) -> None:
        name, problem = str(payload.get("service", "")), str(payload.get("problem", ""))
        if self._concerns(name):
            self._state.news.take_link(name, problem)
            self._note()

    def _note(self) -> None:
        if self._first is None and self._state.news.is_any:
            self._first = self._now()
            self._changed.set()

    # --- reports -------------------------------------------------------------------------

    async def _tell(self) -> None:
        """Put what is new into the outbox, at most once in so many seconds."""
        while True:
            await self._until_due()
            state = self._state
            lines = state.news.lines()
            self._first = None
            if not lines:
                continue
            if any(len(box) >= OUTBOX_MOST for box in state.outbox.values()):
                self._not_before = self._now() + self._every
                self._note()
                continue
            text = self._runtime.redacted("\n".join(lines))
            for platform, person in self._owner.items():
                id = _id(self._runtime.name, platform, person, state, text)
                state.outbox.setdefault(platform, []).append(Item(id, person, text))
            state.news.note_reported()
            state.sent_at, self._not_before = time.time(), self._now() + self._every
            await self._save()
            self._changed.set()

    async def _until_due(self) -> None:
        while True:
            due = math.inf
            if self._first is not None:
                due = max(self._first + self._gather, self._not_before)
            wait = due - self._now()
            if wait <= 0:
                return
            await self._wait(None if math.isinf(wait) else wait)

    async def _wait(self, seconds: float | None) -> None:
        """Wait until something has changed, or for so long."""
        changed = self._changed
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await changed.wait()
        if changed is self._changed and changed.is_set():
            self._changed = asyncio.Event()  # those who still wait for the former one see it set

    # --- sending ------------------------------------------------------------------------------

    async def _check_names(self) -> None:
        """Warn of a platform that there is not: otherwise the first news would find it out."""
        await asyncio.sleep(CHECK_S)
        for platform in self._owner:
            entry = self._runtime.client.directory.get(platform)
            if entry is None:
                self._warn(platform, "there is no service of this NAME")
            elif all(one.name != METHOD for one in entry.manifest.methods):
                self._warn(platform, "it is no platform")

    async def _send(self, platform: str) -> None:
        """Send one platform's messages, in order, each until it is on its way."""
        delay = RETRY_S
        while True:
            box = self._state.outbox.get(platform, [])
            if not box:
                await self._wait(None)
                continue
            await self._until_saved()
            try:
                await self._post(platform, box[0])
            except InvalidCall as error:  # it never can be
                self._warn(platform, error)
            except GarrisonError as error:
                self._warn(platform, error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, RETRY_MOST_S)
                continue
            else:
                self._runtime.warn(WARNING, None)
            delay = RETRY_S
            box.pop(0)
            await self._save()

    def _warn(self, platform: str, error: object) -> None:
        log.warning("owner.not_told platform=%s error=%s", platform, error)
        self._runtime.warn(WARNING, f"the owner at {platform} cannot be reached: {error}")

    async def _post(self, platform: str, item: Item) -> None:
        """Return when a message is in the mailbox; without one, when it is sent."""
        client, lane = self._runtime.client, f"owner/{platform}"
        if client.entry_of("mailbox") is not None:
            args = (item.person, item.text, item.id)
            await self._runtime.post(platform, METHOD, *args, key=item.id, lane=lane)
            return
        await client.get_service_load_promise(platform, RETRY_MOST_S)
        call = (item.person, item.text, item.id, True)
        await client.call_method(platform, METHOD, call, idempotent=True)

    # --- the file -----------------------------------------------------------------------------

    async def _save_sometimes(self) -> None:
        """Note that events were read, if nothing of them is still to be reported: otherwise they
        are read again after a kill."""
        self._unsaved += 1
        if self._unsaved >= SAVED_EVERY and not self._state.news.is_any:
            await self._save()

    async def _until_saved(self) -> None:
        """Wait for a message to be on the disk: one that is posted before it is there is made anew
        if the agent is killed meanwhile, of more events, so under another id."""
        async with self._saving:  # in turn: `_tell` saves at once what it has put into the outbox
            return

    async def _save(self) -> None:
        self._unsaved = 0
        async with self._saving:
            data = msgspec.json.encode(self._state)
            try:
                await asyncio.to_thread(replace_file, self._path, data)
            except OSError as error:
                log.warning("owner.not_saved path=%s error=%s", self._path, error)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _id(agent: str, platform: str, person: str, state: State, text: str) -> str:
    """Return a message's id: the same if it is made again of the same events."""
    made = msgspec.json.encode([agent, platform, person, state.cursor, text])
    return f"owner/{platform}/{hashlib.sha256(made).hexdigest()[:32]}"
