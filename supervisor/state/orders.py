"""The operator's commands that hold beyond this run of the host, `start`, `stop` and `pause`:
`orders.json`.

The file is synced: it must survive a power cut. An order that is in it was not necessarily carried
out, nor answered: the supervisor may have been killed. Its number shows the next supervisor whether
`living.json`, which is written after it, knows the order already.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from garrison.supervisor.lifecycle.order_note import OrderNote
from garrison.supervisor.lifecycle.pausing import PauseNote

from .atomic import write_atomic
from .save_problem import SaveProblem
from .stored import FORMAT, read_stored


class OperatorOrders(msgspec.Struct):
    """Which services run, or do not run, against their `autostart`, and which are paused."""

    format: int = FORMAT
    stopped: list[str] = []  # NAMEs that `garrison stop` keeps from running
    started: list[str] = []  # NAMEs without autostart that `garrison start` keeps running
    numbers: dict[str, int] = {}  # NAME → number of the last order that changed its entry
    paused: list[str] = []  # NAMEs that `garrison pause` keeps paused
    pauses: dict[str, PauseNote] = {}  # NAME → of each that is paused, where that is known

    def order(self, name: str, wanted: bool, autostart: bool) -> bool:
        """Record that a service is started or stopped; return True if that changes anything."""
        before = ([*self.stopped], [*self.started])
        for names in (self.stopped, self.started):
            if name in names:
                names.remove(name)
        if wanted and not autostart:
            self.started.append(name)
        if not wanted and autostart:
            self.stopped.append(name)
        return (self.stopped, self.started) != before

    def rename(self, old: str, new: str) -> bool:
        """Make the orders about one NAME those about another; return True if there were any."""
        found = False
        for names in (self.stopped, self.started, self.paused):
            if old in names:
                names[:] = [name for name in names if name not in {old, new}] + [new]
                found = True
        if old in self.numbers:
            self.numbers[new] = self.numbers.pop(old)
        if old in self.pauses:
            self.pauses[new] = self.pauses.pop(old)
        return found


def load_orders(state: Path) -> tuple[OperatorOrders, str]:
    """Return the recorded orders, and a problem in words if the file could not be used."""
    found, problem = read_stored(state / "orders.json", OperatorOrders)
    return found or OperatorOrders(), problem


def save_orders(state: Path, orders: OperatorOrders) -> None:
    """Write the orders and sync the file."""
    content = msgspec.json.format(msgspec.json.encode(orders))
    write_atomic(state / "orders.json", content, sync=True)


class OrderStore:
    """The operator's orders and their file.

    Args:
        state: The folder of the file.
        orders: What the file contains.
        report_unsaved: Called once for each new reason why the file cannot be written.
    """

    def __init__(
        self, state: Path, orders: OperatorOrders, report_unsaved: Callable[[str], None]
    ) -> None:
        self.orders = orders
        self._state, self._problem = state, SaveProblem(report_unsaved)
        self._unsaved = False
        self._last = max(orders.numbers.values(), default=0)

    def next_number(self) -> int:
        """Return the number of the next order."""
        self._last += 1
        return self._last

    def reconcile(self, applied: Iterable[tuple[str, OrderNote, bool]]) -> dict[str, bool]:
        """Compare the file with what a former supervisor has carried out.

        An order that is newer in the file is still to be carried out. One that the file lacks,
        because the disk did not take it, is entered.

        Args:
            applied: NAME, last order and `autostart` of each service that was restored.

        Returns:
            NAME → whether it is to run, for each order that is still to be carried out.
        """
        pending: dict[str, bool] = {}
        for name, note, autostart in applied:
            self._last = max(self._last, note.number)
            number = self.orders.numbers.get(name, 0)
            if number > note.number:
                pending[name] = self.wants_start(name, autostart)
            elif note.number > number:
                self.record(name, note.wanted, autostart, note.number)
        return pending

    def wants_start(self, name: str, autostart: bool) -> bool:
        """Return True if a service is to be started with the host."""
        return (autostart and name not in self.orders.stopped) or name in self.orders.started

    def is_stopped(self, name: str) -> bool:
        """Return True if an operator stopped a service for good."""
        return name in self.orders.stopped

    def record(self, name: str, wanted: bool, autostart: bool, number: int) -> bool:
        """Record an order; return False if it could not be written yet."""
        if self.orders.order(name, wanted, autostart):
            self.orders.numbers[name] = number
            self._unsaved = True
            return self.save()
        return True

    def pause_of(self, name: str) -> PauseNote | None:
        """Return who paused a service, and when, as far as that is known; None: it is not."""
        is_paused = name in self.orders.paused
        return self.orders.pauses.get(name, PauseNote()) if is_paused else None

    def pause(self, name: str, note: PauseNote) -> bool:
        """Record that a service is paused; return False if it could not be written yet."""
        if name in self.orders.paused:
            return not self._unsaved
        self.orders.paused.append(name)
        self.orders.pauses[name] = note
        self._unsaved = True
        return self.save()

    def resume(self, name: str) -> bool:
        """Record that a service is no longer paused; return False if it could not be written."""
        if name not in self.orders.paused:
            return not self._unsaved
        self.orders.paused.remove(name)
        self.orders.pauses.pop(name, None)
        self._unsaved = True
        return self.save()

    def rename(self, old: str, new: str) -> None:
        """Make the orders about one NAME those about another.

        Raises:
            OSError: The disk does not take them.
        """
        if self.orders.rename(old, new):
            self._unsaved = True
            save_orders(self._state, self.orders)
            self._unsaved = False

    def mark_unsaved(self) -> None:
        """Have `save` write the file again: it was removed. Without orders there need be none."""
        orders = self.orders
        self._unsaved = bool(orders.stopped or orders.started or orders.paused)

    def save(self) -> bool:
        """Write what is not on disk yet; return False if the disk does not take it."""
        if self._unsaved:
            try:
                save_orders(self._state, self.orders)
            except OSError as error:
                self._problem.note(error)
            else:
                self._unsaved = False
                self._problem.clear()
        return not self._unsaved
