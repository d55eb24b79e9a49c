"""A service that says to others, and to the supervisor, what no service should."""

import os
from typing import Any

import msgspec

from garrison.ipc import messages
from garrison.workers import Plugin, Service


class RogueService(Service):
    """Misbehaves when it is told to."""

    service_type = "rogue"

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def twice(self, caller: bytes, call_id: int, value: Any) -> Any:
        """Answer the call under way, and then once more with something else by returning."""
        result = msgspec.Raw(msgspec.msgpack.encode(value))
        self.runtime.session.send_data(caller, messages.Reply(call_id, result))
        return "the second answer"

    async def is_a_program(self) -> None:
        """Say that this worker is a program, and that it leaves."""
        self.runtime.session.send(messages.Join(messages.WIRE, os.getpid()))
        self.runtime.session.send(messages.Leave())

    async def again(self) -> None:
        """Say once more what was said at the start."""
        self.runtime.session.send(messages.Hello(messages.WIRE, "another", 99, 1))
        self.runtime.session.send(messages.Initialized())
        self.runtime.session.send(messages.Beat(2**62, 2**62, 2**62))

    async def break_at_length(self, size: int) -> None:
        """Say that this worker failed, with a text that nobody wants to keep."""
        await self.runtime.session.send_last(messages.Failing("run", "r" * size, "t" * size))
        os._exit(1)


plugin = Plugin(name="rogue", services=[RogueService])
