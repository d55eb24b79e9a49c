"""What `garrison up` shows: one line an event, and the services' log lines, each with its name.

A thread writes, so that a terminal that is paused, or a pipe that nobody reads, stops no service.
What it cannot write is dropped beyond a few thousand lines.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from .events import Event
from .tail import LogTail

WAITING_LINES = 4000  # events that wait for the terminal; older ones are dropped
LOOK_S = 0.1  # between looks at the log files
CLOSE_S = 1.0  # for the last lines to be written

COLOURS = {
    "running": "green",
    "failed": "red",
    "backoff": "yellow",
    "stopping": "blue",
    "stopped": "blue",
}


class Console:
    """The foreground's output.

    Args:
        logs: The folder of the services' log files.
        hint: The command that comes next, once everything is settled.
        encode: Makes a line of an event or a log line, for programs; None is for people.
        with_logs: Whether the services' lines are shown, too.
        out: Where to write.
    """

    def __init__(
        self,
        logs: Path,
        hint: str,
        encode: Callable[[Any], str] | None = None,
        with_logs: bool = True,
        out: TextIO = sys.stdout,
    ) -> None:
        self._encode = encode
        self._out = out
        self._hint = hint
        self._events: deque[Event] = deque(maxlen=WAITING_LINES)
        self._follower = LogTail(logs, lambda name: with_logs)
        self._stop = threading.Event()
        self._width = 10
        self._tty = out.isatty()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def heard(self, event: Event) -> None:
        """Take an event; called in the supervisor's loop, and never waits."""
        self._events.append(event)

    def close(self) -> None:
        """Write what is left, and end."""
        self._stop.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        try:
            while not self._stop.wait(LOOK_S):
                self._write()
            self._write()
        except (OSError, ValueError):  # the terminal or the pipe is gone: services go on
            self._events.clear()

    def _write(self) -> None:
        lines: list[str] = []
        while self._events:
            lines += self._event_lines(self._events.popleft())
        lines += [self._log_line(name, line) for name, line in self._follower.read()]
        if lines:
            self._out.write("".join(line + "\n" for line in lines))
            self._out.flush()

    def _event_lines(self, event: Event) -> list[str]:
        if self._encode is not None:
            return [self._encode(event)]
        lines = [self._line(event.service or "garrison", _told(event, self._tty), event.time)]
        if event.event == "supervisor.settled" and self._hint:
            lines.append(self._styled(f"now: {self._hint}", bold=True))
        if event.event == "supervisor.stopping" and self._tty:
            lines.append(self._styled("in order; Ctrl-C again ends everything at once", bold=True))
        return lines

    def _log_line(self, name: str, line: str) -> str:
        if self._encode is not None:
            return self._encode({"service": name, "line": line})
        return self._line(name, f"| {line}")

    def _line(self, name: str, text: str, utc: str = "") -> str:
        self._width = max(self._width, min(len(name), 24))
        now = datetime.fromisoformat(utc).astimezone() if utc else datetime.now().astimezone()
        return f"{now:%H:%M:%S} {self._styled(name.ljust(self._width), fg='cyan')} {text}"

    def _styled(self, text: str, **style: str | bool) -> str:
        return click.style(text, **style) if self._tty else text  # type: ignore[arg-type]


def _told(event: Event, colours: bool) -> str:
    """Return an event in words, without its service."""
    if event.event != "service.state":
        return Event(event.n, event.time, event.event, "", event.data).text()
    data = dict(event.data)
    before, after = data.pop("from"), data.pop("to")
    if "death" in data:
        data["see"] = f"garrison death {data.pop('death')}"
    shown = click.style(after, fg=COLOURS.get(after)) if colours else after
    rest = Event(0, "", "", "", data).text()
    return f"{before} → {shown} {rest}".rstrip()
