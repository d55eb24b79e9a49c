"""The commands that the command line sends to the supervisor, one file a family."""

from . import (
    changes,
    consoles,
    faults,
    holding,
    host,
    logs,
    nodes,
    pausing,
    persons,
    reloading,
    services,
    stack,
    terminal,
    trial,
    updating,
)
from .base import COMMANDS

__all__ = [
    "COMMANDS",
    "changes",
    "consoles",
    "faults",
    "holding",
    "host",
    "logs",
    "nodes",
    "pausing",
    "persons",
    "reloading",
    "services",
    "stack",
    "terminal",
    "trial",
    "updating",
]
