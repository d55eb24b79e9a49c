"""Providers that show what they were used for, and forget for whom."""

from collections.abc import AsyncIterator
from typing import Any

from garrison.workers import ModelProvider, Service, idempotent

from .requests import Requests


class CountedService(Service):
    """A service whose requests are made through `Requests`."""

    _requests: Requests

    @idempotent
    async def usage(self) -> list[dict[str, Any]]:
        """Return the use that is not in a database yet, by hour, agent and person.

        Returns:
            Rows of the last 48 hours, the oldest first: `at` is the beginning of the hour in
            seconds since the epoch, `cost` is None where a model has no price.
        """
        return self._requests.usage_rows()

    @idempotent
    async def usage_by_day(self) -> list[dict[str, Any]]:
        """Return the sums of the last 31 days that had requests, and of the present one.

        Returns:
            Rows, the oldest first: `at` is the beginning of the day (UTC) in seconds since the
            epoch; `cost` leaves out the `unpriced` requests, whose model has no price.
        """
        return self._requests.usage_by_day()

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Count a person's requests with no one's; return how many rows that changed."""
        return {"usage": self._requests.forget_person(source, person)}

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of a person's requests."""
        for row in self._requests.usage_rows():
            if (row["source"], row["person"]) == (source, person):
                yield {"store": "usage", **row}


class CountedProvider(CountedService, ModelProvider):
    """The same, of texts, objects or embeddings."""
