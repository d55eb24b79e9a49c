"""Answer one message: compose the state, plan, run actions, send responses.

An action or a provider that fails, hangs or crashes does not affect the others. What is recorded of
an interrupted answer is not done again.
"""

import asyncio
import logging
import sqlite3
import time
from contextlib import aclosing
from typing import Any

import msgspec

from garrison.ipc import CallError, ServiceLost
from garrison.workers import (
    ActionResult,
    BudgetSpent,
    Busy,
    Content,
    EventType,
    Memory,
    RetryLater,
    Runtime,
    State,
)

from . import actions as choice
from . import prompt
from .actions import REPLY, Run
from .chooser import Chooser
from .commands import given_options, has_sent, is_command, options_problem, outcome_text
from .config import Config
from .history import ConversationHistory
from .limits.budget_keeper import BudgetKeeper
from .limits.gatekeeper import Gatekeeper
from .limits.no_answer import NoAnswer
from .model_calls import TEXT_MOST, ModelCalls
from .persona import Persona
from .record.resume import StepMove, has_no_answer, recorded_parts, step_move
from .record.rows import (
    FAILURE,
    MessageState,
    PlannedCall,
    PlannedStep,
    Round,
    StepKind,
    StepState,
    call_of,
)
from .record.schema import UnreadableRecord
from .response_sender import AnswerState, Emit, ResponseSender, decide, paused
from .spoken import add_spoken_text
from .steps import numbered, or_reply

log = logging.getLogger(__name__)

RESULT_SHARE = 4  # responses and results may fill a quarter of the largest wire message
RUNS_MOST = 3  # of an action that may run twice, whose process ends during it
FAILURE_TEXT = "failure_text"  # key in a message's metadata: the platform's own text
DOES_NOT_APPLY = "this is not possible here, or not now"  # of a command
ANSWER_FAILED = "answer.failed"  # event

_encode = msgspec.msgpack.Encoder().encode


