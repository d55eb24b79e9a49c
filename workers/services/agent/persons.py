"""The agent's methods about persons, for `garrison person`."""

from collections.abc import AsyncIterator
from typing import Any

from garrison.workers import Service

from .erasure import AgentErasure, Finishing, RecordErasure
from .limits.gatekeeper import Gatekeeper
from .memory.erasure import MemoryErasure
from .memory.store import MemoryStore
from .record.store import AnswerStore


class PersonMethods(Service):
    """What the agent keeps of a person."""

    _gatekeeper: Gatekeeper
    _erasure: AgentErasure

    def _open_erasure(
        self, answers: AnswerStore, memories: MemoryStore, finishing: Finishing
    ) -> None:
        self._erasure = AgentErasure(
            RecordErasure(self.runtime, answers, finishing), MemoryErasure(self.runtime, memories)
        )

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Erase what is recorded and remembered of a person; return how much, by kind.

        Args:
            source: NAME of the platform's service.
            person: The id there.

        Raises:
            Busy: A message of theirs is still being answered.
        """
        self._gatekeeper.forget(source, person)
        return await self._erasure.forget(source, person)

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield what is recorded and remembered of a person; `store` is the kind."""
        async for row in self._erasure.export(source, person):
            yield row
