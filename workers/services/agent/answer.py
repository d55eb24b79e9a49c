"""Answer one message: compose the state, run actions, send responses.

An action or a provider that fails, hangs or crashes does not affect the others.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Any, assert_never

import msgspec

from garrison.ipc import CallError
from garrison.workers import (
    ActionResult,
    Content,
    EventType,
    GenerateTextParams,
    Memory,
    Runtime,
    State,
)

from . import actions as choice
from . import prompt
from .actions import REPLY, Reply, Run, Say, Step, Unknown
from .config import Config
from .delivery import SendOutcome, send
from .history import ConversationHistory
from .persona import Persona

log = logging.getLogger(__name__)

MAX_RESPONSES = 100  # to one message
RESULT_SHARE = 4  # responses and results may fill a quarter of the largest wire message
RESPONSE_IDS = uuid.UUID("6ab6a3f2-5f0e-4d8b-9a7e-0c7a5d3f1e42")  # namespace

Emit = Callable[[str, Any], None]

_encode = msgspec.msgpack.Encoder().encode


@dataclass
class AnswerState:
    """One message and its answer so far."""

    memory: Memory
    responses: list[Memory]  # given by the caller
    responses_hash: str = ""
    state: State | None = None
    sent: list[Memory] = field(default_factory=list)
    results: list[ActionResult] = field(default_factory=list)
    bytes: int = 0  # of responses and results

    @property
    def event_data(self) -> dict[str, Any]:
        """Return the fields that identify the message in events."""
        return {"message": self.memory.id, "room": self.memory.room_id}

    def add_failure(self, action: str, problem: str) -> ActionResult:
        """Log a failure and add its result."""
        log.warning("answer.part_failed message=%s part=%s %s", self.memory.id, action, problem)
        result = ActionResult(success=False, error=problem, action=action)
        self.results.append(result)
        return result


class AnswerPipeline:
    """Answers messages.

    Args:
        runtime: The agent's.
        config: Model, choice of actions, timeouts.
        history: Earlier messages; also stores new ones.
        emit: Emits an event without waiting for its listeners.
    """

    def __init__(
        self, runtime: Runtime, config: Config, history: ConversationHistory, emit: Emit
    ) -> None:
        self._runtime, self._config, self._history = runtime, config, history
        self._emit = emit
        self._persona = Persona(runtime, config)

    async def answer(self, answer: AnswerState) -> None:
        """Answer a message. What was sent is in `answer`, even if this raises.

        Raises:
            GarrisonError: There is no model, or it failed.
        """
        await self._history.restore(answer.memory)
        await self._history.remember(answer.memory)
        if answer.responses:
            await self._run_responses(answer)
        elif answer.memory.entity_id != self._runtime.agent_id:  # not the agent's own message
            await self._decide(answer)

    # --- which steps ------------------------------------------------------------------------

    async def _run_responses(self, answer: AnswerState) -> None:
        actions = self._runtime.actions
        steps = [
            step
            for response in answer.responses
            for step in choice.plan_steps(response.content, actions)
        ]
        await self._run_steps(answer, steps)

    async def _decide(self, answer: AnswerState) -> None:
        await self._compose_state(answer)
        actions = choice.in_order(await self._valid_actions(answer.memory))
        if self._config.decide == "model":
            await self._run_model_choice(answer, actions)
            return
        results = [await self._run_action(answer, action) for action in actions]
        if not any(result.success for result in results):
            await self._reply(answer)

    async def _run_model_choice(self, answer: AnswerState, actions: list[Any]) -> None:
        params = await self._model_params(answer, answering=False)
        params.prompt = choice.question(actions)
        text = await self._use_model(params)
        names = choice.parse_choice(str(text), actions)
        steps = choice.plan_steps(Content(actions=names), actions)
        if steps and not await self._run_steps(answer, steps):
            await self._reply(answer)

    async def _run_steps(self, answer: AnswerState, steps: list[Step]) -> bool:
        """Run steps in order. A failure does not stop the next one; False if all failed."""
        if any(isinstance(step, Run | Reply) for step in steps):
            await self._compose_state(answer)
        return any([await self._run_step(answer, step) for step in steps])

    async def _run_step(self, answer: AnswerState, step: Step) -> bool:
        match step:
            case Say(content):
                await self._send(answer, content)
                return True
            case Run(action):
                return (await self._run_action(answer, action)).success
            case Unknown(name, problem):
                return answer.add_failure(name, problem).success
            case Reply():
                try:
                    await self._reply(answer)
                except Exception as error:  # noqa: BLE001 (the other steps still run)
                    return answer.add_failure(REPLY, _error_text(error)).success
                return True
            case _:
                assert_never(step)

    # --- state ------------------------------------------------------------------------------

    async def _compose_state(self, answer: AnswerState) -> None:
        if answer.state is None:
            answer.state = await self._runtime.compose_state(
                answer.memory,
                answer.memory.content.providers,
                timeout=self._config.provider_timeout,
            )

    async def _valid_actions(self, memory: Memory) -> list[Any]:
        """Return the actions whose `validate` accepts the message; all are called concurrently."""
        actions = self._runtime.actions
        accepted = await asyncio.gather(*(self._validates(action, memory) for action in actions))
        return [action for action, accepts in zip(actions, accepted, strict=True) if accepts]

    async def _validates(self, action: Any, memory: Memory) -> bool:
        timeout = self._config.provider_timeout
        try:
            accepts = await action.validate(self._runtime, memory, timeout=timeout)
        except CallError as error:
            log.warning("action.not_validated action=%s error=%s", action.name, error)
            return False
        return bool(accepts)

    # --- actions ----------------------------------------------------------------------------

    async def _run_action(self, answer: AnswerState, action: Any) -> ActionResult:
        """Run an action, send what it yields, and return its result; a failure is one too."""
        data = {"action": action.name, **answer.event_data}
        self._emit(EventType.ACTION_STARTED, data)
        try:
            result = await self._collect(answer, action)
        except TimeoutError:
            limit = self._config.action_timeout
            problem = f"{action.name} did not end within {limit:g} s"
            result = answer.add_failure(action.name, problem)
        except Exception as error:  # noqa: BLE001 (it does not end the answer)
            problem = f"{action.name} failed: {_error_text(error)}"
            result = answer.add_failure(action.name, problem)
        else:
            answer.results.append(result)
        outcome = {"success": result.success, "error": result.error}
        self._emit(EventType.ACTION_COMPLETED, {**data, **outcome})
        return result

    async def _collect(self, answer: AnswerState, action: Any) -> ActionResult:
        state = answer.state or State()
        result = ActionResult(action=action.name)
        limit = self._config.action_timeout
        responses = list(answer.responses or answer.sent)
        handler = action.handler(self._runtime, answer.memory, state, responses, timeout=limit)
        async with asyncio.timeout(limit) as deadline, aclosing(handler) as outputs:
            async for output in outputs:
                self._check_size(answer, output)
                if isinstance(output, ActionResult):
                    result = _merge(result, output)
                    state.values.update(output.values)
                else:
                    with _paused(deadline):  # sending does not count as the action's time
                        await self._send(answer, output)
        return result

    def _check_size(self, answer: AnswerState, output: Content | ActionResult) -> None:
        """Count the bytes of an output.

        Raises:
            RuntimeError: The answer would not fit into a reply.
        """
        answer.bytes += len(_encode(output))
        limit = self._runtime.client.max_message // RESULT_SHARE
        if answer.bytes > limit:
            raise RuntimeError(f"more than {limit:,} bytes of responses and results to one message")

    # --- responses --------------------------------------------------------------------------

    async def _reply(self, answer: AnswerState) -> None:
        """Generate a response with the model and send it."""
        if not prompt.message_text(answer.memory.content):
            answer.add_failure(REPLY, "the message is empty: there is nothing to answer")
            return
        params = await self._model_params(answer)
        text = await self._use_model(params)
        if isinstance(text, str) and text.strip():
            text = self._persona.reply(answer.memory, text.strip())
            await self._send(answer, Content(text))
            return
        got = "an empty text" if isinstance(text, str) else f"{type(text).__name__}, not a text"
        answer.add_failure(REPLY, f"the model {self._config.model} returned {got}")

    async def _use_model(self, params: GenerateTextParams) -> Any:
        config = self._config
        return await self._runtime.use_model(
            config.model, params, timeout=config.model_timeout, fallback=config.fallback
        )

    async def _model_params(
        self, answer: AnswerState, answering: bool = True
    ) -> GenerateTextParams:
        conversation = await self._history.conversation(answer.memory)
        provided = answer.state.text if answer.state else ""
        return await self._persona.params(conversation, provided, answering)

    async def _send(self, answer: AnswerState, content: Content) -> None:
        """Send a response to the message's room once, and remember it.

        Raises:
            RuntimeError: Too many responses were sent already.
        """
        if len(answer.sent) >= MAX_RESPONSES:
            raise RuntimeError(f"more than {MAX_RESPONSES} responses to one message")
        response = self._response(answer, content)
        earlier = await self._history.get(response.id)
        if earlier is not None:  # sent in an earlier attempt to answer this message
            answer.sent.append(earlier)
            return
        answer.sent.append(response)
        if not (content.text or content.attachments):
            return
        try:
            outcome, problem = await send(self._runtime, response, self._config.answer_timeout)
            if outcome is not SendOutcome.FAILED:
                await self._history.remember(response)
                self._emit(EventType.MESSAGE_SENT, response)
        except asyncio.CancelledError:  # the answer timed out; the response may have been sent
            self._runtime.spawn(self._history.remember(response), "remember")
            raise
        if problem:
            answer.add_failure(REPLY, f"a response was not confirmed as sent: {problem}")

    def _response(self, answer: AnswerState, content: Content) -> Memory:
        """Return a response as a message. A repeated answer gets the same id."""
        message = answer.memory
        source, number = message.content.source, str(len(answer.sent))
        parts = (source, message.room_id, message.id, answer.responses_hash, number)
        return Memory(
            id=str(uuid.uuid5(RESPONSE_IDS, "\n".join(parts))),
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


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _merge(before: ActionResult, result: ActionResult) -> ActionResult:
    """Add a further result of the same action."""
    return msgspec.structs.replace(
        result,
        action=before.action,
        success=before.success and result.success,
        text=result.text or before.text,
        error=result.error or before.error,
        values={**before.values, **result.values},
        data={**before.data, **result.data},
    )


@contextmanager
def _paused(deadline: asyncio.Timeout) -> Iterator[None]:
    """Stop a deadline's clock during the block."""
    loop = asyncio.get_running_loop()
    due, began = deadline.when(), loop.time()
    deadline.reschedule(None)
    try:
        yield
    finally:
        if due is not None:
            deadline.reschedule(due + loop.time() - began)
