"""The agent's requests to models: their parameters, and what is recorded of each request.

Durations are seconds.
"""

import time
from typing import Any

from garrison.workers import GenerateTextParams, ModelTrace, ModelUnavailable, Runtime

from . import prompt, tool_rounds
from .config import Config
from .history import ConversationHistory
from .persona import Persona
from .record.rows import ModelUse
from .response_sender import AnswerState

TEXT_MOST = 8192  # characters of an error that are recorded


class ModelCalls:
    """Makes the requests of an answer, one after the other.

    Args:
        runtime: The agent's.
        config: The model, and the time that each provider has.
        history: Earlier messages.
        persona: The character, as prompts show it.
    """

    def __init__(
        self, runtime: Runtime, config: Config, history: ConversationHistory, persona: Persona
    ) -> None:
        self._runtime, self._config = runtime, config
        self._history, self._persona = history, persona

    async def params(self, answer: AnswerState, answering: bool = True) -> GenerateTextParams:
        """Return the parameters of a request about the message and what was done so far.

        Args:
            answer: The message's.
            answering: Whether the model answers; the character's template leads it astray
                otherwise.
        """
        record = answer.record
        conversation = await self._history.conversation(answer.memory)
        if record.why.rounds:  # what actions sent is in their results
            sent = {part.memory.id for part in record.parts}
            conversation = [one for one in conversation if one.id not in sent]
        provided = answer.state.text if answer.state else ""
        params = await self._persona.params(conversation, provided, answering)
        params.messages = [*params.messages, *tool_rounds.conversation(record)]
        return params

    async def use(
        self, answer: AnswerState, params: GenerateTextParams, model_type: str = ""
    ) -> Any:
        """Make a request, and note in the record how it went.

        Args:
            answer: The message's.
            params: The request.
            model_type: The requested type; empty is the config's model.

        Raises:
            ModelUnavailable: No provider gave an answer.
        """
        config, began = self._config, time.monotonic()
        use, why = ModelUse(model_type or config.model), answer.record.why
        why.models = [*why.models, use]
        if self._runtime.record_values:
            why.prompt = prompt.recorded(params, self._runtime.redacted)
        trace = ModelTrace()
        try:
            with trace:
                return await self._runtime.use_model(
                    use.model_type, params, timeout=config.model_timeout, fallback=config.fallback
                )
        except ModelUnavailable as error:
            found: dict[str, Exception] = getattr(error, "errors", {})
            use.errors = {
                name: (str(one) or type(one).__name__)[:TEXT_MOST] for name, one in found.items()
            }
            raise
        finally:
            use.seconds = time.monotonic() - began
            use.service, use.tokens = trace.service, trace.tokens
            use.errors = {**trace.errors, **use.errors}