class AnswerPipeline:
    """Answers messages.

    Args:
        runtime: The agent's.
        config: Model, choice of actions, timeouts.
        history: Earlier messages; also stores new ones.
        emit: Emits an event without waiting for its listeners.
        budget: The agent's, of the use of models.

    Attributes:
        gatekeeper: Decides which messages are answered.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: Config,
        history: ConversationHistory,
        emit: Emit,
        budget: BudgetKeeper,
    ) -> None:
        self._runtime, self._config, self._history = runtime, config, history
        self._emit, self._budget = emit, budget
        self.gatekeeper = Gatekeeper(runtime, config, emit, self._failure_text)
        self._sender = ResponseSender(runtime, config, history, emit)
        self._persona = Persona(runtime, config)
        self._models = ModelCalls(runtime, config, history, self._persona)
        self._chooser = Chooser(runtime, config, self._models, self._persona)

    async def answer(self, answer: AnswerState) -> None:
        """Answer a message, or go on with its answer from what is recorded.

        Raises:
            RetryLater: The rest is to be done later.
            Exception: There is no answer: see `fail`.
        """
        record = answer.record
        is_new = record.state is MessageState.DECIDING and not has_no_answer(record)
        no_answer = await self._no_answer(answer) if is_new else None
        if MessageState.DROPPED not in {record.why.end, no_answer and no_answer.state}:
            if no_answer is None and not has_no_answer(record):
                await add_spoken_text(self._runtime, answer.memory)
            await self._history.restore(answer.memory)
            await self._history.remember(answer.memory)
            if is_new and no_answer is None and not answer.responses:
                self._history.read_ahead(answer.memory)
        if no_answer is not None:
            await self.end(answer, no_answer)
            return
        await self._sender.settle(answer)
        if has_no_answer(record):
            return
        if is_new:
            record.steps = await self._plan(answer)
        await self._run_steps(answer)

    async def finish(self, answer: AnswerState, wait: bool = True) -> None:
        """Record that the answer is complete.

        Args:
            answer: The message's.
            wait: Return once it is on disk.

        Raises:
            RetryLater: There is no room.
        """
        record = answer.record
        record.state = record.why.end or MessageState.DONE
        record.done_at = time.time()
        await self._history.written()  # before the message's sender is answered
        if wait:
            await answer.recording.write()
        else:
            answer.recording.write_soon()

    # --- no answer --------------------------------------------------------------------------

    async def fail(self, answer: AnswerState, error: Exception) -> bool:
        """Record and send that there is no answer; False if only the caller gets the error.

        Raises:
            RetryLater: It is to be sent later.
        """
        text, why = self._failure_text(answer.memory), answer.record.why
        if isinstance(error, BudgetSpent):
            await self.end(answer, await self._budget.no_answer(answer.memory, error))
            return True
        if not self._can_send(answer) or not (text or answer.record.posted):
            return False
        problem = _error_text(error)[:TEXT_MOST]
        self._emit(ANSWER_FAILED, {**answer.event_data, "error": problem})
        log.error("answer.failed message=%s error=%s", answer.memory.id, problem)
        self._runtime.incident(ANSWER_FAILED, problem, message=str(answer.memory.id))
        await self.end(answer, NoAnswer(MessageState.FAILED, why.how, text, problem))
        return True

    async def _no_answer(self, answer: AnswerState) -> NoAnswer | None:
        """Return why a message gets no answer; None if it gets one."""
        keeper, memory = self.gatekeeper, answer.memory
        if not keeper.decides(memory, bool(answer.responses)):
            return None
        return await keeper.refusal(memory, answer.age)

    async def end(self, answer: AnswerState, no_answer: NoAnswer) -> None:
        """Note that a message gets no answer, and send the text for that.

        Raises:
            RetryLater: It is to be sent later.
        """
        why = answer.record.why
        why.end, why.how = no_answer.state, no_answer.how
        why.problem = no_answer.problem[:TEXT_MOST]
        if no_answer.text:
            await self._sender.send(answer, FAILURE, Content(no_answer.text))

    def _can_send(self, answer: AnswerState) -> bool:
        return answer.record.posted or self._sender.has_sender(answer)

    def _failure_text(self, memory: Memory) -> str:
        own = memory.metadata.get(FAILURE_TEXT)
        return own if isinstance(own, str) else self._config.failure_text

    # --- the plan ---------------------------------------------------------------------------

    async def _plan(self, answer: AnswerState) -> list[PlannedStep]:
        """Return the steps of the answer."""
        why = answer.record.why
        why.rounds = []
        if answer.responses:
            why.how, actions = "responses", self._runtime.actions
            contents = [response.content for response in answer.responses]
            steps = numbered(step for one in contents for step in choice.plan_steps(one, actions))
            why.rounds = given_options(contents, steps, actions)
            return await self._check_command(answer, steps)
        if answer.memory.entity_id == self._runtime.agent_id:
            why.how = "own message"
            return []
        why.how = self._config.decide
        await self._compose_state(answer)
        actions = choice.in_order(await self._valid_actions(answer))
        if self._config.decide == "model":
            return await self._chooser.plan(answer, actions)
        return or_reply(numbered(Run(action) for action in actions))

    async def _check_command(
        self, answer: AnswerState, steps: list[PlannedStep]
    ) -> list[PlannedStep]:
        """Return the steps of responses; of a command, one that does not apply is not run."""
        if not is_command(answer.memory, True):
            return steps
        for step in steps:
            action = choice.find(step.name, self._runtime.actions)
            if action is None:
                continue
            call = call_of(answer.record, step.number)
            problem = options_problem(action.parameters, call.arguments if call else {})
            if action.validates and not await self._validates(action, answer.memory):
                problem = DOES_NOT_APPLY
            if problem:
                call = PlannedCall(step.number, step.name, problem=problem)
                answer.record.why.rounds = [Round("", [call], is_last=True)]
                step.kind = StepKind.UNKNOWN
        return steps

    async def _valid_actions(self, answer: AnswerState) -> list[Any]:
        """Return the actions whose `validate` accepts the message; all are called concurrently."""
        actions, memory = self._runtime.actions, answer.memory
        accepted = await asyncio.gather(*(self._validates(action, memory) for action in actions))
        names = [action.name for action in actions]
        answer.record.why.considered = dict(zip(names, accepted, strict=True))
        return [action for action, accepts in zip(actions, accepted, strict=True) if accepts]

    async def _validates(self, action: Any, memory: Memory) -> bool:
        timeout = self._config.provider_timeout
        if action.for_model and self._config.decide != "model":
            return False
        try:
            accepts = await action.validate(self._runtime, memory, timeout=timeout)
        except CallError as error:
            log.warning("action.not_validated action=%s error=%s", action.name, error)
            return False
        return bool(accepts)

    async def _compose_state(self, answer: AnswerState) -> State:
        if answer.state is None:
            answer.state = await self._runtime.compose_state(
                answer.memory,
                answer.memory.content.providers,
                timeout=self._config.provider_timeout,
            )
            why = answer.record.why
            why.providers, why.context = list(answer.state.data), answer.state.text[:TEXT_MOST]
        return answer.state

    # --- the steps --------------------------------------------------------------------------

    async def _run_steps(self, answer: AnswerState) -> None:
        """Run steps in order, and those that a model adds. A failure does not stop the next one.

        Raises:
            Exception: No model generated the only response that was to be sent.
        """
        record, done = answer.record, 0
        while done < len(record.steps) or await self._chooser.next_steps(answer):
            await self._move_on(answer, done)
            done += 1
        if answer.reply_error is not None and not record.parts and self._can_send(answer):
            raise answer.reply_error

    async def _move_on(self, answer: AnswerState, index: int) -> None:
        """Run a step, or what is left of it."""
        record, actions = answer.record, self._runtime.actions
        step = record.steps[index]
        action = choice.find(step.name, actions) if step.kind is StepKind.RUN else None
        may_repeat = action is not None and action.idempotent
        before = record.steps[:index]
        move = step_move(step, before, record.parts, is_idempotent=may_repeat)
        if move is StepMove.INTERRUPT:
            await self._interrupt(answer, step, "the agent ended during it")
        elif move is not StepMove.SKIP:
            await self._run_step(answer, step, action)
        elif recorded_parts(record.parts, step.number):
            step.state = _ended(step)

    async def _run_step(self, answer: AnswerState, step: PlannedStep, action: Any) -> None:
        match step.kind:
            case StepKind.SAY:
                assert step.content is not None
                await self._sender.send(answer, step.number, step.content)
            case StepKind.RUN if action is not None:
                await self._run_action(answer, step, action)
            case StepKind.RUN | StepKind.UNKNOWN:
                call = call_of(answer.record, step.number)
                problem = choice.unknown_action(step.name, self._runtime.actions)
                problem = (call.problem if call else "") or problem
                result = answer.add_failure(step, step.name, problem)
                await self._answer_command(answer, step, result)
            case StepKind.REPLY:
                await self._run_reply(answer, step)
        step.state = _ended(step)

    async def _run_reply(self, answer: AnswerState, step: PlannedStep) -> None:
        try:
            content = await self._reply(answer, step)
        except Exception as error:
            if step.otherwise:
                raise
            answer.add_failure(step, REPLY, _error_text(error))  # the other steps still run
            answer.reply_error = error
            return
        if content is not None:
            await self._sender.send(answer, step.number, content)

    async def _interrupt(self, answer: AnswerState, step: PlannedStep, why: str) -> None:
        """Report an interrupted action: what it did is not known, so it is not run again."""
        problem = f"{step.name} was interrupted: {why}; it is not run again"
        answer.add_failure(step, step.name, problem)
        step.state, step.ended_at = StepState.INTERRUPTED, time.time()
        self._emit_completed(answer, step.name, step.results[-1])
        text = self._config.interrupted_text.replace("{action}", step.name)
        if text:
            answer.yielded[step.number] = len(recorded_parts(answer.record.parts, step.number))
            await self._sender.send(answer, step.number, Content(text))
        else:
            await answer.recording.write()

    # --- actions ----------------------------------------------------------------------------

    async def _run_action(self, answer: AnswerState, step: PlannedStep, action: Any) -> None:
        """Run an action, send what it yields, and add its result; a failure is one too."""
        decide(answer.record, time.time())
        step.state, step.started_at = StepState.STARTED, time.time()
        await answer.recording.write()
        self._emit(EventType.ACTION_STARTED, {"action": action.name, **answer.event_data})
        try:
            result = await self._collect_whole(answer, step, action)
        except ServiceLost as error:
            await self._interrupt(answer, step, _error_text(error))
            return
        except TimeoutError:
            problem = f"{action.name} did not end within {self._config.action_timeout:g} s"
            result = answer.add_failure(step, action.name, problem)
            await self._answer_command(answer, step, result)
        except Exception as error:
            if is_own(error):
                raise
            problem = f"{action.name} failed: {_error_text(error)}"
            result = answer.add_failure(step, action.name, problem)
            await self._answer_command(answer, step, result, self._failure_text(answer.memory))
        else:
            step.results = [*step.results, result]
            await self._answer_command(answer, step, result)
        step.state, step.ended_at = StepState.ENDED, time.time()
        answer.recording.write_now()
        self._emit_completed(answer, action.name, result)

    async def _answer_command(
        self, answer: AnswerState, step: PlannedStep, result: ActionResult, text: str | None = None
    ) -> None:
        """Send the person who gave a command what became of it, where its action sent nothing.

        Args:
            answer: The message's.
            step: The action's.
            result: Its result.
            text: To send in place of the result's; "" sends nothing.
        """
        if not is_command(answer.memory, bool(answer.responses)) or has_sent(answer.record, step):
            return
        text = outcome_text(result, self._config.done_text) if text is None else text
        await self._sender.send(answer, step.number, Content(text))

    def _emit_completed(self, answer: AnswerState, name: str, result: ActionResult) -> None:
        outcome = {"success": result.success, "error": result.error}
        data = {"action": name, **answer.event_data, **outcome}
        self._emit(EventType.ACTION_COMPLETED, data)

    async def _collect_whole(
        self, answer: AnswerState, step: PlannedStep, action: Any
    ) -> ActionResult:
        """Return an action's result. One that may run twice is run again when its process ends.

        Raises:
            ServiceLost: Its process ended during it: what it did is not known.
        """
        for _ in range(RUNS_MOST - 1 if action.idempotent else 0):
            try:
                return await self._collect(answer, step, action)
            except ServiceLost as error:
                log.warning("action.lost action=%s error=%s", action.name, error)
                answer.yielded[step.number] = 0
        return await self._collect(answer, step, action)

    async def _collect(self, answer: AnswerState, step: PlannedStep, action: Any) -> ActionResult:
        state = await self._state_for(answer, step)
        result = ActionResult(action=action.name)
        limit = self._config.action_timeout
        responses = list(answer.responses or answer.sent)
        call = call_of(answer.record, step.number) if action.parameters else None
        options = call.arguments if call and call.has_arguments else None
        handler = action.handler(
            self._runtime, answer.memory, state, responses, options, timeout=limit
        )
        async with asyncio.timeout(limit) as deadline, aclosing(handler) as outputs:
            async for output in outputs:
                self._check_size(answer, output)
                if isinstance(output, ActionResult):
                    result = _merge(result, output)
                else:
                    with paused(deadline):  # sending does not count as the action's time
                        await self._sender.send(answer, step.number, output)
        return result

    async def _state_for(self, answer: AnswerState, step: PlannedStep) -> State:
        """Return the state with the values of the steps before, also of an earlier process."""
        state = await self._compose_state(answer)
        for before in answer.record.steps[: step.number]:
            for result in before.results:
                state.values.update(result.values)
        return state

    def _check_size(self, answer: AnswerState, output: Content | ActionResult) -> None:
        """Count the bytes of an output.

        Raises:
            RuntimeError: The answer would not fit into a reply.
        """
        answer.bytes += len(_encode(output))
        limit = self._runtime.client.max_message // RESULT_SHARE
        if answer.bytes > limit:
            raise RuntimeError(f"more than {limit:,} bytes of responses and results to one message")

    # --- a model's response -----------------------------------------------------------------

    async def _reply(self, answer: AnswerState, step: PlannedStep) -> Content | None:
        """Return a response that the model generates; None with a failure if it is none."""
        if not prompt.message_text(answer.memory.content):
            answer.add_failure(step, REPLY, "the message is empty: there is nothing to answer")
            return None
        await self._compose_state(answer)
        params = await self._models.params(answer)
        text = await self._models.use(answer, params.without_tools())
        if isinstance(text, str) and text.strip():
            return Content(self._persona.reply(answer.memory, text.strip()))
        got = "an empty text" if isinstance(text, str) else f"{type(text).__name__}, not a text"
        answer.add_failure(step, REPLY, f"the model {self._config.model} returned {got}")
        return None


def is_own(error: BaseException) -> bool:
    """Return True for an error of the agent's own that ends this attempt, but not the answer."""
    if isinstance(error, Busy | RetryLater):
        return not error.service  # another's is a failure of an action or a model
    return isinstance(error, UnreadableRecord | sqlite3.Error)


def _ended(step: PlannedStep) -> StepState:
    return StepState.INTERRUPTED if step.state is StepState.INTERRUPTED else StepState.ENDED


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
