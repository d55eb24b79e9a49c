"""The service's methods about persons, for `garrison person`."""

import importlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from garrison.workers import idempotent

from .methods import Methods
from .scope import refuse_other_agents

log = logging.getLogger(__name__)


class ErasureMethods(Methods):
    """What all agents keep of a person."""

    @idempotent
    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Delete what all agents keep of a person; return how many rows of each table.

        Args:
            source: NAME of the platform's service.
            person: The id there.

        Raises:
            ForeignAgent: The caller belongs to one agent.
        """
        refuse_other_agents(self.runtime.caller)
        erasure = importlib.import_module(".erasure", __package__)
        counts: dict[str, int] = await self._stores.erasure.forget(erasure.Whose(source, person))
        await self._stores.erasure.sweep()
        return counts

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what all agents keep of a person; `store` is the table. Raises likewise."""
        refuse_other_agents(self.runtime.caller)
        erasure = importlib.import_module(".erasure", __package__)
        async for row in self._stores.erasure.export(erasure.Whose(source, person)):
            yield row

    async def _apply_tombstones(self) -> None:
        """Delete again whom a restored database brought back."""
        counts = await self._stores.erasure.apply(self.runtime.tombstones)
        if any(counts.values()):
            log.warning("person.forgotten_again %s", counts)
            await self._stores.erasure.sweep()
