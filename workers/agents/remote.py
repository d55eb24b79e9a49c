"""Components of other workers, as objects with the interface of an author's own.

Their functions take a `runtime` as an author's do, and ignore it: the component runs with its own
worker's runtime.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from garrison.ipc.client import Client
from garrison.ipc.messages import ActionInfo, EvaluatorInfo, ProviderInfo
from garrison.ipc.proxy import Stream

from .absence import Part
from .components import ProviderResult, Refusal, State
from .content import ActionOutput, ActionResult, Content, Memory
from .optional_calls import LeftOut, OptionalCalls


def stream_method(
    client: Client,
    service: str,
    method: str,
    args: tuple[Any, ...],
    item: Any = Any,
    timeout: float | None = None,
) -> Stream:
    """Call a stream that need not be in the service's manifest.

    Args:
        client: The caller's client.
        service: A NAME.
        method: The method's name on the wire.
        args: Positional arguments.
        item: The type that items are converted to.
        timeout: Seconds for each next item; None is the client's default.
    """
    decode = msgspec.msgpack.Decoder(item).decode
    return Stream(client, service, method, args, {}, timeout, decode)


class RemoteAction:
    """An action that runs in its plugin's worker.

    Args:
        client: The caller's client.
        optional: Makes the calls that an answer can do without.
        service: NAME of the service whose worker runs it.
        info: Its entry in the service's manifest.
    """

    def __init__(
        self, client: Client, optional: OptionalCalls, service: str, info: ActionInfo
    ) -> None:
        self._client, self._optional, self.service = client, optional, service
        self.name, self.description, self.priority = info.name, info.description, info.priority
        self.similes, self.examples = list(info.similes), list(info.examples)
        self.idempotent, self.parameters = info.idempotent, info.parameters
        self.for_model = info.for_model
        self.validates = info.validates

    async def validate(
        self, runtime: object, memory: Memory, *, timeout: float | None = None
    ) -> bool:
        """Return whether the action applies to a message; False where it is left out, because its
        service does not run or it was late twice.

        Args:
            runtime: Ignored.
            memory: The message.
            timeout: Seconds; None is the default timeout.

        Raises:
            CallError: The call failed; `CallTimeout` after `timeout`.
        """
        part, args = Part("validate of action", self.name, self.service), (self.name, memory)
        try:
            applies: bool = await self._optional.call(
                part, "$applies", args, bool, timeout, memory.id
            )
        except LeftOut:
            return False
        return applies

    async def handler(
        self,
        runtime: object,
        memory: Memory,
        state: State,
        responses: list[Memory],
        options: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[Content | ActionResult]:
        """Run the action; yield content to send, and results.

        Args:
            runtime: Ignored.
            memory: The message.
            state: The composed context.
            responses: The replies so far, or those that are about to be sent.
            options: For its `parameters`.
            timeout: Seconds for each next value.

        Raises:
            CallError: The call failed.
        """
        # Workers of an earlier release take none.
        given = () if options is None else (dict(options),)
        args = (self.name, memory, state, responses, *given)
        stream = stream_method(self._client, self.service, "$act", args, ActionOutput, timeout)
        try:
            async for output in stream:
                if output.content is not None:
                    yield output.content
                if output.result is not None:
                    yield output.result
        finally:
            await stream.aclose()

    def __repr__(self) -> str:
        return f"<action {self.name} of {self.service}>"


class RemoteProvider:
    """A provider of context that runs in its plugin's worker; arguments as of `RemoteAction`."""

    def __init__(
        self, client: Client, optional: OptionalCalls, service: str, info: ProviderInfo
    ) -> None:
        self._client, self._optional, self.service = client, optional, service
        self.name, self.description, self.position = info.name, info.description, info.position
        self.dynamic, self.private = info.dynamic, info.private

    async def get(
        self, runtime: object, memory: Memory, state: State, *, timeout: float | None = None
    ) -> ProviderResult:
        """Return its context for a message; `runtime` is ignored.

        Raises:
            LeftOut: Its service does not run, or it was late twice.
            CallError: The call failed; `CallTimeout` after `timeout`.
        """
        part, args = Part("provider", self.name, self.service), (self.name, memory, state)
        result: ProviderResult = await self._optional.call(
            part, "$provide", args, ProviderResult, timeout, memory.id
        )
        return result

    def __repr__(self) -> str:
        return f"<provider {self.name} of {self.service}>"


class RemoteGate:
    """A plugin's gate, which runs in its worker.

    Args:
        client: The caller's client.
        optional: Makes the calls that an answer can do without.
        service: NAME of the service whose worker runs it.
        plugin: NAME of the plugin.
    """

    def __init__(self, client: Client, optional: OptionalCalls, service: str, plugin: str) -> None:
        self._client, self._optional = client, optional
        self.service, self.plugin = service, plugin

    async def check(
        self, memory: Memory, *, timeout: float | None = None, optional: bool = False
    ) -> Refusal | None:
        """Check a message; None lets it pass.

        Args:
            memory: The message.
            timeout: Seconds; None is the default timeout.
            optional: Leave it out at once if its service does not run, or if it was late twice.
                Otherwise a service that is restarting has until the timeout.

        Raises:
            LeftOut: It is left out.
            CallError: The call failed, or the gate raised.
        """
        result: Any = Refusal | None
        refusal: Refusal | None
        if optional:
            part = Part("gate", self.plugin, self.service)
            refusal = await self._optional.call(
                part, "$gate", (memory,), result, timeout, memory.id
            )
        else:
            refusal = await self._client.call_method(
                self.service, "$gate", (memory,), result, timeout, idempotent=True
            )
        return refusal

    def __repr__(self) -> str:
        return f"<gate of {self.service}>"


class RemoteEvaluator:
    """An evaluator that runs in its plugin's worker; arguments as of `RemoteAction`."""

    def __init__(
        self, client: Client, optional: OptionalCalls, service: str, info: EvaluatorInfo
    ) -> None:
        self._client, self._optional, self.service = client, optional, service
        self.name, self.description = info.name, info.description
        self.always_run = info.always_run
        self.similes, self.examples = list(info.similes), list(info.examples)

    async def validate(
        self, runtime: object, memory: Memory, state: State, *, timeout: float | None = None
    ) -> bool:
        """Return whether it wants to run; False where it is left out, as of an action. Raises
        CallError; `runtime` is ignored."""
        part = Part("validate of evaluator", self.name, self.service)
        args = (self.name, memory, state)
        try:
            wants: bool = await self._optional.call(part, "$judges", args, bool, timeout, memory.id)
        except LeftOut:
            return False
        return wants

    async def handler(
        self,
        runtime: object,
        memory: Memory,
        state: State,
        responses: list[Memory],
        *,
        timeout: float | None = None,
    ) -> None:
        """Run it. Raises CallError; `runtime` is ignored."""
        args = (self.name, memory, state, responses)
        await self._client.call_method(self.service, "$evaluate", args, None, timeout)

    def __repr__(self) -> str:
        return f"<evaluator {self.name} of {self.service}>"
