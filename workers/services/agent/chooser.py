"""Has the model choose actions: as tools, or, with a provider that takes none, by a JSON Schema, or
by its text."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from garrison.workers import (
    Content,
    GenerateObjectParams,
    GenerateTextParams,
    ModelType,
    ModelUnavailable,
    Runtime,
)

from . import actions as choice
from . import tool_rounds
from .config import Config
from .model_calls import TEXT_MOST, ModelCalls
from .persona import Persona
from .record.rows import PlannedCall, PlannedStep, Round, StepKind
from .response_sender import AnswerState
from .steps import numbered, or_reply

log = logging.getLogger(__name__)


class Chooser:
    """The model's choices for answers, with `decide = "model"`.

    Args:
        runtime: The agent's.
        config: The model, and how many rounds it has.
        models: Makes the requests.
        persona: The character.
    """

    def __init__(
        self, runtime: Runtime, config: Config, models: ModelCalls, persona: Persona
    ) -> None:
        self._runtime, self._config = runtime, config
        self._models, self._persona = models, persona

    async def plan(self, answer: AnswerState, actions: Sequence[Any]) -> list[PlannedStep]:
        """Return the first steps of an answer.

        Args:
            answer: The message's; `considered` of its record names the actions that apply.
            actions: Those actions.

        Raises:
            ModelUnavailable: No provider gave an answer.
        """
        config, runtime = self._config, self._runtime
        if runtime.takes_tools(config.model, config.fallback):
            try:
                return await self._round(answer)
            except ModelUnavailable as error:
                if not config.fallback:
                    raise
                log.warning("tools.unavailable message=%s error=%s", answer.memory.id, error)
        provider = runtime.provider_of(config.model, config.fallback)
        if provider and provider == runtime.provider_of(self._object_type, config.fallback):
            return await self._by_schema(answer, actions)
        params = await self._models.params(answer, answering=False)
        params.prompt = choice.question(actions)
        names = choice.parse_choice(str(await self._models.use(answer, params)), actions)
        steps = _steps(names, actions)
        _note_calls(answer, [_bare_call(step) for step in steps if step.for_reply])
        return steps

    async def next_steps(self, answer: AnswerState) -> list[PlannedStep]:
        """Return the steps of the model's next round, appended to the record; none: it is over."""
        record = answer.record
        if not tool_rounds.goes_on(record):
            return []
        try:
            return await self._round(answer)
        except ModelUnavailable as error:
            log.warning("tools.unavailable message=%s error=%s", answer.memory.id, error)
            last, step = tool_rounds.ended_early(record, str(error)[:TEXT_MOST])
            record.why.rounds = [*record.why.rounds, last]
            record.steps = [*record.steps, step]
            return [step]

    # --- by tools ---------------------------------------------------------------------------

    async def _round(self, answer: AnswerState) -> list[PlannedStep]:
        record, why = answer.record, answer.record.why
        actions = tool_rounds.offered(why.considered, self._runtime.actions)
        most = tool_rounds.calls_left(record, self._config.tool_rounds)
        params = await self._models.params(answer, answering=False)
        params.system = "\n\n".join(filter(None, (params.system, tool_rounds.HINT)))
        params.tools = tool_rounds.tools(actions)
        params.tool_choice = "auto" if most else "none"
        said = await self._models.use(answer, params)
        one, steps = tool_rounds.plan_round(
            said,
            actions,
            len(record.steps),
            most,
            lambda text: self._persona.reply(answer.memory, text),
        )
        why.rounds = [*why.rounds, one]
        record.steps = [*record.steps, *steps]
        if one.calls:  # a step that runs or sends writes it before; others have no effect
            answer.note_decided()
            answer.recording.write_soon()
        return steps

    # --- by a schema ------------------------------------------------------------------------

    @property
    def _object_type(self) -> str:
        is_small = self._config.model == ModelType.TEXT_SMALL
        return ModelType.OBJECT_SMALL if is_small else ModelType.OBJECT_LARGE

    async def _by_schema(self, answer: AnswerState, actions: Sequence[Any]) -> list[PlannedStep]:
        params = await self._models.params(answer, answering=False)
        params.prompt = choice.question(actions)
        found = await self._object(answer, params, choice.choice_schema(actions))
        names = choice.names_of(found, actions)
        steps = _steps(names, actions)
        calls = list[PlannedCall]()
        for step in steps:
            action = choice.find(step.name, actions) if step.kind is StepKind.RUN else None
            if action is not None and action.parameters:
                params.prompt = choice.parameters_question(action)
                calls.append(await self._call(answer, params, step, action))
            elif step.for_reply:
                calls.append(_bare_call(step))
        _note_calls(answer, calls)
        return steps

    async def _call(
        self, answer: AnswerState, params: GenerateTextParams, step: PlannedStep, action: Any
    ) -> PlannedCall:
        """Return a step's call, with what the model filled in; without that it cannot run."""
        try:
            options = await self._object(answer, params, action.parameters)
        except ModelUnavailable as error:
            step.kind = StepKind.UNKNOWN
            problem = f"{action.name}: its parameters were not filled in: {error}"
            return PlannedCall(step.number, action.name, problem=problem[:TEXT_MOST])
        return PlannedCall(step.number, action.name, options)

    async def _object(
        self, answer: AnswerState, params: GenerateTextParams, schema: dict[str, Any]
    ) -> Any:
        wanted = GenerateObjectParams(**msgspec.structs.asdict(params), schema=schema)
        return await self._models.use(answer, wanted, self._object_type)


def _steps(names: list[str], actions: Sequence[Any]) -> list[PlannedStep]:
    steps = numbered(choice.plan_steps(Content(actions=names), actions))
    for step in steps:
        action = choice.find(step.name, actions) if step.kind is StepKind.RUN else None
        step.for_reply = action is not None and action.for_model
    return or_reply(steps) if steps else []


def _bare_call(step: PlannedStep) -> PlannedCall:
    return PlannedCall(step.number, step.name, has_arguments=False)


def _note_calls(answer: AnswerState, calls: list[PlannedCall]) -> None:
    if calls:
        answer.record.why.rounds = [Round("", calls, is_last=True)]
