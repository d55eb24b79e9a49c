"""Send the parts of an answer: each is recorded before, sent once, and remembered."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from garrison.workers import (
    ActionResult,
    Content,
    EventType,
    Memory,
    Processed,
    RetryLater,
    Runtime,
    State,
    answer_id,
)

from .config import Config
from .delivery import Delivered, send, sender_of
from .history import ConversationHistory
from .limits.age import Age
from .record.resume import PartMove, part_move, recorded_parts
from .record.rows import MessageState, Outcome, Part, PlannedStep, Record
from .recording import Recording

log = logging.getLogger(__name__)

MAX_RESPONSES = 100  # to one message
PUT_OFF = "put off: it was surely not sent"  # problem of a part without an outcome
REMEMBERED = (Outcome.SENT, Outcome.NO_SENDER, Outcome.UNCERTAIN)

Emit = Callable[[str, Any], None]


class AnswerState(msgspec.Struct):
    """One message and its answer so far."""

    memory: Memory
    responses: list[Memory]  # given by the caller
    recording: Recording
    age: Age
    state: State | None = None
    bytes: int = 0  # of responses and results
    deadline: asyncio.Timeout | None = None  # of deciding and acting; sending does not count
    yielded: dict[int, int] = msgspec.field(
        default_factory=dict
    )  # by step, how many outputs it had
    reply_error: Exception | None = None  # of a model

    @property
    def record(self) -> Record:
        """Return what is recorded."""
        return self.recording.record

    @property
    def sent(self) -> list[Memory]:
        """Return the responses so far."""
        return [part.memory for part in self.record.parts]

    @property
    def processed(self) -> Processed:
        """Return the answer so far, as the caller gets it."""
        return self.recording.answer

    @property
    def event_data(self) -> dict[str, Any]:
        """Return the fields that identify the message in events."""
        return {"message": self.memory.id, "room": self.memory.room_id}

    def note_decided(self) -> None:
        """Note that the answer is not decided again; see `decide`."""
        decide(self.record, time.time())

    def add_failure(self, step: PlannedStep, action: str, problem: str) -> ActionResult:
        """Log a failure and add its result."""
        log.warning("answer.part_failed message=%s part=%s %s", self.memory.id, action, problem)
        result = ActionResult(success=False, error=problem, action=action)
        step.results = [*step.results, result]
        return result


class ResponseSender:
    """Sends the parts of answers.

    Args:
        runtime: The agent's.
        config: For the timeout.
        history: Where responses are remembered.
        emit: Emits an event without waiting for its listeners.
    """

    def __init__(
        self, runtime: Runtime, config: Config, history: ConversationHistory, emit: Emit
    ) -> None:
        self._runtime, self._config, self._history = runtime, config, history
        self._emit = emit

    def has_sender(self, answer: AnswerState) -> bool:
        """Return True if a service sends to the message's room."""
        memory = answer.memory
        return sender_of(self._runtime, memory.content.source, memory.room_id).exists

    async def send(self, answer: AnswerState, step: int, content: Content) -> None:
        """Record a part and send it. What a repeated step yields again is not sent again.

        Args:
            answer: The message's.
            step: The number of the step that it comes from.
            content: What to send.

        Raises:
            RuntimeError: Too many responses were sent already.
            RetryLater: It is to be sent later.
        """
        parts = answer.record.parts
        count = answer.yielded.get(step, 0)
        answer.yielded[step] = count + 1
        if count < len(recorded_parts(parts, step)):
            return
        if len(parts) >= MAX_RESPONSES:
            raise RuntimeError(f"more than {MAX_RESPONSES} responses to one message")
        now = time.time()
        part = Part(len(parts), step, self._response(answer, content), recorded_at=now)
        if not (content.text or content.attachments):
            part.outcome = Outcome.EMPTY
        parts.append(part)
        if part.outcome is None:
            decide(answer.record, now)
            await answer.recording.write()
            await self._send(answer, part, answer.recording.perhaps_sent)

    async def settle(self, answer: AnswerState) -> None:
        """Bring every recorded part to an outcome, in order, after the answer was interrupted.

        Raises:
            RetryLater: One is to be sent later.
        """
        for part in answer.record.parts:
            if part.outcome is not None:
                await self._remember(answer, part)
                continue
            content = part.memory.content
            sender = sender_of(self._runtime, content.source, part.memory.room_id)
            is_new = part.problem == PUT_OFF
            if is_new:  # from now on it may be sent
                part.problem = ""
                await answer.recording.write()
            match part_move(part, is_new=is_new, repeats=sender.repeats or not sender.exists):
                case PartMove.NOTE_UNCERTAIN:
                    text = "the agent ended while it was sent; it is not sent again"
                    await self._note(answer, part, Delivered(Outcome.UNCERTAIN, problem=text))
                case _:
                    await self._send(answer, part, expect=True)

    async def _send(self, answer: AnswerState, part: Part, expect: bool) -> None:
        with paused(answer.deadline):
            try:
                sent = await send(
                    self._runtime,
                    part.memory,
                    self._config.answer_timeout,
                    expect=expect,
                    posted=answer.record.posted,
                )
            except RetryLater:
                memory = part.memory
                sender = sender_of(self._runtime, memory.content.source, memory.room_id)
                if not sender.repeats:  # then it was not sent, and the next attempt may send it
                    part.problem = PUT_OFF
                    await answer.recording.write()
                raise
            await self._note(answer, part, sent)

    async def _note(self, answer: AnswerState, part: Part, sent: Delivered) -> None:
        part.outcome, part.ids, part.problem = sent.outcome, sent.ids, sent.problem[:2000]
        part.ended_at = time.time()
        answer.recording.write_soon()
        if sent.problem:
            log.warning(
                "answer.not_confirmed message=%s part=%d outcome=%s %s",
                answer.memory.id,
                part.number,
                sent.outcome,
                sent.problem,
            )
        await self._remember(answer, part)
        if part.outcome in REMEMBERED:
            self._emit(EventType.MESSAGE_SENT, part.memory)

    async def _remember(self, answer: AnswerState, part: Part) -> None:
        is_dropped = answer.record.why.end is MessageState.DROPPED  # its message is not remembered
        if part.outcome in REMEMBERED and not is_dropped:
            await self._history.remember(part.memory)

    def _response(self, answer: AnswerState, content: Content) -> Memory:
        """Return a response as a message. A repeated answer gets the same id."""
        message, record = answer.memory, answer.record
        source = message.content.source
        number = len(record.parts)
        return Memory(
            id=answer_id(source, message.room_id, message.id, record.key.given, number),
            content=msgspec.structs.replace(
                content,
                source=source,
                in_reply_to=message.id,
                channel_type=content.channel_type or message.content.channel_type,
            ),
            entity_id=self._runtime.agent_id,
            agent_id=self._runtime.agent_id,
            created_at=max(time.time(), message.created_at),
            room_id=message.room_id,
            world_id=message.world_id,
        )


def decide(record: Record, now: float) -> None:
    """Note that the first effect of the answer follows: it is not decided again."""
    if record.state is MessageState.DECIDING:
        record.state, record.decided_at = MessageState.DECIDED, now


@contextmanager
def paused(deadline: asyncio.Timeout | None) -> Iterator[None]:
    """Stop a deadline's clock during the block."""
    loop = asyncio.get_running_loop()
    due = None if deadline is None or deadline.expired() else deadline.when()
    began = loop.time()
    if deadline is not None and due is not None:
        deadline.reschedule(None)
    try:
        yield
    finally:
        if deadline is not None and due is not None:
            deadline.reschedule(due + loop.time() - began)
