"""Warms the protocol's library in the launcher, so that workers share what its first calls load.

A client and a server in memory, in both forms of the protocol: nothing leaves this process.
"""

import asyncio
import logging

from mcp import Client
from mcp.server import MCPServer

from ..model_support.tls import tls_context


async def _add(a: int, b: int) -> int:
    return a + b


async def _use() -> None:
    server = MCPServer("warm", log_level="CRITICAL")
    server.add_tool(_add, name="add")
    for mode in ("auto", "legacy"):
        async with Client(server, mode=mode) as client:
            await client.list_tools()
            await client.call_tool("add", {"a": 1, "b": 2})
            await client.list_resources()
            await client.list_prompts()


def _warm() -> None:
    level, handlers = logging.root.level, list(logging.root.handlers)
    asyncio.run(_use())
    tls_context()
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers  # a server sets up logging


_warm()
