"""An engine whose answers arrive late, as of workers on another machine."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import inf

from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.silence import Contact
from garrison.supervisor.lifecycle.start_slots import StartWork
from garrison.supervisor.processes.engine import (
    NO_LIMITS,
    Engine,
    Happened,
    Inherited,
    Key,
    Measured,
)

DELAY_S = 5.0


class DelayedEngine:
    """An engine that reports what another one reports, but later.

    Args:
        inner: The engine that does the work.
        delay: Seconds from an event until `turn` returns it.
        clock: Returns the time, in seconds.
    """

    def __init__(
        self,
        inner: Engine,
        delay: float = DELAY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner, self._delay, self._clock = inner, delay, clock
        self._late: deque[tuple[float, Happened]] = deque()  # with the time of its report

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        first = self._late[0][0] if self._late else inf
        return min(first, self._inner.due)

    @property
    def busy(self) -> bool:
        """Return whether `turn` is to be called soon, though no descriptor is ready."""
        return self._inner.busy

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return self._inner.descriptors()

    def turn(self) -> list[Happened]:
        """Return what happened a delay ago."""
        now = self._clock()
        self._late += [(now + self._delay, happened) for happened in self._inner.turn()]
        ready: list[Happened] = []
        while self._late and self._late[0][0] <= now:
            ready.append(self._late.popleft()[1])
        return ready

    def fork(
        self,
        key: Key,
        name: str,
        assignment: bytes,
        limits: ProcessLimits = NO_LIMITS,
        log: str = "",
        python: str = "",
        brief: bool = False,
    ) -> None:
        """Fork a worker."""
        self._inner.fork(key, name, assignment, limits, log, python, brief)

    def reap(self) -> None:
        """Reap ended children that are not the engine's."""
        self._inner.reap()

    def watch(self, key: Key, limits: ProcessLimits) -> None:
        """Measure a worker."""
        self._inner.watch(key, limits)

    def signal(self, key: Key, number: int, group: bool = True) -> None:
        """Signal a worker."""
        self._inner.signal(key, number, group)

    def has(self, key: Key) -> bool:
        """Return whether anything of a worker is left."""
        return self._inner.has(key)

    def contact(self, key: Key) -> Contact | None:
        """Return what is known of a worker on another machine."""
        return self._inner.contact(key)

    def left(self, handles: Sequence[Handle]) -> list[Handle]:
        """Return those of these processes that still run."""
        return self._inner.left(handles)

    def measure(self, key: Key, tree: bool = False, command: bool = False) -> Measured:
        """Return what a worker uses."""
        return self._inner.measure(key, tree, command)

    def measure_start(self, key: Key) -> StartWork | None:
        """Return what a worker has used of the processor."""
        return self._inner.measure_start(key)

    def preload(self, modules: tuple[str, ...]) -> None:
        """Import modules."""
        self._inner.preload(modules)

    def check_fresh(self) -> None:
        """Check whether a preloaded file has changed."""
        self._inner.check_fresh()

    def refresh(self, modules: tuple[str, ...]) -> None:
        """Fork from a new launcher."""
        self._inner.refresh(modules)

    def abandon(self) -> None:
        """End a launcher that hangs."""
        self._inner.abandon()

    def adopt(self, known: Sequence[Inherited]) -> None:
        """Start to take over workers."""
        self._inner.adopt(known)

    def dump(self, key: Key, is_last: bool = True) -> None:
        """Make a worker write its stacks."""
        self._inner.dump(key, is_last)

    def report(self, key: Key) -> None:
        """Read what a worker left."""
        self._inner.report(key)

    def discard(self, key: Key) -> None:
        """Remove what a worker left."""
        self._inner.discard(key)

    def status(self) -> Mapping[str, int | None]:
        """Return what `garrison status` shows."""
        return self._inner.status()

    def close(self) -> None:
        """Release descriptors."""
        self._inner.close()

    def leave(self, kill: bool) -> None:
        """End all workers."""
        self._inner.leave(kill)
