"""Components of other workers, as objects with the interface of an author's own.

Their functions take a `runtime` as an author's do, and ignore it: the component runs with its own
worker's runtime.
"""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from garrison.ipc.client import Client
from garrison.ipc.messages import ActionInfo, EvaluatorInfo, ProviderInfo
from garrison.ipc.messages import State as ServiceState
from garrison.ipc.proxy import Stream

from .components import ProviderResult, Refusal, State
from .content import ActionOutput, ActionResult, Content, Memory

BACKOFF_WAIT_S = 1.0  # for a call to a service in backoff that an answer can do without


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


def optional_timeout(client: Client, service: str, timeout: float | None) -> float | None:
    """Return the timeout of a call that an answer can do without: for a service in backoff, at
    most `BACKOFF_WAIT_S`. A service that crashed once restarts at once."""
    entry = client.directory.get(service)
    in_backoff = entry is not None and entry.state is ServiceState.BACKOFF
    return min(timeout, BACKOFF_WAIT_S) if in_backoff and timeout is not None else timeout


class RemoteAction:
    """An action that runs in its plugin's worker.

    Args:
        client: The caller's client.
        service: NAME of the service whose worker runs it.
        info: Its entry in the service's manifest.
    """

    def __init__(self, client: Client, service: str, info: ActionInfo) -> None:
        self._client, self.service = client, service
        self.name, self.description, self.priority = info.name, info.description, info.priority
        self.similes, self.examples = list(info.similes), list(info.examples)
        self.idempotent = info.idempotent

    async def validate(
        self, runtime: object, memory: Memory, *, timeout: float | None = None
    ) -> bool:
        """Return whether the action applies to a message.

        Args:
            runtime: Ignored.
            memory: The message.
            timeout: Seconds, at most `BACKOFF_WAIT_S` while the service is in backoff; None is
                the default timeout.

        Raises:
            CallError: The call failed; `CallTimeout` after `timeout`.
        """
        args = (self.name, memory)
        timeout = optional_timeout(self._client, self.service, timeout)
        applies: bool = await self._client.call_method(
            self.service, "$applies", args, bool, timeout, idempotent=True
        )
        return applies

    async def handler(
        self,
        runtime: object,
        memory: Memory,
        state: State,
        responses: list[Memory],
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[Content | ActionResult]:
        """Run the action; yield content to send, and results.

        Args:
            runtime: Ignored.
            memory: The message.
            state: The composed context.
            responses: The replies so far, or those that are about to be sent.
            timeout: Seconds for each next value.

        Raises:
            CallError: The call failed.
        """
        args = (self.name, memory, state, responses)
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

    def __init__(self, client: Client, service: str, info: ProviderInfo) -> None:
        self._client, self.service = client, service
        self.name, self.description, self.position = info.name, info.description, info.position
        self.dynamic, self.private = info.dynamic, info.private

    async def get(
        self, runtime: object, memory: Memory, state: State, *, timeout: float | None = None
    ) -> ProviderResult:
        """Return its context for a message. Raises CallError; `runtime` is ignored."""
        args = (self.name, memory, state)
        timeout = optional_timeout(self._client, self.service, timeout)
        result: ProviderResult = await self._client.call_method(
            self.service, "$provide", args, ProviderResult, timeout, idempotent=True
        )
        return result

    def __repr__(self) -> str:
        return f"<provider {self.name} of {self.service}>"


class RemoteGate:
    """A plugin's gate, which runs in its worker.

    Args:
        client: The caller's client.
        service: NAME of the service whose worker runs it.
        plugin: NAME of the plugin.
    """

    def __init__(self, client: Client, service: str, plugin: str) -> None:
        self._client, self.service, self.plugin = client, service, plugin

    @property
    def is_running(self) -> bool:
        """Return whether its service runs now."""
        entry = self._client.directory.get(self.service)
        return entry is not None and entry.state is ServiceState.RUNNING

    async def ask(self, memory: Memory, *, timeout: float | None = None) -> Refusal | None:
        """Ask about a message; None lets it pass.

        Args:
            memory: The message.
            timeout: Seconds; None is the default timeout.

        Raises:
            CallError: The call failed, or the gate raised.
        """
        refusal: Refusal | None = await self._client.call_method(
            self.service, "$gate", (memory,), Refusal | None, timeout, idempotent=True
        )
        return refusal

    def __repr__(self) -> str:
        return f"<gate of {self.service}>"


class RemoteEvaluator:
    """An evaluator that runs in its plugin's worker; arguments as of `RemoteAction`."""

    def __init__(self, client: Client, service: str, info: EvaluatorInfo) -> None:
        self._client, self.service = client, service
        self.name, self.description = info.name, info.description
        self.always_run = info.always_run
        self.similes, self.examples = list(info.similes), list(info.examples)

    async def validate(
        self, runtime: object, memory: Memory, state: State, *, timeout: float | None = None
    ) -> bool:
        """Return whether it wants to run. Raises CallError; `runtime` is ignored."""
        args = (self.name, memory, state)
        timeout = optional_timeout(self._client, self.service, timeout)
        wants: bool = await self._client.call_method(
            self.service, "$judges", args, bool, timeout, idempotent=True
        )
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
