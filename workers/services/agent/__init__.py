"""The agent service: answers messages once, in the order of each room, and remembers them.

An accepted message is answered even if its caller no longer waits.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Mapping
from typing import Any, Self

import msgspec

from garrison.ipc import TraceContext
from garrison.workers import (
    Attribution,
    BudgetGrant,
    BudgetNeed,
    Busy,
    DeadLetter,
    EventType,
    Memory,
    Plugin,
    Processed,
    RetryLater,
    Runtime,
    State,
    as_memory,
    idempotent,
    set_attribution,
)
from garrison.workers.sqlite.opening import open_or_explain

from .answer import AnswerPipeline, is_own
from .cache import Cache
from .config import Config as AgentConfig
from .database import AgentDatabase
from .erasure import Finishing
from .evaluators import EvaluatorRun
from .history import ConversationHistory
from .limits.age import Age
from .limits.budget_keeper import BudgetKeeper
from .limits.no_answer import NoAnswer
from .operating import OperatorMethods
from .owner.telling import OwnerNews
from .persons import PersonMethods
from .record import schema
from .record.rows import MessageKey, MessageState
from .record.store import FILE, AnswerStore, RecordFull
from .recording import Origin, hash_of, open_dropped, open_recording
from .response_sender import AnswerState
from .rooms import Room, Rooms

log = logging.getLogger(__name__)

STOP_S = 1.0  # for answers in progress when the service stops; open calls were waited for before
PRUNE_S = 60.0  # between deletions of old records
DAY_S = 86_400.0
ABANDONED = 4  # times `keep_answers`, or a day, for which an unfinished record is kept
DROPPED_KEPT = 10_000  # records of dropped messages
BUSY_S = 5.0  # before a posted message that found too many waiting is delivered again

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

    key: MessageKey
    memory: Memory
    responses: list[Memory]
    state: State | None
    origin: Origin
    age: Age
    result: "asyncio.Future[Processed]"
    task: str = ""  # the id of the task that it is a message of
    trace: TraceContext = msgspec.field(default_factory=TraceContext)  # of its caller
    ended: asyncio.Event = msgspec.field(default_factory=asyncio.Event)  # nothing more is written


class AgentService(AgentDatabase, PersonMethods, OperatorMethods):
    """Answers messages with actions and models."""

    service_type = "agent"
    capability_description = "Answers messages with actions and models, and remembers them"

    mail_window = 64

    Config = AgentConfig

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        path = runtime.data_folder / FILE
        opening = asyncio.to_thread(
            open_or_explain,
            path,
            "the agent",
            lambda: AnswerStore(path, service.config.answers_bytes),
        )
        # Side by side: each waits for the disk several times.
        service._answers, _ = await asyncio.gather(opening, service._start_database())
        service._open()
        service._answers.start(asyncio.get_running_loop())
        await service._erasure.apply_tombstones()
        await service._restore_limits()
        await service._budget.load()
        service.spawn(service._watch_record(), "answers", essential=True)
        service.every(PRUNE_S, service._prune, while_paused=True)
        if service._answers.set_aside is not None:
            service._emit("answers.damaged", {"set_aside": str(service._answers.set_aside)})
        if (kept := service._database.store.set_aside) is not None:
            service._emit("memory.damaged", {"set_aside": str(kept)})
        runtime.register_event(EventType.MESSAGE_RECEIVED, service._on_message)
        if service.config.owner:
            service.spawn(service._owner.run(), "owner", essential=True)
        return service

    _answers: AnswerStore

    def _open(self) -> None:
        config = self.config
        self._rooms: Rooms[Work] = Rooms(config.limits)
        self._stopping = False
        self._in_progress: dict[MessageKey, Work] = {}
        # In front of the record: answers to messages that are repeated soon.
        self._answered: Cache[MessageKey] = Cache(config.answered, config.answered_bytes)
        self._answered_count = 0
        self._emitting = 0  # events that are being emitted
        self._dropping = False
        history = ConversationHistory(self.runtime, config, self._database)
        self._budget = BudgetKeeper(self.runtime, config, self._answers, self._show)
        self._owner = OwnerNews(
            self.runtime, config.owner, self.runtime.data_folder, config.owner_every
        )
        self._pipeline = AnswerPipeline(self.runtime, config, history, self._emit, self._budget)
        self._gatekeeper = self._pipeline.gatekeeper
        finishing = Finishing(self._in_progress, config.answer_timeout, self._answered.remove)
        self._open_erasure(self._answers, self._database.store, finishing)
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
            Busy: Too many messages wait, or the record of answers is full.
            RetryLater: Of a posted message: likewise, or its platform does not run now.
            Unanswered: The answer took too long, and there is no platform to send that to.
            ModelUnavailable: No model is available, likewise.
        """
        posted = self.runtime.message
        origin = Origin() if posted is None else Origin(True, posted.attempt)
        if posted is not None and not memory.created_at:
            memory = msgspec.structs.replace(memory, created_at=posted.posted_at)
        return await self._process(as_memory(memory), list(responses or ()), state, origin)

    async def _process(
        self, memory: Memory, given: list[Memory], state: State | None, origin: Origin
    ) -> Processed:
        key = MessageKey(memory.content.source, memory.room_id, memory.id, hash_of(given))
        encoded = self._answered.get(key)
        if encoded is not None:
            return _decode_processed(encoded)
        work = self._in_progress.get(key)
        if work is None:
            result: asyncio.Future[Processed] = asyncio.get_running_loop().create_future()
            age = self._gatekeeper.age(memory)
            within = self.runtime.attribution
            task = within.task if within is not None else ""
            work = Work(key, memory, given, state, origin, age, result, task)
            self._accept(work)
        return await asyncio.shield(work.result)

    def _accept(self, work: Work) -> None:
        keeper, drop = self._gatekeeper, None
        if keeper.decides(work.memory, bool(work.responses)):
            drop = keeper.drop(work.memory, work.age)
        if drop is None:
            self._enqueue(work)
            return
        self._in_progress[work.key] = work
        work.result.add_done_callback(_retrieve_exception)
        self.spawn(self._drop(work, drop), "drop", False)

    async def _drop(self, work: Work, drop: NoAnswer) -> None:
        """Record a dropped message, beside its room's queue, and notify its sender where due.

        A message that has a record was admitted before: its answer goes on.
        """
        try:
            processed = await self._dropped(work, drop)
            if processed is None:
                self._enqueue(work)
                return
            self._remember_answered(work.key, _encode(processed))
            work.result.set_result(processed)
        except asyncio.CancelledError:
            work.result.cancel()
            raise
        except Exception as failure:  # noqa: BLE001 (it affects this message's caller alone)
            work.result.set_exception(failure)
        if work.result.done():
            self._leave(work)

    async def _dropped(self, work: Work, drop: NoAnswer) -> Processed | None:
        if self._answers.is_full:  # its last pages are for answers
            return Processed()
        now = time.time()
        recording = await open_dropped(self._answers, work.key, work.memory, work.origin, now)
        if recording is None:
            return None
        answer = AnswerState(work.memory, [], recording, work.age)
        await self._pipeline.end(answer, drop)
        await self._pipeline.finish(answer, wait=bool(drop.text))
        return answer.processed

    def _enqueue(self, work: Work) -> None:
        key = work.key
        room = Room(key.source, key.room or key.id)  # without a room it waits for no other
        size = len(_encode((work.memory, work.responses, work.state)))
        try:
            is_first = self._rooms.add(room, work, size)
        except Busy as error:
            if not work.origin.posted:
                raise
            raise RetryLater(BUSY_S, error.reason) from error
        self._in_progress[key] = work
        work.result.add_done_callback(_retrieve_exception)
        if is_first:
            self.spawn(self._serve(room, work), f"room {room.room_id[:40]}", False)

    async def _serve(self, room: Room, first: Work) -> None:
        """Answer a room's messages, one after the other, until none waits."""
        work: Work | None = first
        while work is not None:
            with work.trace:  # a room's task began in that of another message
                await self._answer(work)
            work = self._rooms.next(room)
            while self._stopping and work is not None:
                work.result.cancel()  # the call is lost with this process, and sent again
                work = self._rooms.next(room)

    async def _answer(self, work: Work) -> None:
        """Answer one message and resolve its future; then run the evaluators."""
        answer: AnswerState | None = None
        set_attribution(self._budget.attribution(work.memory, work.task), self._budget)
        try:
            answer, processed = await self._begin(work)
            if answer is not None:
                await self._attempt(answer)
                await self._pipeline.finish(answer)
                processed = answer.processed
            self._remember_answered(work.key, _encode(processed))
            work.result.set_result(processed)
        except asyncio.CancelledError:  # the service is stopping
            work.result.cancel()
            raise
        except Exception as failure:  # noqa: BLE001 (it affects this message's caller alone)
            work.result.set_exception(failure)
            self._end(work, answer, str(failure) or type(failure).__name__)
            if answer is not None and not is_own(failure):
                await self._evaluators.evaluate(answer, False)
        else:
            if answer is not None:
                why = answer.record.why
                self._end(work, answer, why.problem)
                if why.end is not MessageState.DROPPED:
                    await self._evaluators.evaluate(answer, why.end is None)
        finally:
            self._leave(work)

    def _leave(self, work: Work) -> None:
        self._in_progress.pop(work.key, None)
        work.ended.set()

    async def _begin(self, work: Work) -> tuple[AnswerState | None, Processed]:
        """Return what is to be answered, or the answer that is recorded already."""
        now = time.time()
        recording = await open_recording(self._answers, work.key, work.memory, work.origin, now)
        if recording.is_finished:
            return None, recording.answer
        answer = AnswerState(work.memory, work.responses, recording, work.age, work.state)
        answer.record.why.trace = work.trace.id
        self._emit(EventType.RUN_STARTED, answer.event_data)
        return answer, Processed()

    async def _attempt(self, answer: AnswerState) -> None:
        """Answer a message, or record and send that there is no answer.

        Raises:
            Exception: There is none; only the caller gets the error.
        """
        limit = self.config.answer_timeout
        try:
            async with asyncio.timeout(limit) as answer.deadline:
                await self._pipeline.answer(answer)
            return
        except TimeoutError:
            text = f"message {answer.memory.id} was not answered within {limit:g} s"
            error: Exception = Unanswered(text)
        except Exception as failure:  # noqa: BLE001 (an action's, a model's)
            error = failure
        finally:
            answer.deadline = None
        if is_own(error) or not await self._pipeline.fail(answer, error):
            await answer.recording.flush()
            raise error

    def _end(self, work: Work, answer: AnswerState | None, error: str) -> None:
        if error:
            log.warning("message.unanswered message=%s error=%s", work.memory.id, error)
        if answer is not None:
            if answer.record.why.end in {None, MessageState.FAILED}:
                self._gatekeeper.note_end(failed=bool(error))
            outcome = {"responses": len(answer.sent), "error": error}
            self._emit(EventType.RUN_ENDED, {**answer.event_data, **outcome})

    def _remember_answered(self, key: MessageKey, encoded: bytes) -> None:
        self._answered.put(key, encoded)  # one that is too large is read from the record
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
            await self._process(memory, [], None, Origin())

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

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Note a message of the agent's that the mailbox has given up."""
        self._owner.dead_letter(mail, reason)

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
        self.spawn(self._emit_in_time(event, payload), f"event {event}", False)

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

    @idempotent
    async def failure_text(self) -> str:
        """Return the text to send where there is no answer; "" sends nothing."""
        return self.config.failure_text

    async def health(self) -> dict[str, int]:
        """Return how much is in progress and how much is stored."""
        return {
            "rooms": len(self._rooms),
            "waiting": self._rooms.waiting,
            "answered": self._answered_count,
            **self._gatekeeper.counts,
            "record_bytes": self._answers.bytes,
            **self._database_health(),
        }

    async def stop(self) -> None:
        """Wait for the answers in progress, for a limited time; the record has what they did."""
        self._stopping = True
        if self._in_progress:
            results = {work.result for work in self._in_progress.values()}
            await asyncio.wait(results, timeout=STOP_S)
        self._answers.begin_close()
        await asyncio.gather(asyncio.to_thread(self._answers.wait_closed), self._stop_database())

    def _show(self, **facts: float) -> None:
        self._gatekeeper.show(**facts)

    # --- budgets, for the runtimes of other workers -----------------------------------------

    async def reserve_use(self, attribution: Attribution, need: BudgetNeed) -> BudgetGrant:
        """Reserve the use of a model for an answer; `settle_use` must follow."""
        return await self._budget.reserve_use(attribution, need)

    @idempotent
    async def settle_use(self, id: str, tokens: int | None, cost: float | None) -> None:
        """Count what a reserved use has taken; None is not known."""
        await self._budget.settle_use(id, tokens, cost)

    # --- the record -------------------------------------------------------------------------

    async def _watch_record(self) -> None:
        """Crash if the record cannot be written: the next start checks the file again."""
        await self._answers.failed

    async def _prune(self) -> None:
        now, keep = time.time(), self.config.keep_answers
        abandoned = now - ABANDONED * max(keep, DAY_S)
        for prune in (
            functools.partial(schema.prune, before=now - keep, abandoned=abandoned),
            functools.partial(schema.prune_dropped, keep=DROPPED_KEPT),
        ):
            try:
                while await self._answers.execute(prune) >= schema.PRUNED:
                    pass
            except RecordFull as error:  # a full disk: later
                log.warning("answers.not_pruned error=%s", error)

    async def _restore_limits(self) -> None:
        """Count what an earlier process admitted: a crash refills no bucket."""
        if horizon := self._gatekeeper.horizon:
            since, most = time.time() - horizon, self.config.senders
            records = await self._answers.execute(lambda at: schema.since(at, since, most))
            self._gatekeeper.restore(records)


def _retrieve_exception(result: "asyncio.Future[Processed]") -> None:
    """Retrieve the exception, so that asyncio does not log it when no caller waits any more."""
    if not result.cancelled():
        result.exception()


plugin = Plugin(name="agent", services=[AgentService], preload=["garrison.workers.services.agent"])
