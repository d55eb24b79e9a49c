"""News of services for an owner: one line for each, however many events there were. Pure.

Times are Unix seconds.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

REASON_MOST = 200  # characters
SERVICES_MOST = 1000  # whose news are kept; of more, those without news are forgotten first
LINES_MOST = 20  # of one message
BEGINS = frozenset({"queued", "initializing", "starting"})
LATER_S = 60.0  # a next try that is further away is named


class Condition(StrEnum):
    """How a service is, for its owner."""

    UP = "up"
    DOWN = "down"  # it is tried again
    FAILED = "failed"
    ENDED = "ended"  # by itself, and is not started again


NOT_RUNNING = frozenset({Condition.DOWN, Condition.FAILED})


class Known(msgspec.Struct):
    """What is known of one service."""

    now: Condition = Condition.UP
    reported: Condition = Condition.UP
    crashes: int = 0  # since the last report; failed starts count
    again: int = 0  # of them, those of a process that ran
    reason: str = ""  # of the last one, as a sentence's end
    down_at: float = 0.0  # when it went down last
    first_at: float = 0.0  # of the crashes
    back_at: float = 0.0
    wait_s: float = 0.0  # until its next start, where a report names that; else 0
    ordered: bool = False  # its next end is by order
    link: str = ""  # why its connection is lost or deaf
    reported_link: str = ""

    @property
    def is_news(self) -> bool:
        """Return whether there is something to tell."""
        if self.link != self.reported_link:
            return True
        if self.reported in {Condition.UP, Condition.ENDED} and self.now is Condition.UP:
            return self.crashes > 0
        return self.now is not self.reported


class News(msgspec.Struct):
    """What is known of all services."""

    services: dict[str, Known] = {}

    def take(self, event: str, service: str, data: dict[str, Any], at: float) -> None:
        """Note an event of the host.

        Args:
            event: Its name; only a few matter.
            service: NAME of the service.
            data: Its fields.
            at: When it happened.
        """
        if event in {"service.ordered", "service.taken_along"}:
            self._of(service).ordered = True
        elif event == "service.state":
            _moved(self._of(service), data, at)

    def take_link(self, service: str, problem: str) -> None:
        """Note that a platform's connection is lost or deaf; an empty problem: it works."""
        self._of(service).link = _line(problem)

    @property
    def is_any(self) -> bool:
        """Return whether there is something to tell."""
        return any(one.is_news for one in self.services.values())

    def lines(self) -> list[str]:
        """Return what to tell, a line for each service."""
        found = [
            line
            for name, known in self.services.items()
            if known.is_news
            for line in _lines(name, known)
        ]
        left = len(found) - LINES_MOST
        return [*found[:LINES_MOST], *([f"and {left} more: garrison status"] if left > 0 else [])]

    def note_reported(self) -> None:
        """Note that all lines are reported; what is no news yet stays, such as a crash of a
        service that was reported as down."""
        for known in (one for one in self.services.values() if one.is_news):
            known.reported, known.reported_link = known.now, known.link
            known.crashes = known.again = 0

    def _of(self, service: str) -> Known:
        if service not in self.services and len(self.services) >= SERVICES_MOST:
            self._forget_one()
        return self.services.setdefault(service, Known())

    def _forget_one(self) -> None:
        quiet = (name for name, known in self.services.items() if not known.is_news)
        del self.services[next(quiet, next(iter(self.services)))]


def _moved(known: Known, data: dict[str, Any], at: float) -> None:
    """Note a service's next state."""
    before, after = data.get("from"), data.get("to")
    if after == "stopping":
        known.ordered = known.ordered or not data.get("reason")
        if not known.ordered:
            known.reason = _line(str(data["reason"]))
    elif after == "running":
        known.now, known.back_at, known.ordered = Condition.UP, at, False
    elif before == "stopping" and (known.ordered or after == "stopped"):
        known.ordered = False
        if after == "stopped":  # by the operator, who knows it
            known.now = known.reported = Condition.UP
            known.crashes = known.again = 0
    elif after in {"backoff", "failed"} or ("exit" in data and after in {"queued", "stopped"}):
        _went_down(known, before, after, data, at)


def _went_down(known: Known, before: Any, after: Any, data: dict[str, Any], at: float) -> None:
    if after == "stopped" and before != "running":
        return
    if known.now is Condition.UP:
        known.again += 1
        if known.reported not in NOT_RUNNING:  # else it is the same outage for its owner
            known.down_at = at
    if not known.crashes:
        known.first_at = at
    known.crashes += 1
    if reason := data.get("reason"):
        known.reason = _line(str(reason))
    elif before != "stopping" and data.get("exit"):
        known.reason = f"it {data['exit']}"
    match after:
        case "failed":
            known.now = Condition.FAILED
        case "stopped":
            known.now = Condition.ENDED
        case _:
            known.now = Condition.DOWN
    wait = data.get("wait_s")
    known.wait_s = float(wait) if isinstance(wait, int | float) else 0.0
    if known.now is Condition.DOWN and known.wait_s < LATER_S:
        known.wait_s = 0.0


def _lines(name: str, known: Known) -> Iterable[str]:
    if known.link != known.reported_link:
        problem = f"{name} receives nothing: {known.link}"
        yield _end(problem) if known.link else f"{name} receives again."
    why = f": {known.reason}" if known.reason else ""
    again = f" It is tried again in {span(known.wait_s)}." if known.wait_s else ""
    match known.now:
        case Condition.UP if known.reported in NOT_RUNNING:
            more = f"It was restarted {known.again} more {_times(known.again)}{why}"
            back = f"{name} is back after {span(known.back_at - known.down_at)}."
            yield f"{back} {_end(more)}" if known.again else back
        case Condition.UP if known.crashes == 1:
            after = span(known.back_at - known.down_at)
            yield f"{_end(f'{name} was restarted{why}')} It is back after {after}."
        case Condition.UP if known.crashes:
            time = span(known.back_at - known.first_at)
            text = f"{name} was restarted {known.crashes} times within {time}{why}"
            yield f"{_end(text)} It runs now."
        case Condition.DOWN if known.reported is not Condition.DOWN:
            times = f" ({known.crashes} times)" if known.crashes > 1 else ""
            yield f"{_end(f'{name} is down{times}{why}')}{again or ' It is tried again.'}"
        case Condition.FAILED if known.reported is not Condition.FAILED:
            again = again or f" To start it: garrison restart {name}"
            yield f"{_end(f'{name} gave up{why}')}{again}"
        case Condition.ENDED if known.reported is not Condition.ENDED:
            yield f"{_end(f'{name} has ended{why}')} It is not started again."
        case _:
            return


def _times(count: int) -> str:
    return "time" if count == 1 else "times"


def span(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 0.1:  # the events' times are milliseconds
        return f"{max(seconds * 1000, 1.0):.0f} ms"
    if seconds < 120:
        return f"{max(seconds, 0.0):.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _line(text: str) -> str:
    """Return the first line of a text, bounded."""
    first = (text.strip().splitlines() or [""])[0].strip()
    return first if len(first) <= REASON_MOST else first[: REASON_MOST - 1] + "…"


def _end(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
