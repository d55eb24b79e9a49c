"""How one message is answered: what is known, which actions run, what is said.

An action or a provider that fails, hangs or dies is its plugin's affair.
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
    Memory,
    Runtime,
    State,
)

from . import actions as choice
from . import prompt
from .actions import REPLY, Reply, Run, Say, Step, Unknown
from .config import Config
from .delivery import SendOutcome, say
from .history import ConversationHistory

log = logging.getLogger(__name__)

MOST_SAID = 100  # responses to one message
SHARE = 4  # of the largest message that the wire takes, what came of one may be one part of so many
OURS = uuid.UUID("6ab6a3f2-5f0e-4d8b-9a7e-0c7a5d3f1e42")  # ids of responses are in here

Announce = Callable[[str, Any], None]

_encode = msgspec.msgpack.Encoder().encode


@dataclass
class AnswerState:
    """One message and what came of it so far."""

    memory: Memory
    responses: list[Memory]  # as the caller gave them
    mark: str = ""  # tells these responses from others to the same message
    state: State | None = None
    said: list[Memory] = field(default_factory=list)
    results: list[ActionResult] = field(default_factory=list)
    bytes: int = 0  # of what was said, and of what actions came to

    @property
    def about(self) -> dict[str, Any]:
        """Return how events tell of the message."""
        return {"message": self.memory.id, "room": self.memory.room_id}

    def failed(self, action: str, problem: str) -> ActionResult:
        """Note a failure."""
        log.warning("answer.part_failed message=%s part=%s %s", self.memory.id, action, problem)
        result = ActionResult(success=False, error=problem, action=action)
        self.results.append(result)
        return result


class AnswerPipeline:
    """Answers messages.

    Args:
        runtime: The agent's.
        config: How it is done.
        keeping: What was said before, and where it is kept.
        announce: Tells an event, without waiting for those who listen.
    """

    def __init__(
        self, runtime: Runtime, config: Config, keeping: ConversationHistory, announce: Announce
    ) -> None:
        self._runtime, self._config, self._keeping = runtime, config, keeping
        self._announce = announce

    async def answer(self, answer: AnswerState) -> None:
        """Do what a message asks for; what was done is in the answer, also where this raises.

        Raises:
            GarrisonError: There is no model, or it failed.
        """
        await self._keeping.learn(answer.memory)
        await self._keeping.remember(answer.memory)
        if answer.responses:
            await self._as_told(answer)
        elif answer.memory.entity_id != self._runtime.agent_id:  # nobody answers himself
            await self._as_decided(answer)

    async def _as_told(self, answer: AnswerState) -> None:
        actions = self._runtime.actions
        steps = [
            step
            for response in answer.responses
            for step in choice.plan_steps(response.content, actions)
        ]
        await self._do(answer, steps)

    async def _as_decided(self, answer: AnswerState) -> None:
        await self._compose(answer)
        actions = choice.in_order(await self._applying(answer.memory))
        if self._config.decide == "model":
            await self._as_model_says(answer, actions)
            return
        outcomes = [await self._act(answer, action) for action in actions]
        if not any(outcome.success for outcome in outcomes):
            await self._reply(answer)

    async def _as_model_says(self, answer: AnswerState, actions: list[Any]) -> None:
        params = await self._asking(answer)
        params.prompt = choice.question(actions)
        text = await self._runtime.use_model(
            self._config.model, params, timeout=self._config.answer_timeout
        )
        steps = choice.plan_steps(Content(actions=choice.chosen(str(text), actions)), actions)
        if steps and not await self._do(answer, steps):
            await self._reply(answer)

    async def _do(self, answer: AnswerState, steps: list[Step]) -> bool:
        """Do one thing after the other, whatever became of those before; False where all failed."""
        if any(isinstance(step, Run | Reply) for step in steps):
            await self._compose(answer)
        return any([await self._done(answer, step) for step in steps])

    async def _done(self, answer: AnswerState, step: Step) -> bool:
        match step:
            case Say(content):
                await self._say(answer, content)
                return True
            case Run(action):
                return (await self._act(answer, action)).success
            case Unknown(name, problem):
                return answer.failed(name, problem).success
            case Reply():
                try:
                    await self._reply(answer)
                except Exception as error:  # noqa: BLE001 (the others are done all the same)
                    return answer.failed(REPLY, str(error) or type(error).__name__).success
                return True
        assert_never(step)

    # --- what is known ----------------------------------------------------------------------

    async def _compose(self, answer: AnswerState) -> None:
        if answer.state is None:
            answer.state = await self._runtime.compose_state(
                answer.memory,
                answer.memory.content.providers,
                timeout=self._config.provider_timeout,
            )

    async def _applying(self, memory: Memory) -> list[Any]:
        """Return the actions that apply; all are asked side by side."""
        actions = self._runtime.actions
        told = await asyncio.gather(*(self._applies(action, memory) for action in actions))
        return [action for action, applies in zip(actions, told, strict=True) if applies]

    async def _applies(self, action: Any, memory: Memory) -> bool:
        timeout = self._config.provider_timeout
        try:
            applies = await action.validate(self._runtime, memory, timeout=timeout)
        except CallError as error:
            log.warning("action.not_validated action=%s error=%s", action.name, error)
            return False
        return bool(applies)

    # --- actions ----------------------------------------------------------------------------

    async def _act(self, answer: AnswerState, action: Any) -> ActionResult:
        """Run an action, say what it yields, and return its result; a failure is one, too."""
        about = {"action": action.name, **answer.about}
        self._announce(EventType.ACTION_STARTED, about)
        try:
            result = await self._acted(answer, action)
        except TimeoutError:
            limit = self._config.action_timeout
            result = answer.failed(action.name, f"{action.name} did not end within {limit:g} s")
        except Exception as error:  # noqa: BLE001 (it is that action's, and the answer's no end)
            problem = str(error) or type(error).__name__
            result = answer.failed(action.name, f"{action.name} failed: {problem}")
        else:
            answer.results.append(result)
        outcome = {"success": result.success, "error": result.error}
        self._announce(EventType.ACTION_COMPLETED, {**about, **outcome})
        return result

    async def _acted(self, answer: AnswerState, action: Any) -> ActionResult:
        state = answer.state or State()
        result = ActionResult(action=action.name)
        limit = self._config.action_timeout
        given = answer.responses or answer.said
        making = action.handler(self._runtime, answer.memory, state, list(given), timeout=limit)
        async with asyncio.timeout(limit) as clock, aclosing(making) as made:
            async for one in made:
                self._count(answer, one)
                if isinstance(one, ActionResult):
                    result = _after(result, one)
                    state.values.update(one.values)
                else:
                    with _stopped(clock):  # a platform that is slow is not the action's fault
                        await self._say(answer, one)
        return result

    def _count(self, answer: AnswerState, made: Content | ActionResult) -> None:
        """Take it that something came of a message, before it is said or kept.

        Raises:
            RuntimeError: It is too much.
        """
        answer.bytes += len(_encode(made))
        most = self._runtime.client.max_message // SHARE
        if answer.bytes > most:
            raise RuntimeError(
                f"{most:,} bytes of responses and results to one message are the most"
            )

    # --- what is said -----------------------------------------------------------------------

    async def _reply(self, answer: AnswerState) -> None:
        """Have a model say something."""
        if not prompt.line(answer.memory.content):
            answer.failed(REPLY, "the message is empty: there is nothing to answer")
            return
        params = await self._asking(answer)
        text = await self._runtime.use_model(
            self._config.model, params, timeout=self._config.answer_timeout
        )
        if isinstance(text, str) and (said := text.strip()):
            await self._say(answer, Content(said))
            return
        made = "an empty text" if isinstance(text, str) else f"no text, but {type(text).__name__}"
        answer.failed(REPLY, f"the model {self._config.model} returned {made}")

    async def _asking(self, answer: AnswerState) -> Any:
        conversation = await self._keeping.conversation(answer.memory)
        return prompt.params(
            self._runtime.character,
            conversation,
            self._runtime.agent_id,
            answer.state.text if answer.state else "",
            self._config.sampling,
        )

    async def _say(self, answer: AnswerState, content: Content) -> None:
        """Say something in the message's room, once, and remember it.

        Raises:
            RuntimeError: Too much was said already.
        """
        if len(answer.said) >= MOST_SAID:
            raise RuntimeError(f"{MOST_SAID} responses to one message are the most")
        response = self._response(answer, content)
        before = await self._keeping.known(response.id)
        if before is not None:  # it was said when the same message was being answered before
            answer.said.append(before)
            return
        answer.said.append(response)
        if not (content.text or content.attachments):
            return
        try:
            spoken = await say(self._runtime, response, self._config.answer_timeout)
            if spoken.fate is not SendOutcome.FAILED:
                await self._keeping.remember(response)
                self._announce(EventType.MESSAGE_SENT, response)
        except asyncio.CancelledError:  # the message's time is over; perhaps it was said
            self._runtime.spawn(self._keeping.remember(response), "remember")
            raise
        if spoken.problem:
            answer.failed(REPLY, f"what was to be said was not heard for sure: {spoken.problem}")

    def _response(self, answer: AnswerState, content: Content) -> Memory:
        heard = answer.memory
        place = (heard.content.source, heard.room_id, heard.id, answer.mark, str(len(answer.said)))
        return Memory(
            id=str(uuid.uuid5(OURS, "\n".join(place))),
            content=msgspec.structs.replace(
                content,
                source=heard.content.source,
                in_reply_to=heard.id,
                channel_type=content.channel_type or heard.content.channel_type,
            ),
            entity_id=self._runtime.agent_id,
            agent_id=self._runtime.agent_id,
            created_at=max(time.time(), heard.created_at),
            room_id=heard.room_id,
            world_id=heard.world_id,
        )


def _after(before: ActionResult, result: ActionResult) -> ActionResult:
    """Return an action's result, which a later one adds to."""
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
def _stopped(clock: asyncio.Timeout) -> Iterator[None]:
    """Have a deadline wait meanwhile."""
    loop = asyncio.get_running_loop()
    due, began = clock.when(), loop.time()
    clock.reschedule(None)
    try:
        yield
    finally:
        if due is not None:
            clock.reschedule(due + loop.time() - began)
