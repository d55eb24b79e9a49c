"""The agent's methods for operators: what it has answered, and which models it calls."""

from typing import Any

from garrison.workers import Service, idempotent

from .record.explain import Explained
from .record.finding import find_answers
from .record.store import AnswerStore


class OperatorMethods(Service):
    """What operators read of an agent."""

    _answers: AnswerStore

    @idempotent
    async def answers(self, wanted: str = "", limit: int = 20) -> dict[str, Any]:
        """Return recorded answers, the newest first; for operators: `garrison answer`.

        Args:
            wanted: The id of a message or of a response, in the host or on its platform: all of
                that answer. NAME/ROOM: that room's answers, and all of the last one. "": the
                latest answers of all rooms.
            limit: How many lines, at most 200.
        """
        found = await self._answers.execute(lambda at: find_answers(at, wanted, limit))
        shown = Explained(self.runtime.redacted)
        return {
            "answers": [shown.line(record) for record in found.lines],
            "details": [shown.detail(record) for record in found.details],
        }

    @idempotent
    async def models(self) -> list[dict[str, Any]]:
        """Return the providers of each model type as this agent sees them, in config order.

        Returns:
            `model_type`, `service`, `priority` (the highest is called first), `stream`, `tools`
            (it takes them), `running`, and of its failures in a row `failures`, `error` (the last
            one) and `passed_over_s`: for how long it is passed over, or null.
        """
        redacted = self.runtime.redacted
        rows = self.runtime.model_offers()
        return [row | {"error": redacted(row["error"])} for row in rows]
