"""A platform that records what its listeners receive, by incarnation."""

import os
import signal
from pathlib import Path
from typing import Any

import msgspec

from garrison.workers import Content, EventType, Memory, Plugin, Service, idempotent


class RadioService(Service):
    """Passes a test's messages to the agent, and sends the replies."""

    service_type = "radio"

    class Config(msgspec.Struct):
        """Where the listeners write."""

        file: str

    async def hear(
        self, text: str, id: str, room: str = "r", actions: list[str] | None = None
    ) -> dict[str, Any]:
        """Have the agent process a message; return the replies and the failures."""
        memory = Memory(content=Content(text), id=id, room_id=room, entity_id="ada")
        responses = [Content(actions=actions)] if actions else []
        done = await self.runtime.process_actions(memory, responses)
        return {
            "sent": [one.content.text for one in done.responses],
            "failed": [one.action for one in done.results if not one.success],
        }

    async def tell(self, text: str, id: str, room: str = "r") -> None:
        """Emit a received message without its source."""
        memory = Memory(content=Content(text), id=id, room_id=room, entity_id="ada")
        await self.runtime.emit_event(EventType.MESSAGE_RECEIVED, memory)

    @idempotent
    async def ask(self, text: str, id: str, room: str = "r") -> dict[str, Any]:
        """Do the same; a lost call is repeated."""
        return await self.hear(text, id, room)

    def send_message(self, channel_id: str, text: str) -> None:
        """Say something in a room; `die` is the last word."""
        with Path(self.config.file).open("a") as out:
            out.write(f"{channel_id}: {text}\n")
        if "die" in text:
            os.kill(os.getpid(), signal.SIGKILL)


plugin = Plugin("radio", services=[RadioService])
