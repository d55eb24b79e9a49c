"""The verb that shows what services do, live: `top`. Durations are seconds."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from garrison.ipc.errors import GarrisonError, OrderFailed, SupervisorGone

from .client import request
from .counters import read_totals
from .durations import Seconds
from .errors import DONE
from .output import Invocation, options
from .top_rows import ORDERS, TopRow, Window, order_of, ordered, rows_of

if TYPE_CHECKING:
    from .render.top import View
    from .screen import Screen

SORTS = [order.word for order in ORDERS]
ONCE_S = 1.1  # between the two readings of a single table: each worker sends a heartbeat a second
ORDER_S = 120.0  # for a restart or a stop
NOTE_S = 8.0  # how long it is shown what came of one


@click.command(epilog="Examples: garrison top; garrison top --sort memory; garrison top | head")
@click.option(
    "--sort",
    "sort",
    type=click.Choice(SORTS),
    default="unwell",
    show_default=True,
    help="The order at first; keys change it.",
)
@click.option(
    "--every",
    "every_s",
    type=Seconds(3600.0),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two readings.",
)
@options
def top(invocation: Invocation, sort: str, every_s: float) -> int:
    """Show live what services do.

    Calls a second, how long they take and how many fail are those of the last 5 s, as callers
    counted them. Keys sort, restart and stop the chosen service, and follow its log. Without a
    terminal, and with --json, it prints one table.
    """
    from .screen import Screen, is_terminal

    source = Source(invocation.home)
    if invocation.json or not is_terminal():
        return _once(invocation, source, sort)
    source.look()  # before the screen changes: no supervisor is an error as of any verb
    with Screen() as screen:
        Top(invocation, source, screen, sort, every_s).run()
    return DONE


class Source:
    """Reads the host, and keeps what it was last.

    Args:
        home: Its home.

    Attributes:
        problem: Why that is old; empty: it is not.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._window = home, Window()
        self._counts = True  # False: an operator of a team may not see calls
        self.status: dict[str, Any] = {}
        self.rows: list[TopRow] = []
        self.problem = ""

    def look(self) -> None:
        """Read the host now. Raises what `request` raises."""
        status = request(self._home, "status")
        rates = None
        if self._counts:
            try:
                rates = self._window.add(read_totals(self._home))
            except OrderFailed as error:  # or an older supervisor, which counts nothing
                self._counts = error.code != "not_allowed"
        self.status, self.rows = status, rows_of(status, rates)

    def look_forever(self, every_s: float, notify: Callable[[], None]) -> None:
        """Read the host again and again, in a thread: one that does not answer stops no keys."""
        while True:
            time.sleep(every_s)
            try:
                self.look()
                self.problem = ""
            except SupervisorGone:
                self.problem = "no supervisor answers: this is old; waiting for the next one"
            except GarrisonError as error:
                self.problem = str(error)
            notify()


def _once(invocation: Invocation, source: Source, sort: str) -> int:
    from .render.top import table

    source.look()
    time.sleep(ONCE_S)
    source.look()
    rows = ordered(source.rows, order_of(sort))
    invocation.answer({"services": rows})
    if not invocation.json:
        width = shutil.get_terminal_size((200, 50)).columns
        for line in table(source.status, rows, width, order_of(sort)):
            invocation.say(line)
    return DONE


class Top:
    """The screen: what is shown, and what keys do.

    Args:
        invocation: The command line.
        source: Has the rows.
        screen: The terminal.
        sort: The order at first.
        every_s: Seconds between two readings.
    """

    def __init__(
        self, invocation: Invocation, source: Source, screen: "Screen", sort: str, every_s: float
    ) -> None:
        self._invocation, self._source, self._screen = invocation, source, screen
        self._order, self._every = order_of(sort), every_s
        self._rows = ordered(source.rows, self._order)
        self._chosen = ""
        self._first = 0
        self._question: tuple[str, str] | None = None  # verb and NAME
        self._note, self._note_until = "", 0.0
        self._orders: dict[tuple[str, str], threading.Thread] = {}

    def run(self) -> None:
        """Show until `q`."""
        look = self._source.look_forever
        arguments = (self._every, self._screen.wake)
        threading.Thread(target=look, args=arguments, daemon=True).start()
        while True:
            self._draw()
            try:
                key = self._screen.key(NOTE_S)
            except EOFError:
                return
            if key is not None and not self._on_key(key):
                return

    # --- what is shown ----------------------------------------------------------------------

    def _draw(self) -> None:
        from .render.top import screen

        self._rows = ordered(self._source.rows, self._order)
        self._screen.draw(screen(self._source.status, self._rows, self._view()))

    def _view(self) -> "View":
        from .render.top import View

        width, height = self._screen.size
        room = max(height - 3, 1)
        place = self._place()
        self._first = max(min(self._first, place, len(self._rows) - room), place - room + 1, 0)
        note = self._note if time.monotonic() < self._note_until else ""
        if self._question is not None:
            note = f"{self._question[0]} {self._question[1]}? y/N"
        problem = self._source.problem
        return View(width, height, self._order, self._chosen, self._first, note, problem)

    def _place(self) -> int:
        """Return the place of the chosen row; one that is gone is replaced."""
        names = [row.name for row in self._rows]
        if self._chosen not in names:
            self._chosen = names[0] if names else ""
        return names.index(self._chosen) if names else 0

    def _say(self, text: str) -> None:
        self._note, self._note_until = text, time.monotonic() + NOTE_S
        self._screen.wake()

    # --- keys -------------------------------------------------------------------------------

    def _on_key(self, key: str) -> bool:
        """Act on a key; return False to end."""
        if self._question is not None:
            (verb, name), self._question = self._question, None
            if key in {"y", "Y"}:
                self._begin(verb, name)
            return True
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10}
        if key in {"q", "Q"}:
            return False
        if key in steps and self._rows:
            place = min(max(self._place() + steps[key], 0), len(self._rows) - 1)
            self._chosen = self._rows[place].name
        elif key in {"R", "S"} and self._chosen:
            self._question = "restart" if key == "R" else "stop", self._chosen
        elif key == "L" and self._chosen:
            self._follow_log(self._chosen)
        elif order := next((one for one in ORDERS if one.key == key), None):
            self._order, self._chosen = order, ""
        return True

    def _begin(self, verb: str, name: str) -> None:
        """Give an order. It is carried out even if this program ends meanwhile."""
        if (verb, name) in self._orders:
            self._say(f"{verb} {name} is under way already")
            return
        thread = threading.Thread(target=self._carry_out, args=(verb, name), daemon=True)
        self._orders[verb, name] = thread
        self._say(f"{verb} {name} …")
        thread.start()

    def _carry_out(self, verb: str, name: str) -> None:
        try:
            request(self._invocation.home, verb, (name,), ORDER_S)
        except GarrisonError as error:
            self._say(f"{verb} {name}: {error}")
        else:
            self._say(f"{verb} {name}: done")
        finally:
            self._orders.pop((verb, name), None)

    def _follow_log(self, name: str) -> None:
        """Leave the screen to `garrison logs -f` until Ctrl-C."""
        self._screen.hide()
        click.echo(f"--- log of {name}; Ctrl-C returns to top", err=True)
        command = [sys.executable, "-m", "garrison.supervisor.cli", "--home"]
        former = signal.signal(signal.SIGINT, lambda *_: None)  # ends the child alone
        try:
            words = [*command, str(self._invocation.home), "logs", name, "-f"]
            with contextlib.suppress(OSError):
                subprocess.run(words, check=False)
        finally:
            signal.signal(signal.SIGINT, former)
            self._screen.show()
