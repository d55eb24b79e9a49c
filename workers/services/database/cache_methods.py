"""The service's methods of the cache; see `DatabaseAdapter`."""

from typing import Any

from garrison.workers import idempotent

from .methods import Methods


class CacheMethods(Methods):
    """Values by key."""

    @idempotent
    async def get_cache(self, key: str, agent_id: str | None = None) -> Any:
        """Return the value of a key, or None."""
        return await self._stores.cache.get(self._agent(agent_id), key)

    @idempotent
    async def set_cache(
        self, key: str, value: Any, ttl: float | None = None, agent_id: str | None = None
    ) -> bool:
        """Store a value, for `ttl` seconds or for good; return whether it was stored."""
        return await self._stores.cache.set(self._agent(agent_id), key, value, ttl)

    @idempotent
    async def delete_cache(self, key: str, agent_id: str | None = None) -> bool:
        """Delete a key; return whether it existed."""
        return await self._stores.cache.delete(self._agent(agent_id), key)
