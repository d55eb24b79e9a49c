"""The agent service: answers messages once, in the order of each room, and remembers them.

An accepted message is answered even if its caller no longer waits.
"""

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from garrison.workers import (
    EventType,
    Memory,
    Plugin,
    Processed,
    Runtime,
    State,
    as_memory,
    idempotent,
)

from .answer import AnswerPipeline, AnswerState
from .config import Config as AgentConfig
from .database import MemoryDatabase
from .evaluators import EvaluatorRun
from .history import ConversationHistory
from .rooms import Room, Rooms
from .tasks import Cache

log = logging.getLogger(__name__)

STOP_S = 1.0  # for answers in progress when the service stops

# Source, room and id, because two platforms may use the same ids; and a hash of the responses,
# because a caller may pass responses for a message that was answered before.
Key = tuple[str, str, str, str]

_encode = msgspec.msgpack.Encoder().encode
_decode_processed = msgspec.msgpack.Decoder(Processed).decode


class Unanswered(Exception):
    """A message was not answered in time; parts of the answer may have been sent."""


class Greeting(msgspec.Struct, frozen=True):
    """The agent's name, and its text before the first message."""

    name: str
    text: str


class Work(msgspec.Struct):
    """A message in progress, and the future that its callers wait for."""

    key: Key
    answer: AnswerState
    result: "asyncio.Future[Processed]"


