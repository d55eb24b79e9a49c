"""The texts of a server's resources that each answer of the agent is given; kept, and bounded."""

import logging
from fnmatch import fnmatchcase
from typing import Any

from .connection import Connection
from .errors import McpFailed
from .results import cut_bytes, resource_text

log = logging.getLogger(__name__)

RESOURCES_MOST = 32  # of one server


class ResourceTexts:
    """The resources that a server's config chooses.

    Args:
        chosen: URIs, or patterns of URIs that the server lists.
        most: Bytes of their texts together.
    """

    def __init__(self, chosen: list[str], most: int) -> None:
        self._chosen, self._most = chosen, most
        self._texts: dict[str, str] = {}  # by URI
        self._titles: dict[str, str] = {}

    @property
    def uris(self) -> list[str]:
        """Return the URIs of those that are there."""
        return list(self._texts)

    @property
    def text(self) -> str:
        """Return their texts, each behind its name; empty if there are none."""
        parts = [
            f"{self._titles.get(uri) or uri}:\n{text}" for uri, text in self._texts.items() if text
        ]
        return cut_bytes("\n\n".join(parts), self._most)

    async def read(self, connection: Connection, only: set[str] | None = None) -> None:
        """Read them. What cannot be read keeps its former text.

        Args:
            connection: The server's.
            only: URIs of those that have changed; None: list and read all.
        """
        if only is None:
            listed = await connection.resources()
            self._titles = {one["uri"]: _title(one) for one in listed}
            uris = self._choose(list(self._titles))
            self._texts = {uri: self._texts.get(uri, "") for uri in uris}
        for uri in self._texts:
            if only is None or uri in only:
                await self._read(connection, uri)

    def _choose(self, listed: list[str]) -> list[str]:
        found = [uri for uri in self._chosen if uri in listed or not set(uri) & set("*?[")]
        found += [
            uri for uri in listed if any(fnmatchcase(uri, pattern) for pattern in self._chosen)
        ]
        return list(dict.fromkeys(found))[:RESOURCES_MOST]

    async def _read(self, connection: Connection, uri: str) -> None:
        try:
            contents = await connection.read_resource(uri)
        except McpFailed as error:
            if connection.lost:
                raise
            log.warning("mcp.resource_not_read uri=%s error=%s", uri, error)
            return
        self._texts[uri] = resource_text(contents, self._most)


def _title(listed: dict[str, Any]) -> str:
    return str(listed.get("title") or listed.get("name") or "")[:200]
