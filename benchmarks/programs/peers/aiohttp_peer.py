"""aiohttp on a Unix socket, server and client with uvloop; bodies are msgpack."""

import asyncio
import sys
from typing import Any

import aiohttp
import msgspec
import rounds
import uvloop
from aiohttp import web


async def serve(path: str) -> None:
    """Answer each request with its body, decoded and encoded."""

    async def answer(request: web.Request) -> web.Response:
        value = msgspec.msgpack.decode(await request.read())
        return web.Response(body=msgspec.msgpack.encode(value))

    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/echo", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    rounds.serving()
    await asyncio.Event().wait()


async def main(folder: str) -> None:
    """Measure."""
    path = f"{folder}/aiohttp.sock"
    rounds.started("serve", path)
    connector = aiohttp.UnixConnector(path, limit=rounds.WIDTH)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call(value: Any) -> Any:
            body = msgspec.msgpack.encode(value)
            async with session.post("http://localhost/echo", data=body) as response:
                return msgspec.msgpack.decode(await response.read())

        await rounds.measure_async(call)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else main(sys.argv[1]))
