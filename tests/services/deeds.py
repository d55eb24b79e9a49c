"""Actions, one of which ends its process as a library in C can."""

import os
import signal
from typing import Any

from garrison.workers import Action, Memory, Plugin, Service


class DeedService(Service):
    """Where the actions live."""

    service_type = "deeds"


def wanted(runtime: Any, memory: Memory) -> bool:
    """Tell whether a message asks for a crash."""
    return "crash" in memory.content.text


def segfault() -> None:
    """End this process."""
    os.kill(os.getpid(), signal.SIGSEGV)


plugin = Plugin(
    "deeds",
    services=[DeedService],
    actions=[
        Action("SEGFAULT", validate=wanted, handler=segfault),
        Action("TELL", handler=lambda: "done"),
    ],
)
