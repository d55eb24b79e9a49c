"""The output of `garrison up`: one line for each event, and the services' log lines.

A thread writes, so that a paused terminal or a pipe without a reader stops no service. Lines that
cannot be written are dropped beyond a few thousand.
"""

import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from garrison.ipc.log_files import LogReader
from garrison.ipc.system.folder_watch import FolderWatch

from .events import LogEvent, localized

WAITING_LINES = 4000  # events that wait for the terminal; older ones are dropped
LOOK_S = 0.1  # between two reads of the log files, while they are written
IDLE_S = 60.0  # the same, while none is
SETTLED = 6  # reads without a line, until files count as idle: a rotation takes several
CLOSE_S = 1.0  # for writing the last lines

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
        hint: The command to suggest once all services are settled.
        encode: Encodes an event or a log line for programs; None: plain text.
        with_logs: Show the services' log lines too.
        out: The stream to write to; by default standard output.
    """

    def __init__(
        self,
        logs: Path,
        hint: str,
        encode: Callable[[Any], str] | None = None,
        with_logs: bool = True,
        out: TextIO | None = None,
    ) -> None:
        self._encode = encode
        self._out = out = out if out is not None else sys.stdout
        self._hint = hint
        self._events: deque[LogEvent | str] = deque(maxlen=WAITING_LINES)
        self._tail = LogReader(logs, lambda name: with_logs)
        self._watch = FolderWatch(logs)
        self._stop = threading.Event()
        self._width = 10
        self._tty = out.isatty()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def say(self, text: str) -> None:
        """Queue a line for people; it never waits."""
        self._events.append(text)
        self._watch.wake()

    def on_event(self, event: LogEvent) -> None:
        """Queue an event. Called in the supervisor's loop; it never waits."""
        self._events.append(event)
        self._watch.wake()

    def close(self) -> bool:
        """Write what is left, and stop; return False if the output still blocks the thread."""
        self._stop.set()
        self._watch.wake()
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            return False
        self._watch.close()
        return True

    def _run(self) -> None:
        empty = 0  # reads without a line, one after the other
        try:
            while not self._stop.wait(LOOK_S):
                if empty >= SETTLED and not self._stop.is_set():
                    self._watch.wait(0.0, IDLE_S)
                    empty = 0
                empty = 0 if self._write() else empty + 1
            self._write()
        except (OSError, ValueError):  # the terminal or the pipe is closed; services continue
            self._events.clear()

    def _write(self) -> bool:
        """Write what there is; return whether there was anything."""
        lines: list[str] = []
        while self._events:
            lines += self._event_lines(self._events.popleft())
        lines += [self._log_line(name, line) for name, line in self._tail.read()]
        if lines:
            self._out.write("".join(line + "\n" for line in lines))
            self._out.flush()
        return bool(lines)

    def _event_lines(self, event: LogEvent | str) -> list[str]:
        if isinstance(event, str):
            return [event] if self._encode is None else []
        if self._encode is not None:
            return [self._encode(event)]
        lines = [self._line(event.service or "garrison", _event_text(event, self._tty), event.time)]
        if event.event == "supervisor.settled" and self._hint:
            lines.append(self._styled(f"now: {self._hint}", bold=True))
        if event.event == "supervisor.stopping" and self._tty:
            lines.append(self._styled("in order; Ctrl-C again ends everything at once", bold=True))
        return lines

    def _log_line(self, name: str, line: str) -> str:
        if self._encode is not None:
            return self._encode({"service": name, "line": line})
        return self._line(name, f"| {localized(line)}")

    def _line(self, name: str, text: str, utc: str = "") -> str:
        self._width = max(self._width, min(len(name), 24))
        now = datetime.fromisoformat(utc).astimezone() if utc else datetime.now().astimezone()
        return f"{now:%H:%M:%S} {self._styled(name.ljust(self._width), fg='cyan')} {text}"

    def _styled(self, text: str, **style: str | bool) -> str:
        return click.style(text, **style) if self._tty else text  # type: ignore[arg-type]


def _event_text(event: LogEvent, colours: bool) -> str:
    """Return an event as text, without its service."""
    if event.event == "config.rejected":
        data = event.data
        where = f"{data['path']}:{data['line']}" if data["line"] else data["path"]
        parts = ("! config rejected", where, data["key"], data["problem"])
        return ": ".join(str(part) for part in parts if part)
    if event.event != "service.state":
        return LogEvent(event.n, event.time, event.event, "", event.data).text()
    data = dict(event.data)
    before, after = data.pop("from"), data.pop("to")
    if "death" in data:
        data["see"] = f"garrison death {data.pop('death')}"
    shown = click.style(after, fg=COLOURS.get(after)) if colours else after
    rest = LogEvent(0, "", "", "", data).text()
    return f"{before} → {shown} {rest}".rstrip()
