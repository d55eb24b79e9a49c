"""The mcp service: tools, resources and prompts of Model Context Protocol servers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Self

from garrison.workers import (
    Action,
    ActionResult,
    Content,
    Memory,
    Plugin,
    Provider,
    Runtime,
    Service,
    State,
    idempotent,
    load_library,
)

from . import config as keys
from .child_environment import missing_secrets, unsendable
from .errors import McpFailed, McpUnavailable
from .results import ToolResult, as_action_result, resource_text, result_of
from .tools import ToolInfo, action_name, with_actions

if TYPE_CHECKING:
    from .entry import Entry

REQUIREMENT = "mcp>=2.3"
STOP_S = 8.0  # for all servers to end


class McpService(Service):
    """A client of Model Context Protocol servers."""

    service_type = "mcp"
    capability_description = "Tools, resources and prompts of Model Context Protocol servers"

    class Config(keys.Config):
        """`[services.mcp.config]`."""

    config: Config
    _entries: "dict[str, Entry]"
    _tools: list[ToolInfo]

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        load_library("mcp", REQUIREMENT)
        from .entry import Entry  # they import the library
        from .sampling import sample

        service._tools = []
        service._entries, service._running = {}, []
        for name, server in service.config.servers.items():
            secrets = {one: str(runtime.get_setting(one) or "").strip() for one in server.secrets}
            entry = Entry(
                name,
                server,
                secrets,
                service.config.probe,
                service._show,
                runtime.redacted,
                lambda params: sample(runtime, params),
                runtime.process,
            )
            service._entries[name] = entry
            entry.problem = secrets_problem(server, secrets, runtime.name)
            if entry.problem:
                entry.tried.set()  # nothing changes that while this worker runs
                continue
            service._running.append(service.spawn(entry.run(), f"mcp server {name}", False))
        service._offer_resources()
        await service._wait()
        service._show()
        service.every(1.0, service._count, while_paused=True)
        return service

    async def _wait(self) -> None:
        """Wait for the servers' first connections, for some seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.wait):
                for entry in self._entries.values():
                    await entry.tried.wait()

    async def stop(self) -> None:
        """End the connections, and the servers that were started."""
        for entry in self._entries.values():
            entry.close()
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_S)

    # --- what the agent has -------------------------------------------------------------------

    def _show(self) -> None:
        """Offer the tools that there are now, and show which servers are not connected."""
        self._offer_tools()
        for name, entry in self._entries.items():
            text = None
            if not entry.is_connected:
                why = entry.problem or "it has not answered yet"
                text = f"the server {name} is not connected: {why}"
            self.runtime.warn(f"server {name}", text)
        self._count()

    def _offer_tools(self) -> None:
        tools = with_actions(tool for entry in self._entries.values() for tool in entry.tools)
        before = {one.action: one for one in self._tools if one.action}
        now = {one.action: one for one in tools if one.action}
        for action in before.keys() - now.keys():
            self.runtime.unregister_action(action)
        for action, tool in now.items():
            if before.get(action) != tool:
                self.runtime.register_action(self._action(tool))
        self._tools = tools

    def _action(self, tool: ToolInfo) -> Action:
        entry = self._entries[tool.server]

        async def handler(
            runtime: Runtime,
            memory: Memory,
            state: State,
            responses: list[Memory],
            options: dict[str, Any] | None,
        ) -> AsyncIterator[Content | ActionResult]:
            lacking = [one for one in tool.parameters.get("required", []) if options is None]
            if lacking:
                error = f"{tool.action} needs {', '.join(map(str, lacking))}"
                yield ActionResult(success=False, error=error, action=tool.action)
                return
            try:
                result = await self._call(entry, tool, dict(options or {}))
            except (McpFailed, McpUnavailable) as error:
                yield ActionResult(success=False, error=error.reason, action=tool.action)
                return
            if result.attachments and entry.server.attachments:
                yield Content(attachments=result.attachments)
            yield as_action_result(result, tool.action)

        return Action(
            tool.action,
            tool.description or f"The tool {tool.name} of {tool.server}",
            validate=lambda runtime, memory: entry.is_connected,
            handler=idempotent(handler) if tool.idempotent else handler,
            parameters=tool.parameters,
            for_model=True,
        )

    def _offer_resources(self) -> None:
        for name, entry in self._entries.items():
            if entry.server.resources:
                provider = Provider(
                    action_name(name, "resources"),
                    f"Resources of the server {name}",
                    get=lambda runtime, memory, state, entry=entry: entry.resources.text,
                )
                self.runtime.register_provider(provider)

    def _count(self) -> None:
        entries = self._entries.values()
        self.runtime.report(
            servers=len(entries),
            connected=sum(one.is_connected for one in entries),
            tools=sum(bool(one.action) for one in self._tools),
            withheld=sum(bool(one.withheld) for one in self._tools),
            calls=sum(one.calls for one in entries),
            failures=sum(one.failures for one in entries),
            timeouts=sum(one.timeouts for one in entries),
            reconnects=sum(max(one.connects - 1, 0) for one in entries),
        )

    # --- for other services -------------------------------------------------------------------

    async def servers(self) -> list[dict[str, Any]]:
        """Return each server: its name, whether it is connected, why not, and its counts."""
        return [
            {
                "name": name,
                "connected": one.is_connected,
                "problem": one.problem,
                "pid": one.pid,
                "tools": len(one.tools),
                "calls": one.calls,
                "failures": one.failures,
                "timeouts": one.timeouts,
                "connects": one.connects,
            }
            for name, one in self._entries.items()
        ]

    async def tools(self, server: str = "") -> list[ToolInfo]:
        """Return the tools of all servers, or of one; also those that are not offered."""
        if server:
            self._entry(server)
        return [one for one in self._tools if server in {"", one.server}]

    async def call_tool(
        self, server: str, tool: str, arguments: dict[str, Any] | None = None
    ) -> ToolResult:
        """Call a tool, and return its result.

        Raises:
            LookupError: There is no such server, or no such tool.
            PermissionError: The tool is not offered.
            McpUnavailable: The server is not connected; nothing was done.
            McpFailed: The server refused, or gave no answer.
        """
        entry = self._entry(server)
        known = {one.name: one for one in self._tools if one.server == server}
        if tool not in known:
            if not entry.is_connected and not known:
                known[tool] = ToolInfo(server, tool)  # the call says why it is not connected
            else:
                there = ", ".join(known) or "none"
                raise LookupError(f"the server {server} has no tool {tool!r:.80}; it has {there}")
        if known[tool].withheld:
            raise PermissionError(
                f"the tool {tool} of {server} is not offered: {known[tool].withheld}"
            )
        return await self._call(entry, known[tool], arguments or {})

    async def read_resource(self, server: str, uri: str) -> str:
        """Return the text of a resource; raises as `call_tool` does."""
        entry = self._entry(server)
        contents = await entry.request(lambda one: one.read_resource(uri), self._seconds(entry))
        return resource_text(contents, entry.server.answer_bytes)

    async def resources(self, server: str) -> list[dict[str, Any]]:
        """Return the resources that a server lists; raises as `call_tool` does."""
        entry = self._entry(server)
        found: list[dict[str, Any]] = await entry.request(
            lambda one: one.resources(), self._seconds(entry)
        )
        return found

    async def prompts(self, server: str) -> list[dict[str, Any]]:
        """Return the prompts that a server lists; raises as `call_tool` does."""
        entry = self._entry(server)
        found: list[dict[str, Any]] = await entry.request(
            lambda one: one.prompts(), self._seconds(entry)
        )
        return found

    async def get_prompt(
        self, server: str, prompt: str, arguments: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return a prompt's messages; raises as `call_tool` does."""
        entry = self._entry(server)
        found: dict[str, Any] = await entry.request(
            lambda one: one.get_prompt(prompt, arguments or {}), self._seconds(entry)
        )
        return found

    async def _call(self, entry: "Entry", tool: ToolInfo, arguments: dict[str, Any]) -> ToolResult:
        raw = await entry.request(
            lambda one: one.call_tool(tool.name, arguments), self._seconds(entry), tool.idempotent
        )
        return result_of(raw)

    def _entry(self, server: str) -> "Entry":
        if server not in self._entries:
            there = ", ".join(self._entries) or "none"
            raise LookupError(f"there is no server {server!r:.40}; the config has {there}")
        return self._entries[server]

    def _seconds(self, entry: "Entry") -> float:
        return float(min(entry.server.timeout, self.runtime.time_left))


def secrets_problem(server: keys.ServerConfig, secrets: dict[str, str], service: str) -> str:
    """Return why a server cannot be given its secrets; empty if it can."""
    if missing := missing_secrets(server, secrets):
        names = ", ".join(missing)
        return (
            f"{names} is not set: name it in the `secrets` of [services.{service}] too, and set it"
        )
    if bad := unsendable(server, secrets):
        return f"{', '.join(bad)} has characters that cannot be sent, such as a line break"
    return ""


__all__ = ["McpFailed", "McpService", "McpUnavailable", "ToolInfo", "ToolResult", "plugin"]

plugin = Plugin(
    name="mcp",
    services=[McpService],
    preload=[
        "mcp",
        *(f"garrison.workers.services.mcp.{name}" for name in ("sampling", "entry", "warm")),
    ],
)
