"""RPyC on a Unix socket: values travel as msgpack, since it would proxy a dict."""

# pyright: reportMissingImports=false

import sys
from typing import Any

import msgspec
import rounds
import rpyc
from rpyc.utils.server import ThreadedServer


class Echo(rpyc.Service):  # type: ignore[misc]
    """Gives back what it is given."""

    def exposed_echo(self, body: bytes) -> bytes:
        """Return the value, decoded and encoded."""
        return msgspec.msgpack.encode(msgspec.msgpack.decode(body))


def serve(path: str) -> None:
    """Serve until this process is ended."""
    server = ThreadedServer(Echo(), socket_path=path)
    rounds.serving()
    server.start()


def main(folder: str) -> None:
    """Measure."""
    path = f"{folder}/rpyc.sock"
    rounds.started("serve", path)
    connection = rounds.connected(lambda: rpyc.utils.factory.unix_connect(path))
    echo, pack, unpack = connection.root.echo, msgspec.msgpack.encode, msgspec.msgpack.decode
    later = rpyc.async_(echo)

    def call(value: Any) -> Any:
        return unpack(echo(pack(value)))

    def flight(count: int) -> None:
        waiting = [later(pack(rounds.SMALL)) for _ in range(rounds.WIDTH)]
        for number in range(count):
            unpack(waiting[number % rounds.WIDTH].value)
            if number < count - rounds.WIDTH:
                waiting[number % rounds.WIDTH] = later(pack(rounds.SMALL))

    rounds.measure(call, flight=flight)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else main(sys.argv[1])
