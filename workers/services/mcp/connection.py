"""One connection to a server, by the library's client: its requests, and its notices of changes.

It is opened and closed by one task; requests come from any.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost

from .config import TOOLS_MOST, ServerConfig
from .errors import McpFailed, in_one_line
from .http import HttpClient
from .line_log import LineLog
from .results import redacted
from .stdio import StartProcess, StdioServer

PAGES_MOST = 50  # of a list
LISTED_MOST = 1000  # resources, prompts
RELISTEN_S, RELISTEN_MOST_S = 1.0, 60.0
CLOSED, ENDED = "Connection closed", "Session terminated"  # the library's texts
UNREAD = "Failed to parse JSON response: "
GONE = "the connection is closed"
REFUSED = "Server returned an error response"
TOOLS, RESOURCES, LOST = "tools", "resources", "lost"  # what a notice of a change is about

# The library logs tracebacks of errors that its callers get, too.
for library in ("mcp", "httpx2"):
    logging.getLogger(library).setLevel(logging.CRITICAL)

Sampling = Callable[[Any], Awaitable[Any]]


class Connection:
    """A client of one server.

    Args:
        name: NAME of the server.
        server: Its config.
        changed: Called with what has changed: `TOOLS`, `RESOURCES`, a resource's URI; with `LOST`
            where the connection has ended.
        redact: Replaces the service's secrets in a text: a server may send them back.
        sampling: Answers the server's requests for a model; None: it may make none.
    """

    def __init__(
        self,
        name: str,
        server: ServerConfig,
        changed: Callable[[str], None],
        redact: Callable[[str], str],
        sampling: Sampling | None = None,
    ) -> None:
        self._name, self._server, self._changed = name, server, changed
        self._redact = redact
        self._sampling = sampling
        self._client: Client
        self._process: StdioServer | None = None
        self._http: HttpClient | None = None
        self.lost = ""  # why it cannot be used any more

    # --- its life -----------------------------------------------------------------------------

    @asynccontextmanager
    async def over_stdio(
        self, environment: Mapping[str, str], start: StartProcess, log: LineLog
    ) -> AsyncIterator[None]:
        """Start the server and talk to it.

        Raises:
            Exception: It cannot be started, or speaks no MCP.
        """
        self._process = StdioServer(self._server, environment, start, log, self._has_ended)
        async with self._open(self._process.streams()):
            yield

    @asynccontextmanager
    async def over_http(self, headers: Mapping[str, str]) -> AsyncIterator[None]:
        """Talk to a server at an address; raises as `over_stdio` does."""
        self._http = HttpClient(self._server, headers)
        async with self._http.create() as client:
            streams = streamable_http_client(
                self._server.url,
                http_client=client,
                max_sse_event_size=self._server.answer_bytes,
            )
            async with self._open(streams):
                yield

    @asynccontextmanager
    async def _open(self, streams: Any) -> AsyncIterator[None]:
        self._client = Client(
            streams,
            client_info=types.Implementation(name="garrison", version=version("garrison")),
            message_handler=self._noticed,
            sampling_callback=None if self._sampling is None else self._sample,
            cache=None,
        )
        async with self._client:
            yield

    def _has_ended(self, why: str) -> None:
        self.lost = why
        self._changed(LOST)

    def give_up(self, why: str) -> None:
        """Note that the server no longer answers: it is ended without waiting for it."""
        self.lost = self.lost or why
        if self._process is not None:
            self._process.patience = 0.0

    async def _noticed(self, message: Any) -> None:
        match message:
            case types.ToolListChangedNotification():
                self._changed(TOOLS)
            case types.ResourceListChangedNotification():
                self._changed(RESOURCES)
            case types.ResourceUpdatedNotification():
                self._changed(str(message.params.uri))
            case _:
                await asyncio.sleep(0)

    async def _sample(self, context: Any, params: Any) -> Any:
        assert self._sampling is not None
        try:
            return await self._sampling(params)
        except Exception as error:  # noqa: BLE001 (the server gets it)
            return types.ErrorData(code=types.INTERNAL_ERROR, message=in_one_line(error))

    async def listen(self, uris: list[str]) -> None:
        """Request notices of changes; where the server sends them only on request, until the end.

        Args:
            uris: Of the resources whose changes matter.
        """
        wait = RELISTEN_S
        try:
            while True:
                with contextlib.suppress(SubscriptionLost):
                    async with self._client.listen(
                        tools_list_changed=True,
                        resources_list_changed=bool(self._server.resources),
                        resource_subscriptions=uris,
                    ) as events:
                        async for _ in events:  # the client's handler is called too
                            pass
                await asyncio.sleep(wait)
                wait = min(wait * 2, RELISTEN_MOST_S)
                self._changed(TOOLS)  # what happened meanwhile is not sent again
                self._changed(RESOURCES)
        except ListenNotSupportedError:
            await self._subscribe(uris)
        except MCPError:  # it has none: its lists are read again from time to time
            return

    async def _subscribe(self, uris: list[str]) -> None:
        offered = self._client.server_capabilities.resources
        if offered is None or not offered.subscribe:
            return
        for uri in uris:
            request = types.SubscribeRequest(params=types.SubscribeRequestParams(uri=uri))
            with contextlib.suppress(MCPError):
                await self._client.session.send_request(request, types.EmptyResult)

    @property
    def about(self) -> str:
        """Return what the server calls itself."""
        info = self._client.server_info
        return "" if info is None else f"{info.name} {info.version}".strip()[:80]

    @property
    def pid(self) -> int:
        """Return the pid of the server's process; 0 if it has none here."""
        return self._process.pid if self._process is not None else 0

    @property
    def refusal(self) -> str:
        """Return the last HTTP status that refused a request."""
        return self._http.refusal if self._http is not None else ""

    # --- requests -----------------------------------------------------------------------------

    async def tools(self) -> list[dict[str, Any]]:
        """Return the server's tools."""
        if self._client.server_capabilities.tools is None:
            return []
        return await self._pages(self._client.list_tools, "tools", TOOLS_MOST)

    async def resources(self) -> list[dict[str, Any]]:
        """Return the server's resources."""
        if self._client.server_capabilities.resources is None:
            return []
        return await self._pages(self._client.list_resources, "resources", LISTED_MOST)

    async def prompts(self) -> list[dict[str, Any]]:
        """Return the server's prompts."""
        if self._client.server_capabilities.prompts is None:
            return []
        return await self._pages(self._client.list_prompts, "prompts", LISTED_MOST)

    async def call_tool(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the result of a tool."""
        return await self._plain(self._client.call_tool(tool, arguments))

    async def read_resource(self, uri: str) -> list[dict[str, Any]]:
        """Return the contents of a resource."""
        found: list[dict[str, Any]] = (await self._plain(self._client.read_resource(uri)))[
            "contents"
        ]
        return found

    async def get_prompt(self, prompt: str, arguments: dict[str, str]) -> dict[str, Any]:
        """Return a prompt with its arguments filled in."""
        return await self._plain(self._client.get_prompt(prompt, arguments))

    async def _pages(self, request: Any, key: str, most: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        for _ in range(PAGES_MOST):
            page = await self._plain(request(cursor=cursor))
            found += page.get(key, [])
            cursor = page.get("nextCursor")
            if not cursor or len(found) >= most:
                break
        return found[:most]

    async def _plain(self, request: Awaitable[Any]) -> dict[str, Any]:
        """Return an answer as plain data.

        Raises:
            McpFailed: The server refused, or the connection is lost.
        """
        try:
            answer = await request
        except MCPError as error:
            raise self._failure(error) from error
        except Exception as error:
            text = f"its answer is not as the protocol has it: {in_one_line(error)}"
            raise McpFailed(text, server=self._name) from error
        plain: dict[str, Any] = answer.model_dump(mode="json", by_alias=True, exclude_none=True)
        for key in ("resultType", "_meta"):
            plain.pop(key, None)
        cleaned: dict[str, Any] = redacted(plain, self._redact)
        return cleaned

    def _failure(self, error: MCPError) -> McpFailed:
        text, code = error.message.removeprefix(UNREAD)[:500], error.code
        if text == CLOSED:
            self.lost = self.lost or GONE
            return McpFailed(self.lost, server=self._name, code=code, is_known=False)
        if text == ENDED:
            self.lost = "it has ended the session"
            return McpFailed(self.lost, server=self._name, code=code)
        if text == REFUSED and self.refusal:
            text = self.refusal
        return McpFailed(text, server=self._name, code=code)
