"""Forks each worker ahead of its assignment, so that a start need not wait for a fork.

Nothing here waits: the launcher reports the ends of workers at once, whatever is being forked.
While a worker was requested, a child of the launcher that is not known may be that worker.
"""

import gc
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from pathlib import Path
from typing import NoReturn

import msgspec

from garrison.ipc.system import process_tree

from . import cgroups
from .fork import ForkedWorker
from .protocol import FRAME_BYTES, Fork, decode_command, encode
from .template import Template

ANSWER_S = 2.0  # for a worker to be forked; a template that needs longer is replaced
SPARE_S = 0.05  # from a start until the next spare worker is forked
# Keys of children that are no service's worker; a worker's key is longer.
SPARE, TEMPLATE = b"", b"template"
SPARE_NAME = "spare"  # until it has an assignment


class Entry(msgspec.Struct, frozen=True):
    """The worker's entry point."""

    prepare: Callable[[], object]  # in the template, once
    get_ready: Callable[[], object]  # in each worker, before it has an assignment
    run: Callable[[int, str], NoReturn]  # with the assignment's descriptor and the log's path


class Spares:
    """The spare worker, which has no assignment yet, and the template that it is forked from.

    Args:
        worker_cgroups: Makes a cgroup for each worker.
        pids: The launcher's children → their keys, which this keeps up to date.
        started: Called with each worker that was sent its assignment.
        failed: Called where there is no worker, with the reason.
        orphaned: Called when a template has ended: what it was forking is a child of the launcher.
        settled: Called when all children are known, before the next worker is requested.
        entry: What the template and the workers do.

    Attributes:
        due: When to call `fork_ahead`, on the monotonic clock.
        keep: Descriptors that libraries have open, which workers keep.
    """

    def __init__(
        self,
        worker_cgroups: cgroups.Cgroups,
        pids: dict[int, bytes],
        *,
        started: Callable[[Fork, ForkedWorker], None],
        failed: Callable[[Fork, str], None],
        orphaned: Callable[[], None],
        settled: Callable[[], None],
        entry: Entry,
    ) -> None:
        self._cgroups, self._pids, self._orphaned = worker_cgroups, pids, orphaned
        self._prepare, self._run = entry.prepare, partial(_run_worker, entry)
        self._template: Template | None = None  # None: it is forked when a worker is
        self._requested: tuple[Path | None, socket.socket] | None = None  # of the template
        self._spare: tuple[ForkedWorker, socket.socket] | None = None
        self._orders: deque[tuple[Fork, int]] = deque()  # with the assignment's descriptor
        self._started, self._failed, self._settled = started, failed, settled
        self._failures = 0  # of templates, one after the other
        self._held = False
        self.due = inf
        self.keep: set[int] = set()

    @property
    def template_pid(self) -> int:
        """Return the template's pid; 0 without one."""
        return self._template.pid if self._template is not None else 0

    def fileno(self) -> int:
        """Return the descriptor at which a requested worker arrives; -1: none was requested."""
        if self._template is None or self._requested is None:
            return -1
        return self._template.fileno()

    def plan(self) -> None:
        """Fork the next spare in a moment, when what was just started has had the processor."""
        self.due = time.monotonic() + SPARE_S

    def assign(self, fork: Fork, assignment: int) -> None:
        """Start a worker: the spare one, or a new one as soon as it is there.

        Raises:
            OSError: This process has no descriptor left.
        """
        self._orders.append((fork, os.dup(assignment)))
        self._work()

    def is_waiting(self, key: bytes) -> bool:
        """Return whether an assignment waits for its worker."""
        return any(fork.key == key for fork, _ in self._orders)

    @property
    def busy(self) -> bool:
        """Return whether any does."""
        return bool(self._orders)

    def cancel(self, reason: str) -> None:
        """Report all assignments that wait as failed."""
        while self._orders:
            self._fail(reason)

    def fork_ahead(self) -> None:
        """Request a spare worker if there is none; replace a template that does not answer."""
        self.due = inf
        if self._requested is None and self._spare is None:
            try:
                self._request()
            except OSError:  # no descriptor left, for example; the next start reports it
                self._drop_template()
        elif self._requested is not None:
            self._not_forked(f"the template did not fork it within {ANSWER_S:g} s")
            self._work()

    def forked(self) -> None:
        """Take the worker that was requested, which has arrived."""
        try:
            self._receive()
        except ChildProcessError:  # the template was killed, say
            self._not_forked("the template that forks workers has ended")
        except OSError as error:
            self._drop_request()
            if self._orders:
                self._fail(str(error))
        self._settled()
        self._work()

    def ended(self, key: bytes) -> None:
        """Handle the end of the spare worker, or of the template."""
        if key == SPARE:
            self.drop_spare()
        else:
            self._not_forked("the template that forks workers has ended")
        self._work()

    def close(self) -> None:
        """End the spare worker and the template: they were forked without the latest modules."""
        self.drop_spare()
        self._drop_template()

    def resume(self) -> None:
        """Go on after `close`."""
        self.plan()
        self._work()

    def hold(self) -> None:
        """Fork nothing until `release`: more is about to be imported."""
        self._held = True

    def release(self) -> None:
        """Go on after `hold`, and fork the spare worker at once."""
        self._held, self.due = False, time.monotonic()
        self._work()

    def drop_spare(self) -> None:
        """End the spare worker."""
        if self._spare is not None:
            (process, orders), self._spare = self._spare, None
            orders.close()
            self._pids.pop(process.pid, None)
            process.kill()
            self._cgroups.discard(process.cgroup)

    # --- requests ---------------------------------------------------------------------------

    def _work(self) -> None:
        """Carry out assignments until one has to wait for its worker."""
        while self._orders and not self._held:
            if self._spare is None:
                if self._requested is None:
                    try:
                        self._request()
                    except OSError as error:
                        self._not_forked(str(error))
                        continue
                return
            (process, orders), (fork, assignment) = self._spare, self._orders[0]
            try:
                socket.send_fds(orders, [encode(fork)], [assignment])
            except OSError:  # it has ended
                self.drop_spare()
                continue
            self._spare = None
            orders.close()
            os.close(assignment)
            self._orders.popleft()
            self._failures = 0
            self._started(fork, process)
            self.plan()

    def _not_forked(self, reason: str) -> None:
        """Replace the template; where a second one has failed, too, so has what waits for it."""
        self._drop_template()
        self._failures += 1
        if self._orders and self._failures > 1:
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        fork, assignment = self._orders.popleft()
        os.close(assignment)
        self._failures = 0
        self._failed(fork, reason)

    def _request(self) -> None:
        if self._template is None:
            self._template = Template(self.keep, self._prepare, self._run)
            self._pids[self._template.pid] = TEMPLATE
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requested = self._cgroups.make(), ours
        with theirs:
            self._template.request(self._requested[0], theirs)
        self.due = time.monotonic() + ANSWER_S

    def _receive(self) -> None:
        """Take the worker that was requested as the spare; raises OSError if there is none."""
        assert self._template is not None
        assert self._requested is not None
        pid = self._template.answer()
        (cgroup, orders), self._requested = self._requested, None
        self.due = inf
        self._pids[pid] = SPARE
        self._spare = ForkedWorker(pid, cgroup), orders

    def _drop_request(self) -> None:
        if self._requested is not None:
            (cgroup, orders), self._requested = self._requested, None
            orders.close()
            self._cgroups.discard(cgroup)

    def _drop_template(self) -> None:
        self._drop_request()
        if self._template is not None:
            self._pids.pop(self._template.pid, None)
            self._template.close()
            self._template = None
            self._orphaned()


def _run_worker(entry: Entry, orders: socket.socket) -> None:
    """Wait for an assignment, in the worker, then carry it out; exit if the launcher ends first."""
    gc.freeze()  # a collection would write to the pages of what is there by now
    gc.enable()
    entry.get_ready()
    process_tree.set_name(SPARE_NAME)
    data, fds, _, _ = socket.recv_fds(orders, FRAME_BYTES, 1)
    orders.close()
    if not data or not fds:
        os._exit(0)
    fork = decode_command(data)
    assert isinstance(fork, Fork)
    entry.run(fds[0], fork.log)
