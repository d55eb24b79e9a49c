"""A service whose libraries take more than a second to import, and are preloaded."""

import importlib
import os

from garrison.workers import Plugin, Service

LIBRARIES = ["discord", "openai"]

for library in LIBRARIES:  # as `import discord` does; by name, for they are not ours to require
    importlib.import_module(library)


class Heavy(Service):
    """Answers once all of it is there."""

    service_type = "heavy"

    async def pid(self) -> int:
        """Return the worker's process id."""
        return os.getpid()


plugin = Plugin(name="heavy", services=[Heavy], preload=LIBRARIES)
