"""A manager of the standard library's multiprocessing, on a Unix socket; in flight by threads."""

import sys
from multiprocessing.managers import BaseManager
from typing import Any

import rounds


class Echo:
    """Gives back what it is given."""

    def echo(self, value: Any) -> Any:
        """Return the value."""
        return value


class Manager(BaseManager):
    """Has one Echo."""


def serve(path: str) -> None:
    """Serve until this process is ended."""
    echo = Echo()
    Manager.register("get", callable=lambda: echo, exposed=("echo",))
    server = Manager(path, b"benchmark").get_server()
    rounds.serving()
    server.serve_forever()


def main(folder: str) -> None:
    """Measure."""
    path = f"{folder}/manager.sock"
    rounds.started("serve", path)
    Manager.register("get", exposed=("echo",))
    manager = Manager(path, b"benchmark")
    manager.connect()

    def client() -> Any:
        return manager.get().echo  # type: ignore[attr-defined]

    rounds.measure(client(), client)


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "serve" else main(sys.argv[1])
