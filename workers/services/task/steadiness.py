"""Which services have run for long enough that tasks may be started. Pure. Monotonic seconds.

While the host flaps, nothing is started: a task that begins in a host which is about to lose its
services fails for no reason of its own.
"""

import math

import msgspec

from garrison.ipc import State

RESTLESS = frozenset(
    {State.QUEUED, State.INITIALIZING, State.STARTING, State.STOPPING, State.BACKOFF}
)
PATIENCE_S = 30.0  # for services that a task does not run in: one that keeps crashing


class _Seen(msgspec.Struct):
    """What is known of one service."""

    state: State
    generation: int
    since: float


class Steadiness:
    """When services changed, and whether the host has been quiet since.

    Args:
        seconds: For which services must have run.
        now: Monotonic seconds.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self._seconds = seconds
        self._services: dict[str, _Seen] = {}
        self._restless_since = now  # when the host began to change
        self._changed = now  # the last time that it did

    def observe(self, name: str, state: State | None, generation: int, now: float) -> None:
        """Note the state of a service; None: it is gone."""
        was_quiet = not self._moving() and now - self._changed > self._seconds
        seen = self._services.get(name)
        if state is None:
            self._services.pop(name, None)
        elif seen is None or (seen.state, seen.generation) != (state, generation):
            self._services[name] = _Seen(state, generation, now)
        else:
            return
        if was_quiet:
            self._restless_since = now
        self._changed = now

    def _moving(self) -> bool:
        """Return whether a service starts, stops or waits for its next start."""
        return any(seen.state in RESTLESS for seen in self._services.values())

    def wait(self, service: str, now: float) -> float:
        """Return after how many seconds tasks may be started in a service; 0 is now.

        Infinite: not before something changes.
        """
        seen = self._services.get(service)
        if seen is None or seen.state is not State.RUNNING:
            return math.inf
        own = seen.since + self._seconds - now
        return max(own, min(self._host_wait(now), self._patience(now)), 0.0)

    def _host_wait(self, now: float) -> float:
        return math.inf if self._moving() else self._changed + self._seconds - now

    def _patience(self, now: float) -> float:
        return self._restless_since + PATIENCE_S - now
