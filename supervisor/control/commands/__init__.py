"""The commands that the command line sends to the supervisor, one file a family."""

from . import faults, host, services, terminal
from .base import COMMANDS

__all__ = ["COMMANDS", "faults", "host", "services", "terminal"]
