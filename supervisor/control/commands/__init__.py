"""The commands that the command line sends to the supervisor, one file a family."""

from . import changes, faults, host, persons, services, terminal
from .base import COMMANDS

__all__ = ["COMMANDS", "changes", "faults", "host", "persons", "services", "terminal"]
