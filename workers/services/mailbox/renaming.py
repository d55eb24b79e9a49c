"""Has what was posted to a service's former NAMEs delivered under its present one.

The directory says which NAMEs a service had. Messages keep their order and their state; no message
of either NAME is in delivery while they are changed, in one transaction.
"""

import logging
import sqlite3

import msgspec

from garrison.workers import Runtime

from . import checksums, schema
from .delivery import Dispatcher
from .store import Store

log = logging.getLogger(__name__)

AT_ONCE = 1_000  # messages that are in memory while all are changed


def rename(cursor: sqlite3.Cursor, old: str, new: str) -> int:
    """Make the messages and subscriptions of one receiver another's; return how many messages.

    Raises:
        DamagedRow: A message does not fit its checksum.
    """
    count, after = 0, 0
    while True:
        rows = cursor.execute(
            f"SELECT {schema.READ_HEADER} FROM letters WHERE receiver = ? AND seq > ? "
            f"ORDER BY seq LIMIT {AT_ONCE}",
            (old, after),
        ).fetchall()
        for row in rows:
            message, body = checksums.header(row[1:]), row[-2]
            changed = msgspec.structs.astuple(msgspec.structs.replace(message, receiver=new))
            cursor.execute(
                "UPDATE letters SET receiver = ?, checksum = ? WHERE seq = ?",
                (new, checksums.of_header(changed, body), message.seq),
            )
            after = message.seq
        count += len(rows)
        if len(rows) < AT_ONCE:
            break
    for event in schema.get_subscriptions(cursor).get(old, ()):
        schema.add_subscription(cursor, (event, new))
    schema.set_subscriptions(cursor, old, ())
    return count


class Renaming:
    """Follows the directory.

    Args:
        runtime: The mailbox's.
        store: Where the messages are.
        dispatcher: Delivers them.
        subscriptions: Events by receiver.
    """

    def __init__(
        self,
        runtime: Runtime,
        store: Store,
        dispatcher: Dispatcher,
        subscriptions: dict[str, set[str]],
    ) -> None:
        self._runtime, self._store, self._dispatcher = runtime, store, dispatcher
        self._subscriptions = subscriptions
        self._handled: dict[str, tuple[str, ...]] = {}  # NAME → its former ones

    def pending(self, name: str) -> tuple[str, ...]:
        """Return the former NAMEs of a service that are to be handled now, each time once."""
        entry = self._runtime.client.directory.get(name)
        if entry is None:
            self._handled.pop(name, None)
            return ()
        if entry.former == self._handled.get(name, ()):
            return ()
        former: tuple[str, ...] = entry.former
        self._handled[name] = former
        return former

    async def handle(self, name: str, former: tuple[str, ...]) -> None:
        """Give a service what was posted to its former NAMEs.

        Until then nothing is delivered to it, so that it gets the older messages first.
        """
        for old in former:
            events = self._subscriptions.pop(old, set())
            if events:
                self._subscriptions[name] = self._subscriptions.get(name, set()) | events
        receivers = {name, *former}
        if await self._dispatcher.hold(receivers):
            counts = await self._store.execute(lambda at: [rename(at, old, name) for old in former])
            self._dispatcher.release(receivers, into=name)
            for old, count in zip(former, counts, strict=True):
                if count:
                    log.warning("mail.renamed former=%s receiver=%s count=%d", old, name, count)
