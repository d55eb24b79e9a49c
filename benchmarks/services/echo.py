"""The service that is called."""

import os

from garrison.workers import Plugin, Service


class Echo(Service):
    """Gives back what it is given."""

    service_type = "echo"

    async def echo(self, text: str) -> str:
        """Return the text."""
        return text

    async def pid(self) -> int:
        """Return the worker's process id."""
        return os.getpid()


plugin = Plugin(name="echo", services=[Echo])
