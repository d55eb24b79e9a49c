"""Reads the totals of calls and deaths that a supervisor has."""

from pathlib import Path

import msgspec

from garrison.ipc.call_totals import Totals

from .client import request
from .output import Invocation


def read_counters(invocation: Invocation) -> Totals:
    """Return the totals of the host that a command line addresses.

    Raises:
        SupervisorGone: No supervisor answers.
        OrderFailed: It is an older one, which has no totals.
    """
    return read_totals(invocation.home)


def read_totals(home: Path) -> Totals:
    """Return the totals of a home's host. Raises as `read_counters`."""
    return msgspec.convert(request(home, "counters"), Totals)
