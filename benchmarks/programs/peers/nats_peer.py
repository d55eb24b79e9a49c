"""NATS: its server, and two clients that use uvloop; requests and replies as msgpack."""

# pyright: reportMissingImports=false

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import nats
import rounds
import uvloop

CONFIG = 'listen: "127.0.0.1:-1"\nmax_payload: 8MB\nports_file_dir: "{folder}"\n'
START_S = 30.0


def server(folder: str) -> str:
    """Start the server on a free port of loopback; return its address."""
    config = Path(folder) / "nats.conf"
    config.write_text(CONFIG.format(folder=folder))
    program = Path(sys.executable).with_name("nats-server")
    with (Path(folder) / "nats.log").open("wb") as log:
        subprocess.Popen([str(program), "-c", str(config)], stdout=log, stderr=log)
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        for ports in Path(folder).glob("nats-server_*.ports"):
            if text := ports.read_text():
                return str(json.loads(text)["nats"][0])
        time.sleep(0.01)
    raise RuntimeError("the server has not started")


async def serve(address: str) -> None:
    """Answer each request with itself, decoded and encoded."""
    client = await nats.connect(address)

    async def answer(message: Any) -> None:
        await message.respond(msgspec.msgpack.encode(msgspec.msgpack.decode(message.data)))

    await client.subscribe("echo", cb=answer)
    await client.flush()
    rounds.serving()
    await asyncio.Event().wait()


async def main(folder: str) -> None:
    """Measure."""
    address = server(folder)
    rounds.started("serve", address)
    client = await nats.connect(address)

    async def call(value: Any) -> Any:
        reply = await client.request("echo", msgspec.msgpack.encode(value), timeout=60)
        return msgspec.msgpack.decode(reply.data)

    await rounds.measure_async(call)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else main(sys.argv[1]))
