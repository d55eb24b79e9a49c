"""Who is answered: applies limits, ages and gates to messages, counts them, and reports.

A message is looked at twice: when it arrives, before it takes a place in its room's queue, and when
its turn comes.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from garrison.workers import EventType, Memory, Runtime

from ..commands import is_command
from ..config import Config
from ..record.rows import MessageState, Record
from .admission import Admission, Cause, Drop, Sent
from .age import Age, age_of
from .gates import Verdict, call_gates
from .no_answer import NoAnswer

log = logging.getLogger(__name__)

GATE = "gate "  # with the plugin's NAME: how a refused message ended
EXPIRED = "answer_within"
CAUSES = frozenset(cause.value for cause in Cause)
PROBLEMS = {
    Cause.BLOCKED: "its sender or its room is in block",
    Cause.PERSON: "its sender sends more than per_person",
    Cause.ROOM: "its room has more than per_room",
}

# What becomes of messages, for `garrison status` and metrics
COUNTED = ("answers", "unanswered", "dropped", "refused", "expired", "ungated")


class Gatekeeper:
    """Decides which messages are answered.

    Args:
        runtime: The agent's.
        config: The limits.
        emit: Emits an event without waiting for its listeners.
        failure_text: Returns the text to send where a message cannot be answered.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        emit: Callable[[str, Any], None],
        failure_text: Callable[[Memory], str],
    ) -> None:
        self._runtime, self._config, self._emit = runtime, config, emit
        self._failure_text = failure_text
        self._admission = Admission(config.rules)
        self._failed_gates: set[str] = set()
        self._has_expired = False
        self.counts = dict.fromkeys(COUNTED, 0)
        self._shown: dict[str, float] = {}  # of other parts of the agent

    @property
    def horizon(self) -> float:
        """Return the age in seconds of the oldest message that still counts."""
        return self._admission.horizon

    def restore(self, records: Iterable[Record]) -> None:
        """Count the messages that an earlier process admitted or dropped, the oldest first."""
        self._admission.restore(
            (_sent(one.memory), self.age(one.memory).sent_at, one.why.how not in CAUSES)
            for one in records
            if self.decides(one.memory, bool(one.key.given))
            and one.state is not MessageState.EXPIRED
        )

    def decides(self, memory: Memory, has_responses: bool) -> bool:
        """Return whether the agent decides about a message, or it is a command; only such messages
        are limited."""
        is_given = has_responses and not is_command(memory, has_responses)
        return not is_given and memory.entity_id != self._runtime.agent_id

    # --- when a message arrives -------------------------------------------------------------

    def age(self, memory: Memory) -> Age:
        """Return the age of a message that has arrived now."""
        return age_of(memory.created_at, time.time(), time.monotonic())

    def drop(self, memory: Memory, age: Age) -> NoAnswer | None:
        """Count a message; return why it is dropped, or None."""
        if self._is_expired(age):
            return None  # it takes nothing of a rate; it ends at its turn
        drop = self._admission.admit(_sent(memory), age.sent_at)
        if drop is None:
            return None
        self._report_drop(memory, drop)
        text = self._config.excess_text if drop.notify else ""
        cause = drop.cause
        return NoAnswer(MessageState.DROPPED, cause.value, text, PROBLEMS[cause])

    def _report_drop(self, memory: Memory, drop: Drop) -> None:
        self._count("dropped")
        if drop.notify:  # not for each message of a flood
            log.warning(
                "message.dropped cause=%s message=%s room=%s person=%s",
                drop.cause.value,
                memory.id,
                memory.room_id,
                memory.entity_id,
            )
        self._emit(EventType.MESSAGE_DROPPED, {**_data(memory), "cause": drop.cause.value})

    def forget(self, source: str, person: str) -> None:
        """Forget what a person has used of their rate."""
        self._admission.forget(source, person)

    # --- when its turn comes ----------------------------------------------------------------

    async def refusal(self, memory: Memory, age: Age) -> NoAnswer | None:
        """Return why a message gets no answer: it is too old, or a gate refuses it; or None."""
        if self._is_expired(age):
            return self._expire(memory, age)
        if self._has_expired:
            self._has_expired = False
            self._runtime.warn(EXPIRED, None)
        config = self._config
        verdict = await call_gates(self._runtime, memory, config.gate_timeout, config.gate_failure)
        self._report_gates(memory, verdict)
        if not verdict.refused_by:
            return None
        text = self._failure_text(memory) if verdict.text is None else verdict.text
        how = GATE + verdict.refused_by
        return NoAnswer(MessageState.DROPPED, how, text, verdict.reason or "refused")

    def _is_expired(self, age: Age) -> bool:
        return age.is_over(self._config.answer_within, time.monotonic())

    def _expire(self, memory: Memory, age: Age) -> NoAnswer:
        seconds, limit = age.at(time.monotonic()), self._config.answer_within
        self._count("expired")
        self._has_expired = True
        self._runtime.warn(
            EXPIRED,
            f"the last message was {seconds:.0f} s old when its turn came, and was not answered "
            f"(answer_within = {limit:g}); if it was not that old, the machine's clock is wrong",
        )
        self._emit(EventType.MESSAGE_EXPIRED, {**_data(memory), "age_s": round(seconds, 1)})
        problem = f"it was {seconds:.0f} s old when its turn came; the limit is {limit:g} s"
        return NoAnswer(MessageState.EXPIRED, EXPIRED, problem=problem)

    def _report_gates(self, memory: Memory, verdict: Verdict) -> None:
        for plugin in self._failed_gates - verdict.problems.keys():
            self._runtime.warn(f"{GATE}{plugin}", None)
        for plugin, problem in verdict.problems.items():
            log.warning("gate.failed plugin=%s message=%s error=%s", plugin, memory.id, problem)
            self._runtime.warn(f"{GATE}{plugin}", f"the gate of {plugin} fails: {problem}")
        self._failed_gates = set(verdict.problems)
        if verdict.refused_by:
            self._count("refused")
            data = {"cause": "gate", "plugin": verdict.refused_by, "reason": verdict.reason}
            self._emit(EventType.MESSAGE_DROPPED, {**_data(memory), **data})
        elif verdict.problems:
            self._count("ungated")

    def show(self, **facts: float) -> None:
        """Show numbers of another part of the agent in `garrison status`, beside the counts."""
        self._shown.update(facts)
        self._runtime.report(**self.counts, **self._shown)

    def note_end(self, failed: bool) -> None:
        """Count a message that was answered, or could not be."""
        self._count("unanswered" if failed else "answers")

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        self._runtime.report(**self.counts, **self._shown)


def _sent(memory: Memory) -> Sent:
    return Sent(memory.content.source, memory.room_id, memory.entity_id, memory.id)


def _data(memory: Memory) -> dict[str, Any]:
    """Return the fields that identify a message in events."""
    source, person = memory.content.source, memory.entity_id
    return {"message": memory.id, "room": memory.room_id, "source": source, "person": person}
