"""A service that asks models in a test's name, as any service may."""

from collections.abc import AsyncIterator
from typing import Any

from garrison.workers import Plugin, Service


class AskerService(Service):
    """Hands questions on."""

    service_type = "asker"

    async def sees(self, name: str, generation: int) -> bool:
        """Return whether this process knows that incarnation."""
        entry = self.runtime.client.directory.get(name)
        return entry is not None and bool(entry.token) and entry.generation == generation

    async def use_model(self, model_type: str, params: Any, provider: str | None = None) -> Any:
        """Return what a model answers."""
        return await self.runtime.use_model(model_type, params, provider)

    async def use_model_stream(self, model_type: str, params: Any) -> AsyncIterator[str]:
        """Yield what a model answers, in pieces."""
        async for piece in self.runtime.use_model_stream(model_type, params):
            yield piece


plugin = Plugin(name="asker", services=[AskerService])
