"""Evaluators: they look at a message and its answer when the caller has it, all side by side."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from garrison.workers import EventType, Runtime, State

from .answer import AnswerState

log = logging.getLogger(__name__)


class EvaluatorRun:
    """Has evaluators look at answers. What they do is their plugin's affair, and bounded in time.

    Args:
        runtime: The agent's.
        limit: Seconds for all of them together.
        announce: Tells an event, without waiting for those who listen.
    """

    def __init__(
        self, runtime: Runtime, limit: float, announce: Callable[[str, Any], None]
    ) -> None:
        self._runtime, self._limit, self._announce = runtime, limit, announce

    async def evaluate(self, answer: AnswerState, is_answered: bool) -> None:
        """Have the evaluators look at a message and its answer, all side by side."""
        is_said = is_answered and bool(answer.said)
        judges = [one for one in self._runtime.evaluators if is_said or one.always_run]
        if not judges:
            return
        limit = self._limit
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(*(self._judge(answer, one) for one in judges))
        except TimeoutError:
            log.warning("evaluators.late message=%s limit_s=%g", answer.memory.id, limit)

    async def _judge(self, answer: AnswerState, evaluator: Any) -> None:
        state, limit = answer.state or State(), self._limit
        about = {"evaluator": evaluator.name, **answer.about}
        error = ""
        try:
            heard = (self._runtime, answer.memory, state)
            if not await evaluator.validate(*heard, timeout=limit):
                return
            self._announce(EventType.EVALUATOR_STARTED, about)
            await evaluator.handler(*heard, answer.said, timeout=limit)
        except Exception as failure:  # noqa: BLE001 (it is that evaluator's, and nobody else's end)
            error = str(failure) or type(failure).__name__
            log.warning("evaluator.failed evaluator=%s error=%s", evaluator.name, error)
        self._announce(EventType.EVALUATOR_COMPLETED, {**about, "error": error})
