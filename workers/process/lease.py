"""Ends a worker on a node whose lease is over, also one that is stopped or blocked.

The node renews the lease while it has contact to the supervisor, and kills its workers at the end.
Where it has not, because it is stopped or gone, a thread of this worker ends it, with all that it
has started. The same thread puts a kernel timer off to shortly after the lease's end: that kills
the process where the thread does not run, because the process is stopped. It is a thread and not
the loop, because a loop may be blocked for longer than a lease: an import may. Only code that holds
the interpreter's lock for longer than the lease is killed by mistake.
"""

import contextlib
import sys
import threading
import time

from garrison.ipc.system import process_tree
from garrison.ipc.system.lease_page import CLOCK_BOOTTIME, LeaseReader, boottime_ns

from .exit import CRASHED, leave
from .orphan import KillTimer

AFTER_NS = 1_000_000_000  # from the lease's end to the kill; the node and the loop act first
LOOK_S = 0.5  # between two looks at the page
TREE_S = 0.8  # for descendants to end; the timer is due soon after
OVER = "the lease of its node is over: no contact to the supervisor; ending"


class Lease:
    """The lease of this process.

    Args:
        path: Of the page, see `ipc.system.lease_page`.

    Raises:
        OSError: It cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._page = LeaseReader(path)
        self._timer = KillTimer(CLOCK_BOOTTIME)

    def begin(self) -> None:
        """Have the timer put off while the lease is renewed."""
        self._put_off()
        threading.Thread(target=self._keep, name="garrison-lease", daemon=True).start()

    def _keep(self) -> None:
        while (left := self._page.until_ns - boottime_ns()) > 0:
            self._put_off()
            time.sleep(min(LOOK_S, left / 1e9))
        with contextlib.suppress(Exception):  # such as a log on a full disk
            print(OVER, file=sys.stderr, flush=True)
        process_tree.end_everything_below(TREE_S)
        leave(CRASHED)

    def _put_off(self) -> None:
        self._timer.kill_at(self._page.until_ns + AFTER_NS)
