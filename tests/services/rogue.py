"""A service that sends messages which no correct worker sends."""

import os
from typing import Any

import msgspec

from garrison.ipc import messages
from garrison.workers import Plugin, Service


class RogueService(Service):
    """Misbehaves on request."""

    service_type = "rogue"

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def twice(self, caller: bytes, call_id: int, value: Any) -> Any:
        """Reply to the running call, and a second time by returning another value."""
        result = msgspec.Raw(msgspec.msgpack.encode(value))
        self.runtime.client.session.send_data(caller, messages.Reply(call_id, result))
        return "the second answer"

    async def is_a_program(self) -> None:
        """Send the messages of a program that joins and leaves."""
        session = self.runtime.client.session
        session.send(messages.Join(messages.WIRE, os.getpid()))
        session.send(messages.Leave())

    async def again(self) -> None:
        """Repeat the messages of a start, with other values."""
        session = self.runtime.client.session
        session.send(messages.Hello(messages.WIRE, "another", 99, 1))
        session.send(messages.Initialized())
        session.send(messages.Beat(2**62, 2**62, 2**62))

    async def break_at_length(self, size: int) -> None:
        """Report a failure with a text of this size, and exit."""
        await self.runtime.client.session.send_last(messages.Failing("run", "r" * size, "t" * size))
        os._exit(1)


plugin = Plugin(name="rogue", services=[RogueService])
