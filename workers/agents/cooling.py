"""Which providers of models are passed over, why, and until when. Pure.

A provider is known by its NAME, per model type. Times are monotonic seconds, passed in as `now`.
"""

from typing import NamedTuple

import msgspec

from garrison.ipc.declared_errors import Busy, ModelError, RetryLater
from garrison.ipc.errors import CallError

FIRST_S, MOST_S = 1.0, 300.0  # doubled at each failure in a row
LONGEST_S = 86_400.0  # of a wait that a provider states
KEPT_MOST = 256  # providers; the one that failed longest ago is forgotten first


class Key(NamedTuple):
    """A provider, per model type."""

    service: str  # NAME
    model_type: str


class Cooled(msgspec.Struct):
    """A provider that failed, and has not answered since."""

    error: CallError  # the last one, without its frames
    incarnation: bytes  # another one of the same NAME is not passed over
    failures: int  # in a row; requests that ran concurrently count once
    since: float  # of the last failure
    until: float
    is_probed: bool = False  # one request tests now whether it answers again

    @property
    def is_declared(self) -> bool:
        """Return whether the provider itself reported that it cannot answer now. Otherwise the
        request may have been the cause."""
        return isinstance(self.error, ModelError | Busy | RetryLater)


class Cooling:
    """The providers that failed, as seen from one worker."""

    def __init__(self) -> None:
        self._cooled: dict[Key, Cooled] = {}  # in order of their last failure

    def get(self, key: Key, incarnation: bytes) -> Cooled | None:
        """Return what is known of a provider that failed; None if it answered, or was restarted."""
        cooled = self._cooled.get(key)
        if cooled is None or (incarnation and cooled.incarnation != incarnation):
            return None
        return cooled

    def is_passed_over(self, key: Key, incarnation: bytes, now: float) -> bool:
        """Return whether the provider is not to be called now."""
        cooled = self.get(key, incarnation)
        return cooled is not None and (now < cooled.until or cooled.is_probed)

    def begin(self, key: Key, incarnation: bytes, now: float) -> bool:
        """Begin a request to a provider. True: it is the probe, so `end` must follow."""
        cooled = self.get(key, incarnation)
        if cooled is None or now < cooled.until or cooled.is_probed:
            return False
        cooled.is_probed = True
        return True

    def end(self, key: Key) -> None:
        """End a probe, with or without an answer."""
        if (cooled := self._cooled.get(key)) is not None:
            cooled.is_probed = False

    def answered(self, key: Key, began: float) -> bool:
        """Note an answer to a request that began then; True if the provider had failed before.

        The answer to a request that began before the last failure does not count.
        """
        cooled = self._cooled.get(key)
        if cooled is None or began < cooled.since:
            return False
        del self._cooled[key]
        return True

    def failed(
        self, key: Key, incarnation: bytes, error: CallError, began: float, now: float
    ) -> float:
        """Note the failure of a request that began then; return how long to pass over it."""
        before = self.get(key, incarnation)
        failures = 1 if before is None else before.failures + (began >= before.since)
        stated = stated_wait(error)
        wait = min(FIRST_S * 2.0 ** min(failures - 1, 32), MOST_S) if stated is None else stated
        until = now + wait
        if before is not None and began < before.since:  # one outage, seen by several requests
            until = max(before.until, until) if stated is not None else before.until
        self._cooled.pop(key, None)
        self._cooled[key] = Cooled(_light(error), incarnation, failures, now, until)
        if len(self._cooled) > KEPT_MOST:
            del self._cooled[next(iter(self._cooled))]
        return max(until - now, 0.0)

    def forget_others(self, offered: set[Key]) -> list[Key]:
        """Forget providers that are no longer offered; return them."""
        gone = [key for key in self._cooled if key not in offered]
        for key in gone:
            del self._cooled[key]
        return gone


def stated_wait(error: CallError) -> float | None:
    """Return the wait that the provider itself states; None if it states none."""
    if isinstance(error, RetryLater):
        return min(error.seconds, LONGEST_S)
    if isinstance(error, ModelError | Busy) and error.retry_after is not None:
        return min(error.retry_after, LONGEST_S)
    return None


def _light(error: CallError) -> CallError:
    """Return an error without what keeps frames, and the values in them, alive."""
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