class AgentService(MemoryDatabase):
    """Answers messages with actions and models."""

    service_type = "agent"
    capability_description = "Answers messages with actions and models, and remembers them"

    Config = AgentConfig

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._open()
        runtime.register_event(EventType.MESSAGE_RECEIVED, service._on_message)
        return service

    def _open(self) -> None:
        config = self.config
        self._open_database()
        self._rooms: Rooms[Work] = Rooms(config.limits)
        self._in_progress: dict[Key, asyncio.Future[Processed]] = {}
        self._answered: Cache[Key] = Cache(config.answered, config.answered_bytes)
        self._answered_count = 0
        self._emitting = 0  # events that are being emitted
        self._dropping = False
        history = ConversationHistory(self.runtime, config, self)
        self._pipeline = AnswerPipeline(self.runtime, config, history, self._emit)
        self._evaluators = EvaluatorRun(self.runtime, config.evaluator_timeout, self._emit)

    # --- messages ---------------------------------------------------------------------------

    @idempotent
    async def process_actions(
        self, memory: Memory, responses: list[Memory] | None = None, state: State | None = None
    ) -> Processed:
        """Answer a message; return the responses and the results of actions.

        Args:
            memory: The message. A repeated message gets the first answer again.
            responses: What to say or run; without responses, the agent decides.
            state: The providers' state, if the caller has it already.

        Raises:
            Busy: Too many messages wait.
            Unanswered: The answer took too long.
            ModelUnavailable: No model is available.
        """
        memory = as_memory(memory)
        given = list(responses or ())
        responses_hash = _hash(given)
        key = (memory.content.source, memory.room_id, memory.id, responses_hash)
        encoded = self._answered.get(key)
        if encoded is not None:
            return _decode_processed(encoded)
        result = self._in_progress.get(key)
        if result is None:
            result = self._accept(key, AnswerState(memory, given, responses_hash, state))
        return await asyncio.shield(result)

    def _accept(self, key: Key, answer: AnswerState) -> "asyncio.Future[Processed]":
        source, room_id, message_id, _ = key
        room = Room(source, room_id or message_id)  # a message without a room waits for no other
        result: asyncio.Future[Processed] = asyncio.get_running_loop().create_future()
        work = Work(key, answer, result)
        size = len(_encode((answer.memory, answer.responses, answer.state)))
        is_first = self._rooms.add(room, work, size)
        self._in_progress[key] = result
        result.add_done_callback(_retrieve_exception)
        if is_first:
            self.spawn(self._serve(room, work), f"room {room.room_id[:40]}")
        return result

    async def _serve(self, room: Room, first: Work) -> None:
        """Answer a room's messages, one after the other, until none waits."""
        work: Work | None = first
        while work is not None:
            is_answered = await self._answer(work)
            await self._evaluators.evaluate(work.answer, is_answered)
            work = self._rooms.next(room)

    async def _answer(self, work: Work) -> bool:
        """Answer one message and resolve its future; False if that failed."""
        answer, limit, error = work.answer, self.config.answer_timeout, ""
        self._emit(EventType.RUN_STARTED, answer.event_data)
        try:
            async with asyncio.timeout(limit):
                await self._pipeline.answer(answer)
            processed = Processed(answer.sent, answer.results)
            encoded = _encode(processed)
        except TimeoutError:
            error = f"message {answer.memory.id} was not answered within {limit:g} s"
            work.result.set_exception(Unanswered(error))
        except asyncio.CancelledError:  # the service is stopping
            work.result.cancel()
            raise
        except Exception as failure:  # noqa: BLE001 (it affects this message's caller alone)
            error = str(failure) or type(failure).__name__
            work.result.set_exception(failure)
        else:
            self._remember_answered(work.key, encoded)
            work.result.set_result(processed)
        finally:
            del self._in_progress[work.key]
        if error:
            log.warning("message.unanswered message=%s error=%s", answer.memory.id, error)
        outcome = {"responses": len(answer.sent), "error": error}
        self._emit(EventType.RUN_ENDED, {**answer.event_data, **outcome})
        return not error

    def _remember_answered(self, key: Key, encoded: bytes) -> None:
        if not self._answered.put(key, encoded):  # too large: a repeated message gets no answer
            self._answered.put(key, _encode(Processed()))
        self._answered_count += 1

    async def _on_message(self, payload: Any) -> None:
        """Answer the message of an event."""
        source = ""
        if isinstance(payload, Mapping) and "message" in payload:
            source = str(payload.get("source") or "")
            payload = payload["message"]
        memory = as_memory(payload)
        if source and not memory.content.source:
            memory.content = msgspec.structs.replace(memory.content, source=source)
        if self._is_responsible_for(memory.content.source):
            await self.process_actions(memory)

    def _is_responsible_for(self, source: str) -> bool:
        """Return True if this agent answers messages of a source that every agent receives.

        Messages of an agent's own service are answered by that agent, all others by the first
        agent, as with `process_actions`.
        """
        directory, own = self.runtime.client.directory, self.runtime.agent
        platform = directory.get(source) or directory.find(source, own)
        if platform is not None and platform.agent:
            return platform.agent == own
        first = directory.first_of("agent")
        return first is None or first.name == self.runtime.name

    # --- events -----------------------------------------------------------------------------

    def _emit(self, event: str, payload: Any) -> None:
        """Emit an event in the background; drop it if too many are being emitted."""
        if self._emitting >= self.config.events:
            if not self._dropping:
                log.warning(
                    "event.dropped event=%s: %d are being emitted already", event, self._emitting
                )
            self._dropping = True
            return
        self._dropping = False
        self._emitting += 1
        self.spawn(self._emit_in_time(event, payload), f"event {event}")

    async def _emit_in_time(self, event: str, payload: Any) -> None:
        try:
            async with asyncio.timeout(self.config.event_timeout):
                await self.runtime.emit_event(event, payload)
        except Exception as error:  # noqa: BLE001 (a listener must not crash the agent)
            log.warning("event.failed event=%s error=%s", event, str(error) or "timeout")
        finally:
            self._emitting -= 1

    # --- identity and health ----------------------------------------------------------------

    @idempotent
    async def greeting(self) -> Greeting:
        """Return the agent's name and its text before the first message."""
        character = self.runtime.character
        text = character.settings.get("greeting")
        if not isinstance(text, str) or not text.strip():
            text = f"Hello, I am {character.name}."
        return Greeting(character.name, text)

    async def health(self) -> dict[str, int]:
        """Return how much is in progress and how much is stored."""
        return {
            "rooms": len(self._rooms),
            "waiting": self._rooms.waiting,
            "answered": self._answered_count,
            "memories": len(self._memories),
            "memory_bytes": self._memories.bytes,
            "tasks": len(self._tasks),
        }

    async def stop(self) -> None:
        """Wait a moment for the answers in progress."""
        if self._in_progress:
            await asyncio.wait(set(self._in_progress.values()), timeout=STOP_S)


def _hash(responses: list[Memory]) -> str:
    """Return a hash of the responses' contents; "" without responses."""
    if not responses:
        return ""
    contents = [response.content for response in responses]
    return hashlib.sha256(_encode(contents)).hexdigest()[:16]


def _retrieve_exception(result: "asyncio.Future[Processed]") -> None:
    """Retrieve the exception, so that asyncio does not log it when no caller waits any more."""
    if not result.cancelled():
        result.exception()


plugin = Plugin(name="agent", services=[AgentService])
