"""Shows the status of services in place, once a second, until `q`. Durations are seconds."""

import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import click

from garrison.ipc.errors import GarrisonError, OrderFailed, SupervisorGone

from .errors import DONE
from .output import Invocation
from .status_order import changed

if TYPE_CHECKING:
    from .screen import Screen

EVERY_S = 1.0  # between two looks
MARKED_S = 5.0  # how long a service that has changed is marked
ENDS = frozenset({"q", "Q", "escape"})
FOOTER = "marked: changed within 5 s; q quits"

Lines = Callable[[dict[str, Any], Collection[str]], Iterable[str]]


class Source(Protocol):
    """What is looked at."""

    def look(self) -> dict[str, Any]:
        """Return what is shown now. Raises GarrisonError."""
        ...


def watch_status(invocation: Invocation, source: Source, lines: Lines) -> int:
    """Show the status until `q` or Ctrl-C; with `--json`, print a value a second until Ctrl-C.

    Args:
        invocation: The command line.
        source: What is looked at.
        lines: Makes the lines that are shown of what was seen, and of the NAMEs to mark.
    """
    if invocation.json:
        while True:
            invocation.answer(source.look())
            time.sleep(EVERY_S)
    from .screen import Screen, is_terminal

    if not is_terminal():
        text = "--watch needs a terminal, or --json; garrison events -f follows what happens"
        raise click.UsageError(text)
    first = source.look()  # before the screen changes: no supervisor is an error as of any verb
    with Screen() as screen:
        StatusWatch(source, lines, screen, first).run()
    return DONE


class StatusWatch:
    """The screen.

    Args:
        source: What is looked at.
        lines: Makes the lines that are shown.
        screen: The terminal.
        first: What was seen first.
    """

    def __init__(
        self, source: Source, lines: Lines, screen: "Screen", first: dict[str, Any]
    ) -> None:
        self._source, self._lines, self._screen = source, lines, screen
        self._data, self._problem = first, ""
        self._marked: dict[str, float] = {}  # NAME → until when

    def run(self) -> None:
        """Show until `q`, or until the terminal is gone."""
        due = time.monotonic() + EVERY_S
        while True:
            self._draw()
            try:
                key = self._screen.key(due - time.monotonic())
            except EOFError:
                return
            if key in ENDS:
                return
            if time.monotonic() >= due:
                self._look()
                due = time.monotonic() + EVERY_S

    def _look(self) -> None:
        try:
            data = self._source.look()
        except SupervisorGone:
            self._problem = "no supervisor answers: this is old; waiting for the next one"
        except OrderFailed as error:
            self._problem = str(error)
        except GarrisonError as error:
            self._problem = f"{error}; this is old"
        else:
            now = time.monotonic()
            names = changed(self._data["services"], data["services"])
            self._marked = {name: at for name, at in self._marked.items() if at > now}
            self._marked |= dict.fromkeys(names, now + MARKED_S)
            self._data, self._problem = data, ""

    def _draw(self) -> None:
        now = time.monotonic()
        marked = {name for name, until in self._marked.items() if until > now}
        lines = list(self._lines(self._data, marked))
        width, height = self._screen.size
        footer = click.style(f"! {self._problem}", fg="red") if self._problem else FOOTER
        self._screen.draw([*fitting_lines(lines, height - 1), footer[: max(width + 20, 0)]])


def fitting_lines(lines: list[str], height: int) -> list[str]:
    """Return lines that fit a height; the last says how many do not."""
    if len(lines) <= height:
        return lines
    shown = max(height - 1, 0)
    return [*lines[:shown], f"… {len(lines) - shown} more lines: garrison status has them"]
