"""Reads the bundled script: the launcher imports this module before it forks workers."""

from . import bundled

bundled()
