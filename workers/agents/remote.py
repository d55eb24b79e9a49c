"""Other workers' actions, providers and evaluators, as objects that look like an author's own."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from garrison.ipc.messages import ActionInfo, EvaluatorInfo, ProviderInfo

from .components import ProviderResult, State
from .content import ActionResult, Content, Memory
from .internal_methods import ActionOutput

if TYPE_CHECKING:
    from .api import AgentApi


class RemoteAction:
    """An action, which runs in its plugin's worker.

    Args:
        service: NAME of the service whose worker that is.
        info: What its manifest says of it.
    """

    def __init__(self, service: str, info: ActionInfo) -> None:
        self.service = service
        self.name, self.description, self.priority = info.name, info.description, info.priority
        self.similes, self.examples = list(info.similes), list(info.examples)

    async def validate(
        self, runtime: "AgentApi", memory: Memory, *, timeout: float | None = None
    ) -> bool:
        """Tell whether it applies to a message. Raises CallError; past `timeout` CallTimeout."""
        args = (self.name, memory)
        applies: bool = await runtime.ask(
            self.service, "$applies", args, bool, timeout, idempotent=True
        )
        return applies

    async def handler(
        self,
        runtime: "AgentApi",
        memory: Memory,
        state: State,
        responses: list[Memory],
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[Content | ActionResult]:
        """Run it; yield what is to be said, and results. Raises CallError.

        Args:
            runtime: The caller's.
            memory: The message.
            state: What is known.
            responses: What was said to the message so far, or is to be.
            timeout: Seconds for each next value.
        """
        args = (self.name, memory, state, responses)
        stream = runtime.ask_stream(self.service, "$act", args, ActionOutput, timeout)
        try:
            async for made in stream:
                if made.content is not None:
                    yield made.content
                if made.result is not None:
                    yield made.result
        finally:
            await stream.aclose()

    def __repr__(self) -> str:
        return f"<action {self.name} of {self.service}>"


class RemoteProvider:
    """A provider of context, which runs in its plugin's worker."""

    def __init__(self, service: str, info: ProviderInfo) -> None:
        self.service = service
        self.name, self.description, self.position = info.name, info.description, info.position
        self.dynamic, self.private = info.dynamic, info.private

    async def get(
        self, runtime: "AgentApi", memory: Memory, state: State, *, timeout: float | None = None
    ) -> ProviderResult:
        """Return what it has to say. Raises CallError."""
        args = (self.name, memory, state)
        told: ProviderResult = await runtime.ask(
            self.service, "$provide", args, ProviderResult, timeout, idempotent=True
        )
        return told

    def __repr__(self) -> str:
        return f"<provider {self.name} of {self.service}>"


class RemoteEvaluator:
    """An evaluator, which runs in its plugin's worker."""

    def __init__(self, service: str, info: EvaluatorInfo) -> None:
        self.service = service
        self.name, self.description = info.name, info.description
        self.always_run = info.always_run
        self.similes, self.examples = list(info.similes), list(info.examples)

    async def validate(
        self, runtime: "AgentApi", memory: Memory, state: State, *, timeout: float | None = None
    ) -> bool:
        """Tell whether it is to run. Raises CallError."""
        args = (self.name, memory, state)
        judges: bool = await runtime.ask(
            self.service, "$judges", args, bool, timeout, idempotent=True
        )
        return judges

    async def handler(
        self,
        runtime: "AgentApi",
        memory: Memory,
        state: State,
        responses: list[Memory],
        *,
        timeout: float | None = None,
    ) -> None:
        """Run it. Raises CallError."""
        args = (self.name, memory, state, responses)
        await runtime.ask(self.service, "$evaluate", args, None, timeout)

    def __repr__(self) -> str:
        return f"<evaluator {self.name} of {self.service}>"
