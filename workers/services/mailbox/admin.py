"""What an operator sees of the mailbox and can change: list, show, replay, drop."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from garrison.workers.sqlite.files import damaged_files

from . import damage, schema
from .checksums import DEAD, WAITING, Message
from .damage import DamagedMessage
from .delivery import Dispatcher
from .notices import HeldLane
from .replays import Ended
from .store import Store
from .system_clock import SystemClock

MAX_LISTED = 1_000  # messages in one list


class Admin:
    """Lists, shows, replays and drops messages.

    Args:
        path: The mailbox's file.
        store: The open file.
        clock: The mailbox's time.
        dispatcher: Delivers replayed messages and forgets dropped ones.
    """

    def __init__(
        self, path: Path, store: Store, clock: SystemClock, dispatcher: Dispatcher
    ) -> None:
        self._path, self._store, self._clock = path, store, clock
        self._dispatcher = dispatcher

    async def ls(self, receiver: str | None, most: int) -> dict[str, Any]:
        """Return counts by receiver, the oldest messages of each state, and damaged files."""
        most = max(1, min(most, MAX_LISTED))
        counts = await self._store.execute(schema.count_by_receiver)
        messages = await self._store.execute(lambda at: schema.list_oldest(at, receiver, most))
        damaged, total = await self._store.execute(lambda at: damage.listed(at, receiver, most))
        now, held = self._clock.now(), self._dispatcher.held_lanes
        return {
            "receivers": [
                {
                    "receiver": name,
                    "waiting": waiting,
                    "dead": dead,
                    "oldest_s": age(oldest, now),
                    "oldest_dead_s": age(oldest_dead, now),
                }
                for name, waiting, dead, oldest, oldest_dead in counts
                if receiver in {None, name}
            ],
            "letters": [
                summary(message, now, held) | {"bytes": size} for message, size in messages
            ],
            "damaged": [str(path) for path in damaged_files(self._path)],
            "damaged_messages": [damaged_summary(one) for one in damaged],
            "damaged_count": total,
        }

    async def show(self, message_id: str) -> dict[str, Any]:
        """Return one message with its arguments; of a damaged one, what its row held.

        Raises:
            LookupError: There is no such message.
        """
        message = await self._store.execute(lambda at: schema.get_message(at, message_id))
        if message is None:
            lost = await self._store.execute(lambda at: damage.get(at, message_id))
            if lost is not None:
                return damaged_details(lost)
            raise LookupError(f"no message {message_id}: delivered, dropped, or never posted")
        return summary(message, self._clock.now(), self._dispatcher.held_lanes) | {
            "args": msgspec.msgpack.decode(message.args),
            "kwargs": msgspec.msgpack.decode(message.kwargs),
        }

    async def replay(self, ids: list[str] | None, receivers: list[str] | None = None) -> int:
        """Queue dead letters again, behind the waiting messages; return how many."""
        self._dispatcher.replays.begin((ids or [])[-MAX_LISTED:])
        found = await self._store.execute(
            lambda at: schema.replay(at, ids, receivers, self._store.next_seq),
            callback=self._dispatcher.reread,
        )
        return len(found)

    async def drop(self, ids: list[str]) -> int:
        """Delete messages; return how many existed."""

        def dropped(_: int) -> None:
            self._dispatcher.replays.end(ids, Ended.DROPPED)
            self._dispatcher.discard(ids)

        return await self._store.execute(lambda at: schema.drop(at, ids), callback=dropped)

    async def outcomes(self, ids: list[str]) -> list[dict[str, Any]]:
        """Return what became of messages that were replayed."""
        return [await self._outcome(one) for one in ids[:MAX_LISTED]]

    async def _outcome(self, message_id: str) -> dict[str, Any]:
        names = ("id", "state", "receiver", "method", "reason", "retry_s")
        try:
            row = await self.show(message_id)
        except LookupError:
            ended = self._dispatcher.replays.outcome(message_id).value
            return dict.fromkeys(names, "") | {"id": message_id, "state": ended, "retry_s": None}
        return {name: row[name] for name in names}

    async def counts(self) -> dict[str, float]:
        """Return the numbers for `garrison status`."""
        counts = await self._store.execute(schema.count_by_receiver)
        oldest = min((row[3] for row in counts if row[3] is not None), default=None)
        return {
            "waiting": sum(row[1] for row in counts),
            "oldest_s": round(age(oldest, self._clock.now()) or 0.0, 1),
            "dead": sum(row[2] for row in counts),
            "damaged": len(damaged_files(self._path)),
            "damaged_messages": await self._store.execute(damage.count),
        }


def age(posted_at: float | None, now: float) -> float | None:
    """Return seconds since a time; None for None."""
    return None if posted_at is None else max(now - posted_at, 0.0)


def summary(message: Message, now: float, held: Mapping[HeldLane, str] = {}) -> dict[str, Any]:
    """Return a message for display, without its arguments.

    Args:
        message: The message.
        now: The mailbox's time.
        held: The lanes that wait for the notice of a dead letter, each with the notice's id.
    """
    waits = message.state == WAITING and message.lane is not None
    return {
        "id": message.id,
        "receiver": message.receiver,
        "method": message.method,
        "state": "dead" if message.state == DEAD else "waiting",
        "sender": message.sender,
        "key": message.key,
        "lane": message.lane,
        "age_s": max(now - message.posted_at, 0.0),
        "expires_s": None if message.expires_at is None else message.expires_at - now,
        "attempts": message.attempts,
        "retry_s": _retry_s(message, now),
        "deaths": message.deaths,
        "death": message.death,
        "reason": message.reason,
        "bytes": len(message.args) + len(message.kwargs),
        "notice": held.get(HeldLane(message.receiver, message.lane or "")) if waits else None,
    }


def _retry_s(message: Message, now: float) -> float | None:
    """Return the seconds until a message is tried again; None if it does not wait for that."""
    if message.state == DEAD or message.died_at is None or message.died_at <= now:
        return None
    return message.died_at - now


def damaged_summary(message: DamagedMessage) -> dict[str, Any]:
    """Return a damaged message for a list."""
    return {
        "id": message.id,
        "receiver": message.receiver,
        "method": message.method,
        "key": message.key,
        "found_at": message.found_at,
        "problem": message.problem,
    }


def damaged_details(message: DamagedMessage) -> dict[str, Any]:
    """Return a damaged message in the form of `summary`; `fields` are its row's values."""
    shown = Message(id=message.id, receiver="", method="", args=b"", kwargs=b"")
    wall = message.found_at
    return summary(shown, 0.0) | {
        "receiver": message.receiver,
        "method": message.method,
        "state": "damaged",
        "key": message.key,
        "age_s": max(time.time() - wall, 0.0),
        "reason": f"{message.problem}; it is not delivered",
        "bytes": len(message.fields),
        "args": None,
        "kwargs": None,
        "fields": _readable(message.fields),
    }


def _readable(fields: bytes) -> list[Any] | None:
    """Return the values of a damaged row, each as text if it is no plain value."""
    if not fields:
        return None
    row = msgspec.msgpack.decode(fields)
    return [value if isinstance(value, str | int | float | None) else repr(value) for value in row]
