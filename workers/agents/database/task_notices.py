"""Notices that tasks were created or changed, so that the task service looks at once.

They are events named `task.created`, a hint without a payload: the task service also looks without
them. Tasks that are created in a burst are followed by one notice.
"""

import asyncio
import concurrent.futures
from typing import Any
from weakref import WeakSet

import msgspec

from garrison.ipc.caller import Caller
from garrison.ipc.mail import EVENT

CREATED = "task.created"
CHANGING = frozenset({"create_task", "update_task"})  # methods that may make a task due
BURST_S = 0.005

_decode = msgspec.msgpack.Decoder().decode
_pending: WeakSet[Caller] = WeakSet()  # clients whose notice has not been sent yet


def notify_after(
    client: Caller, result: "asyncio.Future[Any] | concurrent.futures.Future[Any]"
) -> None:
    """Notify the task services of a host once a call has succeeded."""

    def done(ended: "asyncio.Future[Any] | concurrent.futures.Future[Any]") -> None:
        if not ended.cancelled() and ended.exception() is None:
            client.loop.call_soon_threadsafe(_schedule, client)

    if any(True for _ in client.directory.subscribers(CREATED, client.agent)):
        result.add_done_callback(done)


def _schedule(client: Caller) -> None:
    if client not in _pending:
        _pending.add(client)
        client.loop.call_later(BURST_S, _send, client)


def _send(client: Caller) -> None:
    _pending.discard(client)
    for entry in client.directory.subscribers(CREATED, client.agent):
        future: asyncio.Future[Any] = client.loop.create_future()
        future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        client.call(entry.name, EVENT, (CREATED, None), {}, None, _decode, future)
