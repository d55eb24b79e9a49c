"""gRPC's asyncio server and client on a Unix socket; bodies are msgpack, without protobuf."""

# pyright: reportMissingImports=false

import asyncio
import sys
from typing import Any

import grpc
import msgspec
import rounds

OPTIONS = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]


async def serve(path: str) -> None:
    """Answer each request with itself."""

    async def echo(value: Any, _: Any) -> Any:
        return value

    method = grpc.unary_unary_rpc_method_handler(
        echo, msgspec.msgpack.decode, msgspec.msgpack.encode
    )
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("bench.Echo", {"Echo": method}),)
    )
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    rounds.serving()
    await server.wait_for_termination()


async def main(folder: str) -> None:
    """Measure."""
    path = f"{folder}/grpc.sock"
    rounds.started("serve", path)
    async with grpc.aio.insecure_channel(f"unix:{path}", options=OPTIONS) as channel:
        await rounds.measure_async(
            channel.unary_unary("/bench.Echo/Echo", msgspec.msgpack.encode, msgspec.msgpack.decode)
        )


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else main(sys.argv[1]))
