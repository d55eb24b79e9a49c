"""Checks a provider's key. Where it is refused and nothing else answers, the service ends for good.

Durations are seconds.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from garrison.ipc import PermanentFailure, State
from garrison.workers import Runtime

from .failures import Rule, model_error
from .server_client import ServerClient

CHECK_S = 20.0  # for the server to answer


class KeyCheck:
    """Asks the server for its models, which needs the key and costs nothing.

    Args:
        runtime: The provider's.
        client: Its client.
        rules: What its library's exceptions mean.
    """

    def __init__(self, runtime: Runtime, client: ServerClient, rules: tuple[Rule, ...]) -> None:
        self._runtime, self._client, self._rules = runtime, client, rules
        self._task: asyncio.Task[None] | None = None

    def at_start(self, wanted: bool) -> None:
        """Check what the config has; ask the server only where that is wanted.

        Raises:
            PermanentFailure: There is no key, and no other service answers.
        """
        if not self._client.has_key:
            if not self._others():
                raise PermanentFailure(self._client.no_key)
        elif wanted:
            self._begin()

    def refused(self) -> None:
        """Check the key again, because a request was refused; do so if nothing else answers."""
        if self._client.has_key and not self._others():
            self._begin()

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._runtime.spawn(self._check(), "key", essential=False)

    def _others(self) -> bool:
        return answers_elsewhere(self._runtime.name, self._runtime.client.directory)

    async def _check(self) -> None:
        """Ask the server. What is no refusal shows nothing about the key."""
        try:
            async with asyncio.timeout(CHECK_S):
                await self._client.get().models.list()
        except Exception as error:
            meant = model_error(error, self._rules)
            if meant is None or meant.kind != "auth":
                return
            text = f"its key is refused: {meant.reason}. {self._client.advice}"
            self._runtime.warn("key", text)
            if not self._others():
                raise PermanentFailure(text) from error
        else:
            self._runtime.warn("key", None)


def answers_elsewhere(name: str, entries: Iterable[Any]) -> bool:
    """Return whether a service other than this one offers one of its models, and runs or will.

    Args:
        name: NAME of this service.
        entries: The directory's, of all services.
    """
    every = list(entries)
    own = {info.model_type for one in every if one.name == name for info in one.manifest.models}
    return any(
        info.model_type in own
        for one in every
        if one.name != name and one.wanted and one.state is not State.FAILED
        for info in one.manifest.models
    )
