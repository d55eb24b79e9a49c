"""The agent service: takes messages, has them answered in each room's order, once, and keeps them.

A message that was taken is answered whether or not who asked still waits, or lives.
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

STOP_S = 1.0  # for answers whose callers are gone, when the service stops

# Source, room and id, for two platforms may number their messages alike; and a mark of the
# responses, for a message may be decided on first and given responses afterwards.
Key = tuple[str, str, str, str]

_encode = msgspec.msgpack.Encoder().encode
_processed = msgspec.msgpack.Decoder(Processed).decode


class Unanswered(Exception):
    """A message was not answered in time; parts of the answer may have been said."""


class Greeting(msgspec.Struct, frozen=True):
    """What the agent says before anybody else does, and its name."""

    name: str
    text: str


class Work(msgspec.Struct):
    """A message on its way, and who waits for its end."""

    key: Key
    answer: AnswerState
    outcome: "asyncio.Future[Processed]"


class AgentService(MemoryDatabase):
    """Decides what is done about a message, and has it done."""

    service_type = "agent"
    capability_description = "Answers messages with actions and models, and remembers them"

    Config = AgentConfig

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._open()
        runtime.register_event(EventType.MESSAGE_RECEIVED, service._received)
        return service

    def _open(self) -> None:
        c = self.config
        self._keep()
        self._rooms: Rooms[Work] = Rooms(c.limits)
        self._under_way: dict[Key, asyncio.Future[Processed]] = {}
        self._answered: Cache[Key] = Cache(c.answered, c.answered_bytes)
        self._count = 0
        self._telling = 0  # events that are being told
        self._dropping = False
        keeping = ConversationHistory(self.runtime, c, self)
        self._answering = AnswerPipeline(self.runtime, c, keeping, self._announce)
        self._judging = EvaluatorRun(self.runtime, c.evaluator_timeout, self._announce)

    # --- messages ---------------------------------------------------------------------------

    @idempotent
    async def process_actions(
        self, memory: Memory, responses: list[Memory] | None = None, state: State | None = None
    ) -> Processed:
        """Answer a message, and return what was said and done.

        Args:
            memory: The message; one that was answered already is not answered again.
            responses: What is to be said or done; without any, the agent decides.
            state: What is known, where the caller knows it already.

        Raises:
            Busy: Too many messages wait already.
            Unanswered: It took too long.
            ModelUnavailable: No model can be asked.
        """
        memory = as_memory(memory)
        given = list(responses or ())
        mark = _mark(given)
        key = (memory.content.source, memory.room_id, memory.id, mark)
        done = self._answered.get(key)
        if done is not None:
            return _processed(done)
        outcome = self._under_way.get(key)
        if outcome is None:
            outcome = self._take(key, AnswerState(memory, given, mark, state))
        return await asyncio.shield(outcome)

    def _take(self, key: Key, answer: AnswerState) -> "asyncio.Future[Processed]":
        room = Room(key[0], key[1] or key[2])  # without a room there is no order to keep
        outcome: asyncio.Future[Processed] = asyncio.get_running_loop().create_future()
        work = Work(key, answer, outcome)
        size = len(_encode((answer.memory, answer.responses, answer.state)))
        is_turn = self._rooms.arrive(room, work, size)
        self._under_way[key] = outcome
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        if is_turn:
            self.spawn(self._serve(room, work), f"room {room.room_id[:40]}")
        return outcome

    async def _serve(self, room: Room, work: Work) -> None:
        """Answer a room's messages, one after the other, until none waits."""
        turn: Work | None = work
        while turn is not None:
            is_answered = await self._answer(turn)
            await self._judging.evaluate(turn.answer, is_answered)
            turn = self._rooms.next(room)

    async def _answer(self, work: Work) -> bool:
        """Answer one message and tell who waits; False where that failed."""
        answer, limit, error = work.answer, self.config.answer_timeout, ""
        self._announce(EventType.RUN_STARTED, answer.about)
        try:
            async with asyncio.timeout(limit):
                await self._answering.answer(answer)
            processed = Processed(answer.said, answer.results)
            encoded = _encode(processed)
        except TimeoutError:
            error = f"message {answer.memory.id} was not answered within {limit:g} s"
            work.outcome.set_exception(Unanswered(error))
        except asyncio.CancelledError:  # the service is stopping
            work.outcome.cancel()
            raise
        except Exception as failure:  # noqa: BLE001 (one message's failure is its caller's alone)
            error = str(failure) or type(failure).__name__
            work.outcome.set_exception(failure)
        else:
            if not self._answered.put(work.key, encoded):  # too large to be given again
                self._answered.put(work.key, _encode(Processed()))
            self._count += 1
            work.outcome.set_result(processed)
        finally:
            del self._under_way[work.key]
        if error:
            log.warning("message.unanswered message=%s error=%s", answer.memory.id, error)
        told = {"responses": len(answer.said), "error": error}
        self._announce(EventType.RUN_ENDED, {**answer.about, **told})
        return not error

    async def _received(self, payload: Any) -> None:
        """Answer the message that an event tells of."""
        source = ""
        if isinstance(payload, Mapping) and "message" in payload:
            source = str(payload.get("source") or "")
            payload = payload["message"]
        memory = as_memory(payload)
        if source and not memory.content.source:
            memory.content = msgspec.structs.replace(memory.content, source=source)
        if self._is_to_answer(memory.content.source):
            await self.process_actions(memory)

    def _is_to_answer(self, source: str) -> bool:
        """Tell whether a message told to every agent is this one's: what an agent's own service
        heard is, and of what is everybody's the first agent's, as with `process_actions`."""
        directory, own = self.runtime.client.directory, self.runtime.agent
        heard = directory.get(source) or directory.find(source, own)
        if heard is not None and heard.agent:
            return heard.agent == own
        first = directory.first_of("agent")
        return first is None or first.name == self.runtime.name

    # --- events -----------------------------------------------------------------------------

    def _announce(self, event: str, payload: Any) -> None:
        """Tell an event in the background; past the bound it is told to nobody, and logged."""
        if self._telling >= self.config.events:
            if not self._dropping:
                log.warning("event.dropped event=%s: %d are being told", event, self._telling)
            self._dropping = True
            return
        self._dropping = False
        self._telling += 1
        self.spawn(self._tell(event, payload), f"event {event}")

    async def _tell(self, event: str, payload: Any) -> None:
        try:
            async with asyncio.timeout(self.config.event_timeout):
                await self.runtime.emit_event(event, payload)
        except Exception as error:  # noqa: BLE001 (no listener is worth the agent)
            log.warning("event.failed event=%s error=%s", event, str(error) or "it was late")
        finally:
            self._telling -= 1

    # --- who it is --------------------------------------------------------------------------

    @idempotent
    async def greeting(self) -> Greeting:
        """Return what is said before the first message, and who says it."""
        character = self.runtime.character
        text = character.settings.get("greeting")
        if not isinstance(text, str) or not text.strip():
            text = f"Hello, I am {character.name}."
        return Greeting(character.name, text)

    async def health(self) -> dict[str, int]:
        """Return how much there is to do, and how much is kept."""
        return {
            "rooms": len(self._rooms),
            "waiting": self._rooms.waiting,
            "answered": self._count,
            "memories": len(self._memories),
            "memory_bytes": self._memories.bytes,
            "tasks": len(self._tasks),
        }

    async def stop(self) -> None:
        """Finish what is under way, for a moment."""
        if self._under_way:
            await asyncio.wait(set(self._under_way.values()), timeout=STOP_S)


def _mark(responses: list[Memory]) -> str:
    """Return what tells responses from others: of the same contents it is the same."""
    if not responses:
        return ""
    return hashlib.sha256(_encode([one.content for one in responses])).hexdigest()[:16]


plugin = Plugin(name="agent", services=[AgentService])
