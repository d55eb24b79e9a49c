"""What of a hook waits to be delivered, and what is held back. Pure.

The same kind of the same service is delivered once in `every` seconds, the first at once; what
comes meanwhile is counted in the next. Times are monotonic seconds of the machine.
"""

from math import inf
from typing import Any

import msgspec

KEYS_MOST = 1000  # kinds and services that are held back at the same time
RECOVERED = "recovered"
TROUBLES = ("failed", "death", "unwell", "deaf", "limit")  # what a service recovers from
QUEUE_MOST = 100  # deliveries that wait
BURST_MOST = 30  # deliveries in `every` seconds, of all kinds and services together


class Notice(msgspec.Struct, frozen=True):
    """One delivery of a hook."""

    id: str
    on: str
    service: str
    reason: str
    at: str  # UTC, of the event
    event: str
    death: str = ""  # id of the crash report
    held: int = 0  # events of the same kind and service that were held back before it
    others: int = 0  # events that were not even counted by kind and service
    begun: int = 0  # deliveries that were begun, also by processes that ended in them
    test: bool = False
    data: dict[str, Any] = {}


class Window(msgspec.Struct):
    """One kind of one service, after its last delivery."""

    until: float
    held: int = 0
    last: Notice | None = None  # of those that were held back


class Pending(msgspec.Struct):
    """What of one hook waits."""

    queue: list[Notice] = []  # the oldest first
    windows: dict[str, Window] = {}
    others: int = 0
    burst_until: float = 0.0
    burst: int = 0

    def restored(self, now: float, every: float) -> None:
        """Bound the times of another boot of the machine, whose clock began again."""
        self.burst_until = min(self.burst_until, now + every)
        for window in self.windows.values():
            window.until = min(window.until, now + every)

    def take(self, notice: Notice, now: float, every: float) -> None:
        """Queue a notice, or hold it back."""
        key = _key(notice.on, notice.service)
        window = self.windows.get(key)
        later = self._held_trouble(notice) if notice.on == RECOVERED else 0.0
        if notice.on in TROUBLES and notice.service:
            self._drop_recovery(notice.service)
        if window is None and later:
            window = self.windows[key] = Window(later)
        if window is None and self._has_room(now, every):
            self._deliver(key, notice, now, every)
            return
        if window is None:
            if len(self.windows) >= KEYS_MOST:
                self.others += 1
                return
            window = self.windows[key] = Window(now)
        window.held, window.last = window.held + 1, notice
        window.until = max(window.until, later)

    def _held_trouble(self, notice: Notice) -> float:
        """Return when what is held back of a service's troubles is delivered; 0: nothing is. That
        it has recovered is delivered after it."""
        keys = (_key(on, notice.service) for on in TROUBLES)
        found = (self.windows[key] for key in keys if key in self.windows)
        return max((one.until for one in found if one.last is not None), default=0.0)

    def _drop_recovery(self, service: str) -> None:
        """Forget that a service had recovered, if that is not delivered yet: it is not so now."""
        window = self.windows.get(_key(RECOVERED, service))
        if window is not None:
            window.held, window.last = 0, None

    def release(self, now: float, every: float) -> None:
        """Queue what was held back long enough."""
        in_order = sorted(
            self.windows.items(), key=lambda one: (one[1].until, one[0].startswith(RECOVERED))
        )
        for key, window in in_order:
            if now < window.until:
                continue
            if window.last is None:
                del self.windows[key]
            elif self._has_room(now, every):
                notice = msgspec.structs.replace(window.last, held=window.held - 1)
                self._deliver(key, notice, now, every)

    def due(self, now: float, every: float) -> float:
        """Return when `release` has something to do; infinite: never."""
        if len(self.queue) >= QUEUE_MOST:
            return inf
        due = min((one.until for one in self.windows.values()), default=inf)
        is_full = self.burst >= BURST_MOST and now < self.burst_until
        return max(due, self.burst_until) if is_full and every else due

    def _has_room(self, now: float, every: float) -> bool:
        if now >= self.burst_until:
            self.burst_until, self.burst = now + every, 0
        return len(self.queue) < QUEUE_MOST and (not every or self.burst < BURST_MOST)

    def _deliver(self, key: str, notice: Notice, now: float, every: float) -> None:
        self.burst += 1
        if self.others:
            notice = msgspec.structs.replace(notice, others=self.others)
            self.others = 0
        self.queue.append(notice)
        self.windows.pop(key, None)
        if every:
            self.windows[key] = Window(now + every)


def _key(on: str, service: str) -> str:
    return f"{on} {service}"
