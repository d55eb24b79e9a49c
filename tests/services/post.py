"""Receivers of posted messages that leave a line for each in a file, and a service that posts."""

import asyncio
import os
from pathlib import Path
from typing import Any

from garrison.workers import DeadLetter, Plugin, Service


class Receiver(Service):
    """Writes down what it was given: its NAME's file outlives its incarnations."""

    service_type = "receiver"

    def _note(self, number: int) -> None:
        message = self.runtime.message
        mark = f"{number} {message.id} {message.attempt}\n" if message else f"{number} - -\n"
        path = Path(os.environ["NOTES"]) / self.runtime.name
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, mark.encode())
        os.close(file)

    async def take(self, number: int) -> int:
        """Note a number."""
        self._note(number)
        return number

    async def measure(self, number: int, text: str) -> int:
        """Note a number; return how long a text is."""
        self._note(number)
        return len(text)

    async def refuse(self, number: int) -> None:
        """Note it, and refuse it."""
        self._note(number)
        raise ValueError("not this one")

    async def accept_at(self, number: int, attempt: int) -> str:
        """Refuse it until an attempt."""
        self._note(number)
        message = self.runtime.message
        assert message is not None
        if message.attempt < attempt:
            raise ValueError("not yet")
        return "at last"

    async def die(self, number: int) -> None:
        """Note it, and end the process."""
        self._note(number)
        os.kill(os.getpid(), 9)

    async def slow(self, number: int, seconds: float) -> None:
        """Take a while, and then note it."""
        await asyncio.sleep(seconds)
        self._note(number)


class Listener(Receiver):
    """Hears events."""

    service_type = "listener"

    @classmethod
    async def start(cls, runtime: Any) -> Any:
        service = cls(runtime)
        runtime.register_event("rung", service._hear)
        return service

    async def _hear(self, number: int) -> None:
        self._note(number)


class Wide(Receiver):
    """Takes several at the same time."""

    service_type = "wide"
    mail_window = 4


class Poster(Service):
    """Posts."""

    service_type = "poster"

    async def post(self, receiver: str, method: str, args: list[Any], **options: Any) -> str:
        """Post one message; return its id."""
        return await self.runtime.post(receiver, method, *args, **options)

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Note what could not be delivered."""
        assert reason
        with (Path(os.environ["NOTES"]) / self.runtime.name).open("a") as file:
            file.write(f"{mail.id} {mail.args} {mail.lane}\n")

    async def many(self, receiver: str, start: int, count: int) -> list[int]:
        """Post numbers one after the other, each until it was acknowledged; return those."""
        for number in range(start, start + count):
            key = f"{receiver}-{number}"
            while True:
                try:
                    await self.runtime.post(receiver, "take", number, key=key)
                    break
                except Exception:  # noqa: BLE001 (the mailbox may be gone for a moment)
                    await asyncio.sleep(0.01)
        return list(range(start, start + count))


plugin = Plugin(name="post", services=[Receiver, Listener, Wide, Poster])
