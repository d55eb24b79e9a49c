"""`Incidents`: what a service reports for its operator, once each, into the host's events.

An incident is in several heartbeats, because one can be lost with a supervisor that ends. Times are
monotonic seconds.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from garrison.ipc.messages import INCIDENTS, Incident, encodable

KEPT_MOST = 64  # that are not reported yet; of more, the oldest are dropped
BEAT_MOST = 32  # in one heartbeat
BEATS = 3  # heartbeats that each one is in
EVERY_S = 60.0  # in which the same one is reported once
KNOWN_MOST = 256  # of which that is known
TEXT_MOST = 1000  # characters; the supervisor cuts more, when secrets are replaced
FIELDS_MOST = 8


class Incidents:
    """The incidents of one service.

    Args:
        now: Returns the time.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._number = 0
        self._left: deque[tuple[Incident, int]] = deque(maxlen=KEPT_MOST)  # with their heartbeats
        self._at: dict[tuple[str, str, str], float] = {}  # of the same one
        self._lock = threading.Lock()  # a thread may report

    def add(self, event: str, reason: str, service: str, fields: dict[str, str]) -> None:
        """Add an incident; see `Runtime.incident`.

        Raises:
            ValueError: There is no such event.
        """
        if event not in INCIDENTS:
            raise ValueError(f"incident takes one of {', '.join(sorted(INCIDENTS))}, not {event!r}")
        reason = " ".join(encodable(str(reason)).split())[:TEXT_MOST]
        data = {key: encodable(str(value))[:TEXT_MOST] for key, value in fields.items()}
        with self._lock:
            if not self._is_new((event, service, reason)):
                return
            self._number += 1
            data = dict(list(data.items())[:FIELDS_MOST])
            self._left.append((Incident(self._number, event, reason, service, data), BEATS))

    def of_beat(self) -> tuple[Incident, ...]:
        """Return what the next heartbeat reports."""
        if not self._left:
            return ()
        with self._lock:
            sent = [self._left.popleft() for _ in range(min(BEAT_MOST, len(self._left)))]
            again = [(one, beats - 1) for one, beats in sent if beats > 1]
            room = KEPT_MOST - len(self._left)
            self._left.extendleft(reversed(again[-room:] if room else []))
        return tuple(one for one, _ in sent)

    def _is_new(self, key: tuple[str, str, str]) -> bool:
        now = self._now()
        if now < self._at.get(key, float("-inf")) + EVERY_S:
            return False
        self._at.pop(key, None)
        if len(self._at) >= KNOWN_MOST:
            del self._at[next(iter(self._at))]
        self._at[key] = now
        return True
