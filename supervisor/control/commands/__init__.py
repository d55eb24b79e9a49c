"""The commands that the command line sends to the supervisor, one file a family."""

from . import faults, host, persons, services, terminal
from .base import COMMANDS

__all__ = ["COMMANDS", "faults", "host", "persons", "services", "terminal"]
