"""Run evaluators after an answer was returned, concurrently."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from garrison.workers import EventType, Runtime, State

from .response_sender import AnswerState

log = logging.getLogger(__name__)


class EvaluatorRun:
    """Runs the evaluators of all plugins. A failure is logged and affects nothing else.

    Args:
        runtime: The agent's.
        limit: Seconds for all of them together.
        emit: Emits an event without waiting for its listeners.
    """

    def __init__(self, runtime: Runtime, limit: float, emit: Callable[[str, Any], None]) -> None:
        self._runtime, self._limit, self._emit = runtime, limit, emit

    async def evaluate(self, answer: AnswerState, is_answered: bool) -> None:
        """Run the evaluators of a message and its answer."""
        has_answer = is_answered and bool(answer.sent)
        evaluators = [one for one in self._runtime.evaluators if has_answer or one.always_run]
        if not evaluators:
            return
        limit = self._limit
        try:
            async with asyncio.timeout(limit):
                await asyncio.gather(*(self._run(answer, evaluator) for evaluator in evaluators))
        except TimeoutError:
            log.warning("evaluators.late message=%s limit_s=%g", answer.memory.id, limit)

    async def _run(self, answer: AnswerState, evaluator: Any) -> None:
        state, limit = answer.state or State(), self._limit
        data = {"evaluator": evaluator.name, **answer.event_data}
        error = ""
        try:
            args = (self._runtime, answer.memory, state)
            if not await evaluator.validate(*args, timeout=limit):
                return
            self._emit(EventType.EVALUATOR_STARTED, data)
            await evaluator.handler(*args, answer.sent, timeout=limit)
        except Exception as failure:  # noqa: BLE001 (an evaluator must not crash the agent)
            error = str(failure) or type(failure).__name__
            log.warning("evaluator.failed evaluator=%s error=%s", evaluator.name, error)
        self._emit(EventType.EVALUATOR_COMPLETED, {**data, "error": error})
