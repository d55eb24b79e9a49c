"""All chats of the console's users: begins, finds and forgets them."""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from garrison.ipc import CallError, OrderFailed
from garrison.ipc import Entry as Listed
from garrison.workers import Runtime

from . import rooms
from .exchange import Exchange
from .files import RoomFiles
from .rooms import Room

CHAT = "chat"
FOLDER = "talk"
ROOMS_MOST = 20  # of one user; the one that was silent for the longest is forgotten
GREETING_S = 5.0


class Talks:
    """The chats.

    Args:
        runtime: The console's.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._files = RoomFiles(runtime.data_folder / FOLDER)
        self._open: dict[str, Exchange] = {}

    async def start(self) -> None:
        """Read what is kept, and go on with the lines that wait."""
        for room in await asyncio.to_thread(self._files.read):
            person = str(room.conversation.get("person", ""))
            if self._runtime.was_forgotten(room.chat, person, room.changed_at):  # from a backup
                await asyncio.to_thread(self._files.delete, room.id)
                continue
            exchange = self._open[room.id] = Exchange(room, self._runtime, self._files)
            if room.waiting:
                exchange.serve()

    def chats(self) -> list[Listed]:
        """Return the services to chat with."""
        return self._runtime.client.directory.of_type(CHAT)

    def rooms_of(self, uid: int) -> list[Room]:
        """Return a user's chats, the one with the newest text first."""
        found = [one.room for one in self._open.values() if one.room.uid == uid]
        return sorted(found, key=lambda room: -room.changed_at)

    def find(self, room_id: str, uid: int) -> Exchange:
        """Return a user's chat.

        Raises:
            OrderFailed: There is none, or it is another user's.
        """
        exchange = self._open.get(room_id)
        if exchange is None or exchange.room.uid != uid:
            raise OrderFailed("not_found", "there is no such chat; it may have been forgotten")
        return exchange

    async def begin(self, chat: str, uid: int, user: str) -> Exchange:
        """Return a new chat; its agent greets, if it runs.

        Args:
            chat: NAME of the chat service; empty: the first one.
            uid: The user's.
            user: Their name: the agent knows them by it, in all their chats.

        Raises:
            OrderFailed: There is no such service, or too many chats wait for answers.
        """
        if sum(bool(room.waiting) for room in self.rooms_of(uid)) >= ROOMS_MOST:
            text = f"{ROOMS_MOST} chats wait for their answers already; forget one, or wait"
            raise OrderFailed("failed", text)
        known = [entry.name for entry in self.chats()]
        name = chat or next(iter(known), "")
        if name not in known:
            there = f"no chat service {chat}" if chat else "no chat service"
            raise OrderFailed("no_such_service", f"there is {there} here: add [plugins.{CHAT}]")
        greeting = await self._greeting(name)
        now, who = time.time(), user or str(uid)
        conversation = greeting["conversation"] | {"person": who, "name": user}
        room = Room(
            secrets.token_hex(8), name, uid, conversation, greeting["answerer"] or name, now, now
        )
        room = rooms.with_texts(room, [greeting["text"]], now)
        exchange = Exchange(
            msgspec.structs.replace(room, changed_at=0.0), self._runtime, self._files
        )
        await exchange.update(lambda _: room)
        self._open[room.id] = exchange
        for oldest in self._beyond(uid, room.id):
            await self.forget(oldest)
        return exchange

    def _beyond(self, uid: int, newest: str) -> list[str]:
        """Return the chats to forget: the silent ones beyond `ROOMS_MOST`, never one that waits."""
        theirs = self.rooms_of(uid)
        silent = [one.id for one in theirs if not one.waiting and one.id != newest]
        excess = max(len(theirs) - ROOMS_MOST, 0)
        return silent[max(len(silent) - excess, 0) :]

    async def _greeting(self, name: str) -> dict[str, Any]:
        client = self._runtime.client
        try:
            found: dict[str, Any] = await client.call_method(
                name, "greeting", (), Any, GREETING_S, idempotent=True
            )
        except CallError:  # a line can be written all the same: it waits for the agent
            return {"text": "", "answerer": "", "conversation": {"room": str(uuid.uuid4())}}
        return found

    async def forget(self, room_id: str) -> None:
        """Delete a chat."""
        exchange = self._open.pop(room_id, None)
        if exchange is not None:
            await exchange.forget()

    # --- persons ----------------------------------------------------------------------------

    async def forget_person(self, source: str, person: str) -> int:
        """Delete a person's chats; return how many there were.

        Args:
            source: NAME of the chat service.
            person: The id there.
        """
        theirs = self._of_person(source, person)
        for room in theirs:
            await self.forget(room.id)
        return len(theirs)

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the texts of a person's chats; `store` is the kind."""
        for room in self._of_person(source, person):
            for entry in room.entries:
                yield {
                    "store": "chats of the console",
                    "chat": room.id,
                    "who": entry.who,
                    "text": entry.text,
                    "at": entry.at,
                }

    def _of_person(self, source: str, person: str) -> list[Room]:
        found = [one.room for one in self._open.values()]
        return [
            room
            for room in found
            if (room.chat, room.conversation.get("person")) == (source, person)
        ]
