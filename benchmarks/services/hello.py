"""The service that says hello to the benchmark at its start, as `programs/peers/hello.py`."""

import os
import socket
from typing import Self

from garrison.workers import Plugin, Runtime, Service


class Hello(Service):
    """Says hello at its start."""

    service_type = "hello"
    _connection: socket.socket

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._connection = socket.socket(socket.AF_UNIX)
        service._connection.connect(runtime.config["socket"])
        service._connection.sendall(f"{runtime.name} {os.getpid()}\n".encode())
        return service


plugin = Plugin(name="hello", services=[Hello])
