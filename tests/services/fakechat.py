"""A platform on the fake one of tests/support, and an agent that answers without a model.

In the environment: FAKE is the platform's socket, MODE has the words of what it is written with:
`lookup` and `catch_up`.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from garrison.workers import (
    Content,
    Heard,
    Memory,
    NotSent,
    Outgoing,
    Platform,
    Plugin,
    Processed,
    Runtime,
    Service,
    TargetInfo,
)
from garrison.workers.agents.answer_ids import answer_id


class Wire:
    """A connection to the fake platform."""

    def __init__(self, heard: Any) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self._heard = heard

    async def connect(self, path: str) -> None:
        """Connect, and log in."""
        self._reader, self._writer = await asyncio.open_unix_connection(path)
        self._writer.write(b'{"n": 0, "do": "login"}\n')

    async def read(self) -> None:
        """Read until the connection ends."""
        while line := await self._reader.readline():
            answer = json.loads(line)
            if "heard" in answer:
                self._heard(answer["heard"])
            elif future := self._open.pop(answer["n"], None):
                if future.done():
                    continue
                if "error" in answer:
                    refused = NotSent if answer["error"] == "refused" else RuntimeError
                    future.set_exception(refused(answer["text"]))
                else:
                    future.set_result(answer["value"])
        for future in self._open.values():
            future.set_exception(ConnectionError("the connection ended"))

    async def do(self, do: str, **what: Any) -> Any:
        """Make one request."""
        number = next(self._numbers)
        self._open[number] = future = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps({"n": number, "do": do, **what}).encode() + b"\n")
        return await future


class Fakechat(Platform):
    """Speaks with the fake platform."""

    service_type = "fakechat"
    credential = "TOKEN"
    settle = 0.3
    deliver_timeout = 2.0
    max_length = 1000

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.wire = Wire(service.heard)
        await service.wire.connect(runtime.get_setting("FAKE"))
        service.spawn(service.read(), essential=True)
        return service

    async def read(self) -> None:
        """Read until the connection ends, which ends the service."""
        await self.wire.read()
        raise ConnectionError("the platform ended the connection")

    def heard(self, said: dict[str, Any]) -> None:
        """Receive what is said."""
        self.spawn(self.receive(*arguments(said)), essential=False)

    async def deliver(self, m: Outgoing) -> str:
        """Send one message."""
        reply = {"reply_to": m.reply_to} if m.reply_to else {}
        sent = await self.wire.do("send", channel=m.channel, text=m.text, nonce=m.nonce, **reply)
        return str(sent["id"])


class WithLookup(Fakechat):
    """One that can be asked."""

    async def was_delivered(self, m: Outgoing) -> str | None:
        """Look for the nonce."""
        found: str | None = await self.wire.do("lookup", channel=m.channel, nonce=m.nonce)
        return found


class WithCatchUp(Fakechat):
    """One with a history."""

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        """Yield what each channel has after its position."""
        for channel in await self.wire.do("channels"):
            after = int(since.get(channel, "0"))
            while page := await self.wire.do("history", channel=channel, after=after):
                for said in page:
                    yield Heard(*arguments(said))
                after = page[-1]["position"]

    async def typing(self, channel: str) -> None:
        """Show it."""
        await self.wire.do("typing", channel=channel)


class Complete(WithLookup, WithCatchUp):
    """One with both."""


def arguments(said: dict[str, Any]) -> tuple[Memory, str, str]:
    """Return the arguments of `receive`."""
    memory = Memory(
        id=said["id"],
        room_id=said["channel"],
        entity_id=said["author"],
        content=Content(said["text"]),
        metadata={"bot": said["bot"]},
    )
    return memory, said["channel"], str(said["position"])


class AnswererService(Service):
    """Answers each message with one, and keeps nothing."""

    service_type = "agent"
    mail_window = 8

    async def process_actions(self, memory: Memory) -> Processed:
        """Answer."""
        source, word = memory.content.source, memory.content.text.partition(" ")[0]
        posted = self.runtime.message
        await self.runtime.send_message_to_target(
            TargetInfo(source, memory.room_id),
            Content(f"[{word}.1/1]", in_reply_to=memory.id),
            id=answer_id(source, memory.room_id, memory.id, "", 0),
            expect=posted is not None and posted.attempt > 1,
        )
        return Processed()


complete = Plugin(name="fakechat", services=[Complete])
no_lookup = Plugin(name="fakechat", services=[WithCatchUp])
answerer = Plugin(name="answerer", services=[AnswererService])
