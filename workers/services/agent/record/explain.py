"""What an operator is shown of recorded answers, bounded. Pure. Sizes are characters.

Field names are part of `garrison answer --json`. Times are seconds since the epoch.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from garrison.workers import ActionResult, Memory

from ..prompt import message_text, name_of
from .rows import ModelUse, Part, PlannedStep, Record, Why, call_of

MOST_LINE = 300  # of a message, and of its answer, in a list
MOST_TEXT = 16 * 1024  # of each text of one answer
MOST_PROMPT = 64 * 1024
MOST_VALUE = 4 * 1024  # of a result's values, as JSON
MOST_ITEMS = 100  # attachments of one part, models, errors of one use, actions

Redact = Callable[[str], str]


class Explained(msgspec.Struct, frozen=True):
    """Makes texts fit to be shown: without secrets, and cut."""

    redact: Redact

    def text(self, text: str, most: int = MOST_TEXT) -> str:
        """Return a text without secrets, cut if it is long."""
        shown = self.redact(text)  # before the cut, which could leave a part of a secret
        return shown if len(shown) <= most else f"{shown[:most]}… ({len(shown):,} characters)"

    def line(self, record: Record) -> dict[str, Any]:
        """Return what a list shows of an answer."""
        answer = " ".join(
            text for part in record.parts if (text := message_text(part.memory.content))
        )
        return self._head(record) | {
            "text": self.text(message_text(record.memory.content), MOST_LINE),
            "answer": self.text(answer, MOST_LINE),
            "problem": self.text(record.why.problem, MOST_LINE),
        }

    def detail(self, record: Record) -> dict[str, Any]:
        """Return everything that is recorded of an answer."""
        return self._head(record) | {
            "text": self.text(message_text(record.memory.content)),
            "given": bool(record.key.given),
            "posted": record.posted,
            "decided_at": record.decided_at,
            "why": self._why(record.why),
            "steps": [self._step(record, step) for step in record.steps],
            "parts": [self._part(part) for part in record.parts],
        }

    def _head(self, record: Record) -> dict[str, Any]:
        source, room, message_id, _ = record.key
        return {
            "id": message_id,
            "source": source,
            "room": room,
            "state": record.state.value,
            "heard_at": record.heard_at,
            "done_at": record.done_at,
            "sender": record.memory.entity_id,
            "name": self.text(name_of(record.memory), MOST_LINE),
        }

    def _why(self, why: Why) -> dict[str, Any]:
        return {
            "how": why.how,
            "considered": dict(list(why.considered.items())[:MOST_ITEMS]),
            "providers": why.providers[:MOST_ITEMS],
            "context": self.text(why.context),
            "models": [self._model(use) for use in why.models[:MOST_ITEMS]],
            "problem": self.text(why.problem),
            "prompt": self.text(why.prompt, MOST_PROMPT),
            "trace": why.trace,
        }

    def _model(self, use: ModelUse) -> dict[str, Any]:
        errors = list(use.errors.items())[:MOST_ITEMS]
        return {
            "model_type": use.model_type,
            "service": use.service,
            "errors": {name: self.text(error) for name, error in errors},
            "seconds": use.seconds,
            "tokens": use.tokens,
        }

    def _step(self, record: Record, step: PlannedStep) -> dict[str, Any]:
        call = call_of(record, step.number)
        return {
            "number": step.number,
            "kind": step.kind.value,
            "name": step.name,
            "otherwise": step.otherwise,
            "state": step.state.value,
            "started_at": step.started_at,
            "ended_at": step.ended_at,
            "results": [self._result(result) for result in step.results[:MOST_ITEMS]],
            "arguments": None if call is None else self._value(call.arguments),
        }

    def _result(self, result: ActionResult) -> dict[str, Any]:
        return {
            "success": result.success,
            "text": self.text(result.text),
            "error": self.text(result.error),
            "values": self._value(result.values),
            "data": self._value(result.data),
        }

    def _value(self, value: dict[str, Any]) -> Any:
        """Return values as they are, or as a text that is cut or has had a secret."""
        try:
            text = msgspec.json.encode(value).decode()
        except (TypeError, ValueError, OverflowError, RecursionError):
            text = repr(value)
        shown = self.text(text, MOST_VALUE)
        return value if shown == text else shown

    def _part(self, part: Part) -> dict[str, Any]:
        return {
            "number": part.number,
            "step": part.step,
            "id": part.memory.id,
            "text": self.text(part.memory.content.text),
            "attachments": self._attachments(part.memory),
            "outcome": None if part.outcome is None else part.outcome.value,
            "ids": part.ids,
            "problem": self.text(part.problem),
            "recorded_at": part.recorded_at,
            "ended_at": part.ended_at,
        }

    def _attachments(self, memory: Memory) -> list[str]:
        found = memory.content.attachments[:MOST_ITEMS]
        return [self.text(one.url or one.title, MOST_LINE) for one in found]
