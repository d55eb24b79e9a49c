"""A server of the Model Context Protocol by the library's own `MCPServer`.

`python mcp_server.py` talks on its standard streams, `python mcp_server.py PORT [TOKEN]` over HTTP;
with a token it refuses requests that do not bear it.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolAnnotations

server = MCPServer("of-the-library")
state = {"note": "nothing"}


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("no such thing")


@server.tool()
async def hang() -> str:
    """Give no answer."""
    await asyncio.Event().wait()
    return ""


@server.tool()
def die() -> str:
    """End the server."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@server.tool()
def huge() -> str:
    """Give a long answer."""
    return "x" * 3_000_000


@server.tool()
async def learn(name: str, ctx: Context[Any, Any]) -> str:
    """Have one more tool."""
    server.add_tool(lambda: "new", name=name, description="It is new")
    await ctx.notify_tools_changed()
    return "learned"


@server.tool()
async def rewrite(text: str, ctx: Context[Any, Any]) -> str:
    """Change the resource."""
    state["note"] = text
    await ctx.notify_resource_updated("notes://today")
    return "rewritten"


@server.tool()
async def ask(question: str, ctx: Context[Any, Any]) -> str:
    """Ask the user, by elicitation."""
    from pydantic import BaseModel

    class Answer(BaseModel):
        yes: bool

    return str(await ctx.elicit(question, Answer))


@server.resource("notes://today")
def today() -> str:
    """Today's note."""
    return state["note"]


@server.prompt()
def greet(name: str) -> str:
    """Greet someone."""
    return f"Greet {name}"


class Guard:
    """Refuses requests without the token."""

    def __init__(self, app: Any, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"authorization") != self._token.encode():
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)


async def serve_http(port: int, token: str) -> None:
    """Serve over HTTP."""
    import uvicorn

    app: Any = server.streamable_http_app()
    if token:
        app = Guard(app, token)
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error")
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(serve_http(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""))
    else:
        server.run()
