"""Forks a worker that ends soon from the launcher itself, at once, in place of from the template.

What the launcher writes later it copies page by page while such a worker lives, which is no matter
for the moment that it takes to read a plugin. There need not be a template yet, so plugins are read
while it is made.
"""

import gc
import os
import signal
import traceback
from pathlib import Path
from typing import NoReturn

from . import cgroups
from .fork import close_descriptors
from .protocol import Fork
from .spares import Entry


def fork_brief(
    entry: Entry, keep: set[int], cgroup: Path | None, fork: Fork, assignment: int
) -> int:
    """Fork a worker that carries out its assignment; return its pid.

    Args:
        entry: What it does.
        keep: Descriptors that libraries have open, which it keeps.
        cgroup: Its own, if there is one.
        fork: The command.
        assignment: The descriptor of its assignment.

    Raises:
        OSError: No process can be forked.
    """
    pid = os.fork()
    if pid == 0:
        _run(entry, keep, cgroup, fork, assignment)
    return pid


def _run(
    entry: Entry, keep: set[int], cgroup: Path | None, fork: Fork, assignment: int
) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        cgroups.enter(cgroup)
        close_descriptors(keep | {assignment, 0, 1, 2})
        gc.freeze()  # also what would close a descriptor of the launcher's once more
        gc.enable()
        entry.prepare()
        entry.get_ready()
        entry.run(assignment, fork.log)
    except BaseException:  # noqa: BLE001 (nothing above this function would report it)
        traceback.print_exc()
    os._exit(1)
