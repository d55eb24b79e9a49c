"""Pyro5 on a Unix socket, with its msgpack serializer; a thread and a proxy for each in flight."""

# pyright: reportMissingImports=false

import sys
from typing import Any

import Pyro5
import Pyro5.api
import rounds


@Pyro5.api.expose
class Echo:
    """Gives back what it is given."""

    def echo(self, value: Any) -> Any:
        """Return the value."""
        return value


def serve(path: str) -> None:
    """Serve until this process is ended."""
    daemon = Pyro5.api.Daemon(unixsocket=path)
    daemon.register(Echo(), "echo")
    rounds.serving()
    daemon.requestLoop()


def main(folder: str) -> None:
    """Measure."""
    path = f"{folder}/pyro.sock"
    rounds.started("serve", path)

    def client() -> Any:
        return Pyro5.api.Proxy(f"PYRO:echo@./u:{path}").echo

    rounds.measure(client(), client)


if __name__ == "__main__":
    Pyro5.config.SERIALIZER = "msgpack"
    Pyro5.config.THREADPOOL_SIZE = 2 * rounds.WIDTH
    serve(sys.argv[2]) if sys.argv[1] == "serve" else main(sys.argv[1])
