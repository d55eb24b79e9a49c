"""Keeps `living.json` up to date: changes are written together, a moment later."""

import time
from collections.abc import Callable
from math import inf
from pathlib import Path

from garrison.ipc.messages import PluginRead, Token
from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.pausing import PauseNote
from garrison.supervisor.lifecycle.services import ServiceTable

from .orders import OrderStore
from .save_problem import SaveProblem
from .snapshot import (
    Snapshot,
    remove_snapshot,
    save_snapshot,
    snapshot_path,
    take_snapshot,
    this_machine,
)

SAVE_S = 0.02  # from a change until it is written, so that changes are written together …
SAVE_SHARE = 10  # … or so many times as long as the last write took, where that is more
SAVE_MOST_S = 0.5
RETRY_S = 5.0  # until a write that the disk did not take is repeated


class SnapshotWriter:
    """Writes the snapshot and the operator's orders.

    Args:
        state: The folder of the files.
        services: The services.
        orders: The operator's orders.
        known: Returns the config's digest and what was read of the plugins.
        report_unsaved: Called once for each new reason why the file cannot be written.
        acknowledge: Acknowledges a worker's report of its end.

    Attributes:
        due: When `write` has something to do.
    """

    def __init__(
        self,
        state: Path,
        services: ServiceTable,
        orders: OrderStore,
        known: Callable[[], tuple[str, dict[str, PluginRead]]],
        report_unsaved: Callable[[str], None],
        acknowledge: Callable[[Token], object],
    ) -> None:
        self._state, self._services, self._orders = state, services, orders
        self._known, self._problem = known, SaveProblem(report_unsaved)
        self._acknowledge = acknowledge
        self._reported: set[Token] = set()  # workers whose report waits for the next write
        self._unsaved = False
        self._took_s = 0.0  # the last write
        self._wanted: dict[str, bool] | None = None
        self._removed = self._written = False
        self.due = inf

    def touch(self) -> None:
        """Have a change written soon."""
        if not self._unsaved:
            self._unsaved = True
            wait = max(SAVE_S, SAVE_SHARE * self._took_s)
            self.due = time.monotonic() + min(wait, SAVE_MOST_S)

    def acknowledge_saved(self, token: Token) -> None:
        """Acknowledge a worker's report of its end after the next write, also one that fails: the
        worker must not wait for a full disk."""
        self._reported.add(token)
        self.touch()

    def next_order(self) -> int:
        """Return the number of the next order: higher than that of any before it."""
        return self._orders.next_number()

    def record_order(self, name: str, note: OrderNote) -> None:
        """Record that an operator started or stopped a service, beyond this run of the host."""
        service = self._services.services.get(name)
        autostart = service is None or service.spec.supervision.autostart
        if not self._orders.record(name, note.wanted, autostart, note.number):
            self.touch()

    def record_pause(self, name: str, note: PauseNote | None) -> None:
        """Record that an operator paused a service, or resumed it (None)."""
        orders = self._orders
        saved = orders.resume(name) if note is None else orders.pause(name, note)
        if not saved:
            self.touch()

    def rewrite_lost(self, all_files: bool) -> None:
        """Have the files written again that were removed: all, or the snapshot if it is missing."""
        if all_files:
            self._orders.mark_unsaved()
        if all_files or (self._written and not snapshot_path(self._state).exists()):
            self.touch()

    def abandon(self) -> None:
        """Write nothing from now on: the folder is another supervisor's."""
        self._removed = True

    def keep_wanted(self) -> None:
        """Write from now on what is wanted now. That everything is stopped is an order to this run
        of the host alone: should it be killed meanwhile, the next one starts the services again.

        It is written down before the first service is stopped: what ends without a supervisor
        after that has not crashed."""
        self._wanted = {service.name: service.child.wanted for service in self._services}
        self.write()

    def write_pending(self) -> None:
        """Write what has changed, before a client is answered."""
        if self._unsaved:
            self.write()

    def write(self) -> str:
        """Write the snapshot, and orders that are not on disk yet; return the problem, if any."""
        self._unsaved, self.due = False, inf
        problem = self._write_files()
        while self._reported:
            self._acknowledge(self._reported.pop())
        return problem

    def _write_files(self) -> str:
        if self._removed:
            return ""
        began = time.monotonic()
        if not self._orders.save():
            self.due = began + RETRY_S
        try:
            save_snapshot(self._state, self._snapshot())
        except (OSError, TypeError, ValueError, OverflowError) as error:  # disk, or a config value
            self._problem.note(error)
            self.due = time.monotonic() + RETRY_S
        else:
            self._written = True
            self._problem.clear()
        self._took_s = time.monotonic() - began
        return self.problem

    @property
    def problem(self) -> str:
        """Return why the snapshot could not be written; empty if it could."""
        return self._problem.text

    def _snapshot(self) -> Snapshot:
        digest, plugins = self._known()
        services = take_snapshot(self._services, self._wanted)
        stopping = self._wanted is not None
        return Snapshot(this_machine(), digest, plugins, services, stopping)

    def remove(self) -> None:
        """Remove the snapshot for good: everything has ended in order."""
        if self._removed:
            return
        self._removed = True
        try:
            remove_snapshot(self._state)
        except OSError as error:
            self._problem.note(error)
