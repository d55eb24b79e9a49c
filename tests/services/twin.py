"""A service that writes twenty times a second that it runs, into a file that a test reads."""

import importlib.util
import os
import time
from typing import Self

from garrison.workers import Plugin, Runtime, Service

EACH_S = 0.05


class TwinService(Service):
    """Two of its incarnations at one time are found by what they have written."""

    service_type = "twin"
    capability_description = "Writes that it runs"
    file: int

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        """Begin to write."""
        service = cls(runtime)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        service.file = os.open(os.environ["TWIN_FILE"], flags, 0o600)
        service.every(EACH_S, service._write)
        return service

    async def _write(self) -> None:
        words = f"{os.environ['GARRISON_INCARNATION']} {time.monotonic()}\n"
        os.write(self.file, words.encode())

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()

    async def gpus(self) -> str:
        """Return which GPUs it uses."""
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")

    async def finds(self, module: str) -> bool:
        """Return whether it could import a module."""
        return importlib.util.find_spec(module) is not None

    async def echo(self, value: int) -> int:
        """Return the value, and write it to the log."""
        print(f"twin got {value}")
        return value


plugin = Plugin(name="twin", description="Writes that it runs", services=[TwinService])
