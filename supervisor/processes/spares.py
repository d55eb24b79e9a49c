"""Forks each worker ahead of its assignment, so that a start need not wait for a fork."""

import gc
import os
import socket
import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from garrison.ipc.system import process_tree

from . import cgroups
from .fork import ForkedWorker
from .protocol import FRAME_BYTES, Fork, decode_command, encode
from .template import Template

SPARE_S = 0.05  # from a start until the next spare worker is forked
# Keys of children that are no service's worker; a worker's key is longer.
SPARE, TEMPLATE = b"", b"template"
SPARE_NAME = "spare"  # until it has an assignment


class Spares:
    """The spare worker, which has no assignment yet, and the template that it is forked from.

    Args:
        worker_cgroups: Makes a cgroup for each worker.
        pids: The launcher's children → their keys, which this keeps up to date.
        orphaned: Called when a template has ended: what it was forking is a child of the launcher.

    Attributes:
        due: When to fork the next spare, on the monotonic clock.
        keep: Descriptors that libraries have open, which workers keep.
    """

    def __init__(
        self,
        worker_cgroups: cgroups.Cgroups,
        pids: dict[int, bytes],
        orphaned: Callable[[], None],
    ) -> None:
        self._cgroups, self._pids, self._orphaned = worker_cgroups, pids, orphaned
        self._template: Template | None = None  # None: it is forked when a worker is
        self._requested: tuple[Path | None, socket.socket] | None = None  # of the template
        self._spare: tuple[ForkedWorker, socket.socket] | None = None
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

    def assign(self, fork: Fork, assignment: int) -> ForkedWorker:
        """Send an assignment to the spare worker, or to a new one.

        Raises:
            OSError: No process can be forked.
        """
        process, orders = self._take()
        try:
            socket.send_fds(orders, [encode(fork)], [assignment])
        except OSError:  # it has ended
            self.drop_spare()
            process, orders = self._take()
            socket.send_fds(orders, [encode(fork)], [assignment])
        self._spare = None
        orders.close()
        self.plan()
        return process

    def fork_ahead(self) -> None:
        """Request a spare worker if there is none."""
        self.due = inf
        if self._spare is None and self._requested is None:
            try:
                self._request()
            except OSError:  # no descriptor left, for example; the next start reports it
                self._drop_template()

    def forked(self) -> None:
        """Take the worker that was requested, which has arrived."""
        try:
            self._receive()
        except OSError:  # the next start tries again, and reports it
            self._drop_template()

    def ended(self, key: bytes) -> None:
        """Handle the end of the spare worker, or of the template."""
        if key == SPARE:
            self.drop_spare()
        else:
            self._drop_template()

    def close(self) -> None:
        """End the spare worker and the template: they were forked without the latest modules."""
        self.drop_spare()
        self._drop_template()

    def drop_spare(self) -> None:
        """End the spare worker."""
        if self._spare is not None:
            (process, orders), self._spare = self._spare, None
            orders.close()
            self._pids.pop(process.pid, None)
            process.kill()
            self._cgroups.discard(process.cgroup)

    # --- requests ---------------------------------------------------------------------------

    def _take(self) -> tuple[ForkedWorker, socket.socket]:
        """Return the spare worker, a new one if there is none; raises OSError."""
        for last in (False, True):
            if self._spare is not None:
                break
            try:
                if self._requested is None:
                    self._request()
                self._receive()
            except (ChildProcessError, BrokenPipeError):  # the template was killed, say
                self._drop_template()
                if last:
                    raise
        assert self._spare is not None
        return self._spare

    def _request(self) -> None:
        if self._template is None:
            from garrison.workers.process import main  # the worker's entry point

            self._template = Template(self.keep, main.prepare, _run_worker)
            self._pids[self._template.pid] = TEMPLATE
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._requested = self._cgroups.make(), ours
        with theirs:
            self._template.request(self._requested[0], theirs)

    def _receive(self) -> None:
        """Take the worker that was requested as the spare; raises OSError if there is none."""
        assert self._template is not None
        assert self._requested is not None
        try:
            pid = self._template.answer()
        except OSError:
            self._drop_request()
            raise
        (cgroup, orders), self._requested = self._requested, None
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


def _run_worker(orders: socket.socket) -> None:
    """Wait for an assignment, in the worker, then carry it out; exit if the launcher ends first."""
    from garrison.workers.process import main

    gc.freeze()  # a collection would write to the pages of what is there by now
    gc.enable()
    main.get_ready()
    process_tree.set_name(SPARE_NAME)
    data, fds, _, _ = socket.recv_fds(orders, FRAME_BYTES, 1)
    orders.close()
    if not data or not fds:
        os._exit(0)
    fork = decode_command(data)
    assert isinstance(fork, Fork)
    main.run(fds[0], fork.log)
