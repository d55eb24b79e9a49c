"""The hooks service: delivers what happens in the host to commands, webhooks and services.

`journal` reads the host's events, `kinds` decides what they are, `throttle` what is held back,
`delivery` delivers. What was read and what waits is one file, replaced as a whole: a killed process
goes on from there, and what it was delivering is delivered again.
"""

import logging
from typing import Any, Self

from garrison.ipc import RetryLater
from garrison.workers import DeadLetter, Plugin, Runtime, Service

from .config import HooksConfig
from .delivery import DeliveryFailed
from .payload import SENTENCES, late
from .runner import Runner

log = logging.getLogger(__name__)

RETRY_S, RETRY_MOST_S = 2.0, 600.0  # between the mailbox's deliveries; doubled each time


class HooksService(Service):
    """Delivers what happens in the host: to commands, webhooks and services."""

    service_type = "hooks"
    capability_description = "Delivers what happens in the host to commands, webhooks and services"
    Config = HooksConfig

    config: HooksConfig
    _runner: Runner

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._runner = Runner(runtime, service.config.hooks)
        await service._runner.load()
        runtime.spawn(service._runner.run(), "hooks", True)
        return service

    async def ls(self) -> dict[str, Any]:
        """Return every hook with its last delivery, for `garrison hooks`."""
        return {"hooks": self._runner.listed()}

    async def test(self, name: str, on: str = "") -> dict[str, Any]:
        """Deliver a sample by one hook, now and once.

        Args:
            name: NAME of the hook.
            on: What the sample is of; empty: the first that the hook is run on.

        Raises:
            LookupError: There is no such hook.
            ValueError: There is no such kind.
        """
        hook = self.config.hooks.get(name)
        if hook is None:
            known = ", ".join(self.config.hooks) or "none"
            raise LookupError(f"no hook {name}; there are: {known}")
        if on and on not in SENTENCES:
            raise ValueError(f"no kind {on}; there are: {', '.join(SENTENCES)}")
        return await self._runner.test(name, on or hook.on[0])

    async def deliver(self, name: str, body: dict[str, Any]) -> str:
        """Deliver what could not be delivered at once; the mailbox calls it.

        Args:
            name: NAME of the hook.
            body: The JSON.

        Raises:
            RetryLater: It was not delivered.
        """
        message = self.runtime.message
        if message is None:
            raise ValueError("the mailbox alone calls this; try: garrison hooks test NAME")
        if name not in self.config.hooks:
            log.warning("hook.removed hook=%s on=%s", name, body.get("on"))
            return "there is no such hook any more"
        try:
            return await self._runner.deliver(name, late(body))
        except DeliveryFailed as error:
            wait = min(RETRY_S * 2 ** min(message.attempt - 1, 16), RETRY_MOST_S)
            raise RetryLater(wait, f"hook {name}: {error}") from error

    async def dead_letter(self, mail: DeadLetter, reason: str) -> None:
        """Note that the mailbox has given up a delivery."""
        if mail.method == "deliver" and mail.args:
            self._runner.given_up(str(mail.args[0]), reason)

    async def stop(self) -> None:
        """Save how far the events were read."""
        await self._runner.save()


plugin = Plugin(name="hooks", services=[HooksService], preload=["garrison.workers.services.hooks"])
