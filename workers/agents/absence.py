"""Which parts of plugins an answer does without: the absent and the late ones. Pure.

A part is a provider, or the `validate` of an action or an evaluator. Times are seconds of one
monotonic clock and arrive as `now`.
"""

from math import inf
from typing import NamedTuple

from garrison.ipc.messages import State

GRACE_S = 0.05  # in all, that one answer waits for services that ran until just now
RECENT_S = 1.0  # how long ago that may be: a restart takes less, a start that hangs takes longer
ANSWERS_MOST = 256  # answers that wait at once; of the oldest, the wait starts again
LATE_MOST = 2  # timeouts in a row; then a part is left out
LEFT_OUT_S = 30.0
PARTS_MOST = 256  # parts that were late; a further one replaces the oldest

# States that a service passes on its way back. One in backoff waits on purpose.
RETURNING = frozenset({State.QUEUED, State.INITIALIZING, State.STARTING, State.STOPPING})


class Part(NamedTuple):
    """One part of a plugin."""

    kind: str  # "provider", "gate", "validate of action", "validate of evaluator"
    name: str
    service: str  # NAME of the service whose worker runs it

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.service}"


class Absences:
    """Services that ran until just now, and how long answers wait for them."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._ended: dict[str, float] = {}  # service → when it was last seen to run
        self._until: dict[str, float] = {}  # answer → the end of its wait

    def saw(self, service: str, state: State | None, now: float) -> None:
        """Note the state of a service; None: it is no longer configured."""
        if state is State.RUNNING:
            self._running.add(service)
            self._ended.pop(service, None)
        elif service in self._running:
            self._running.discard(service)
            recent = {name: at for name, at in self._ended.items() if now - at <= RECENT_S}
            self._ended = {**recent, service: now}

    def wait(
        self, service: str, state: State | None, wanted: bool, answer: str, now: float
    ) -> float:
        """Return how long an answer may wait for a service: inf where it runs, 0 leaves it out.

        Args:
            service: Its NAME.
            state: Its state; None: it is not configured.
            wanted: Whether it is to run.
            answer: The id of the message that is answered.
            now: The time.
        """
        if state is State.RUNNING:
            return inf
        ended = self._ended.get(service, -inf)
        if state not in RETURNING or not wanted or now - ended > RECENT_S:
            return 0.0
        until = self._until.get(answer)
        if until is None or now - until > RECENT_S:  # of a message that is answered once more
            self._until.pop(answer, None)
            until = self._until[answer] = now + GRACE_S
            if len(self._until) > ANSWERS_MOST:
                del self._until[next(iter(self._until))]
        return max(until - now, 0.0)


class _Late:
    """The timeouts of one part in a row, and until when it is left out."""

    __slots__ = ("count", "until")

    def __init__(self) -> None:
        self.count, self.until = 0, -inf


class Lateness:
    """Parts that timed out. After two timeouts in a row a part is left out for a while; then one
    answer tries it, and a further timeout leaves it out again."""

    def __init__(self) -> None:
        self._late: dict[Part, _Late] = {}

    def leaves_out(self, part: Part, now: float) -> bool:
        """Return whether a part is left out. Where its time is over, the caller tries it, and
        others do without it meanwhile."""
        late = self._late.get(part)
        if late is None or late.count < LATE_MOST:
            return False
        if now < late.until:
            return True
        late.until = now + LEFT_OUT_S
        return False

    def timed_out(self, part: Part, now: float) -> None:
        """Note a timeout."""
        late = self._late.pop(part, None) or _Late()
        late.count += 1
        if late.count >= LATE_MOST:
            late.until = now + LEFT_OUT_S
        self._late[part] = late
        if len(self._late) > PARTS_MOST:
            del self._late[next(iter(self._late))]

    def answered(self, part: Part) -> bool:
        """Note that a part answered in time; return whether it had been late."""
        return self._late.pop(part, None) is not None

    def left_out(self, now: float) -> list[Part]:
        """Return the parts that are left out."""
        found = self._late.items()
        return [part for part, one in found if one.count >= LATE_MOST and now < one.until]
