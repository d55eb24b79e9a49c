"""One line on a terminal about what takes long. Durations are seconds."""

import os
import sys
import time
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

import click

from .render.text import sanitize, span

T = TypeVar("T")

FIRST_S = 0.5  # what is done before that shows nothing
EVERY_S = 0.1  # between two updates, at least
TICK_S = 0.25
WIDTH = 80  # columns, where the terminal does not say
ERASE = "\r\x1b[K"
GOES_ON = "the host goes on with it: garrison status"
NAMES_MOST = 3  # that are waited for and named
COUNTED = frozenset({"up", "start", "stop", "restart", "down"})
AT_REST = frozenset({"registered", "stopped", "failed"})


class Progress:
    """Shows how far something is, on standard error if that is a terminal.

    Use it as a context. Ctrl-C within it prints what becomes of the work.

    Args:
        total: How many there are to do; None where that is not known.
        what: What is done, as in "starting 3 of 12 services" without the numbers: "starting".
        noun: What is counted.
        quiet: Show nothing, as with `--json` and `--quiet`.
        goes_on: What Ctrl-C leaves, as a sentence; empty if it ends the work.
        stream: In place of standard error.
        clock: In place of the monotonic clock.
    """

    def __init__(
        self,
        total: int | None,
        what: str,
        *,
        noun: str = "services",
        quiet: bool = False,
        goes_on: str = GOES_ON,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self._what, self._noun, self._goes_on = total, what, noun, goes_on
        self._stream = sys.stderr if stream is None else stream
        self._clock, self._began, self._shown_at = clock, clock(), 0.0
        self._shows = not quiet and self._stream.isatty()
        self._visible = False

    @property
    def shows(self) -> bool:
        """Return whether anything is shown: else nothing has to be found out for it."""
        return self._shows

    def update(self, done: int | None, detail: str = "") -> None:
        """Show how far it is; at most ten times a second, and not in the first half second.

        Args:
            done: How many are done; None where that is not known.
            detail: What is being done or waited for.
        """
        now = self._clock()
        early = now - self._began < FIRST_S
        if not self._shows or early or (self._visible and now - self._shown_at < EVERY_S):
            return
        self._shown_at, self._visible = now, True
        text = words(self._what, done, self.total, self._noun, now - self._began, detail)
        self._write(f"{ERASE}{cut(text, _columns(self._stream) - 1)}")

    async def during(self, work: Awaitable[T]) -> T:
        """Await something of which nothing is known but how long it takes; return its result."""
        import asyncio  # 4 MiB; the supervisor has none of its own, and loads this module

        async def tick() -> None:
            while True:
                self.update(None)
                await asyncio.sleep(TICK_S)

        ticking = asyncio.create_task(tick())
        try:
            return await work
        finally:
            ticking.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._visible:
            self._write(ERASE)
        if isinstance(error, KeyboardInterrupt) and self._goes_on:
            click.echo(f"interrupted; {self._goes_on}", err=True)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal is gone; the work goes on
            self._shows = self._visible = False


def words(
    what: str, done: int | None, total: int | None, noun: str, seconds: float, detail: str
) -> str:
    """Return the line: "starting 3 of 12 services, 4s: waits for discord (starting)"."""
    counts = "" if done is None or total == 0 else f" {done:,}"
    if total:
        counts += f" of {total:,}" if done is not None else f" {total:,}"
    noun = noun.removesuffix("s") if (total or done) == 1 else noun
    text = f"{what}{counts} {noun}" if counts else what
    return f"{text}, {span(seconds)}" + (f": {sanitize(detail)}" if detail else "")


def cut(text: str, width: int) -> str:
    """Return a text that is at most so many columns wide."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or WIDTH
    except (OSError, ValueError):
        return WIDTH


class States:
    """Reads from `status` how far an order to services is. Pure.

    Args:
        verb: The order: one of COUNTED, or another, which has no total.
        patterns: The NAMEs and globs that it is about; none is all.
    """

    def __init__(self, verb: str, patterns: tuple[str, ...] = ()) -> None:
        self._verb, self._patterns = verb, patterns
        self._before: dict[str, tuple[int, bool]] | None = None  # NAME → generation, ran

    def look(self, data: dict[str, Any]) -> tuple[int | None, int | None, str]:
        """Return how many services are done, of how many, and which are waited for.

        Args:
            data: The answer of `status`.
        """
        rows = [row for row in data["services"] if self._concerns(row)]
        if self._before is None:
            self._before = {
                row["name"]: (row["generation"], row["state"] == "running") for row in rows
            }
        left = [row for row in rows if not self._is_done(row)]
        if self._verb not in COUNTED:
            left = [row for row in left if row["wanted"] or row["state"] not in AT_REST]
            return None, None, _waiting(left)
        return len(rows) - len(left), len(rows), _waiting(left)

    def _concerns(self, row: dict[str, Any]) -> bool:
        if self._verb == "up":
            return bool(row["wanted"])
        names = self._patterns
        return not names or any(fnmatchcase(row["name"], one) for one in names)

    def _is_done(self, row: dict[str, Any]) -> bool:
        state: str = row["state"]
        if self._verb in {"stop", "down"}:
            return state in AT_REST
        if self._verb == "restart" and self._before is not None:
            generation, ran = self._before.get(row["name"], (0, False))
            return state == "running" and (row["generation"] > generation or not ran)
        return state == "running"


def _waiting(rows: list[dict[str, Any]]) -> str:
    """Return which services are waited for, and what each does."""
    busy = sorted(rows, key=lambda row: row["state"] in {"queued", *AT_REST})
    named = [f"{row['name']} ({row['state']})" for row in busy[:NAMES_MOST]]
    more = f" and {len(rows) - NAMES_MOST} more" if len(rows) > NAMES_MOST else ""
    return ", ".join(named) + more


class OrderProgress(Progress):
    """The progress of an order to services, by what `status` says meanwhile.

    Args:
        verb: The order.
        what: What it does, in words.
        names: The NAMEs and globs that it is about; none is all.
        quiet: Show nothing.
        goes_on: What Ctrl-C leaves.
    """

    def __init__(
        self,
        verb: str,
        what: str,
        names: tuple[str, ...] = (),
        *,
        quiet: bool,
        goes_on: str = GOES_ON,
    ) -> None:
        super().__init__(None, what, quiet=quiet, goes_on=goes_on)
        self._states = States(verb, names)

    @property
    def watch(self) -> Callable[[dict[str, Any]], None] | None:
        """Return what `request` passes each answer of `status` to; None if nothing is shown."""
        return self.look if self.shows else None

    def look(self, data: dict[str, Any]) -> None:
        """Show how far it is by an answer of `status`."""
        done, self.total, detail = self._states.look(data)
        self.update(done, detail)
