"""A service whose health is read from a file, and one whose `health` is an ordinary method."""

import asyncio
import time
from pathlib import Path

import msgspec

from garrison.workers import Plugin, Service


class AilingService(Service):
    """Its health is the word in a file: nothing, False, raise, late, deaf, block."""

    service_type = "ailing"

    class Config(msgspec.Struct):
        """The table `[services.ailing.config]`."""

        says: str

    config: Config

    async def health(self) -> bool | None:
        """Record the check, and return what the file selects."""
        folder = Path(self.config.says)
        with (folder / "checks").open("a") as record:
            record.write(f"{self.runtime.generation} begins\n")
            record.flush()
            try:
                return await self._answer(self._told())
            finally:
                record.write(f"{self.runtime.generation} ends\n")

    def _told(self) -> str:
        """Return the word in the file; "… in 1" applies to the first incarnation only."""
        text, _, only = (Path(self.config.says) / "says").read_text().partition(" in ")
        return "True" if only and int(only) != self.runtime.generation else text

    async def _answer(self, says: str) -> bool | None:
        match says:
            case "False":
                return False
            case "None":
                return None
            case "raise":
                raise ConnectionError("the gateway is gone")
            case "late":
                await asyncio.Event().wait()
            case "deaf":
                while True:
                    try:
                        await asyncio.Event().wait()
                    except asyncio.CancelledError:
                        if self._told() != "deaf":
                            raise
            case "block":
                time.sleep(600)  # noqa: ASYNC251 (that is the fault)
        return True

    async def slow(self, seconds: float) -> str:
        """Take so long."""
        await asyncio.sleep(seconds)
        return "done"


class ClinicService(Service):
    """Has a method of that name, for others."""

    service_type = "clinic"

    async def health(self, patient: str) -> str:
        """Return how a patient is."""
        return f"{patient} is well"


plugin = Plugin(name="ailing", services=[AilingService, ClinicService])
