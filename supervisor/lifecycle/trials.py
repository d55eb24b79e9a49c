"""A trial: whether a service that was restarted with `--try` has run for long enough. Pure.

Times are monotonic seconds.
"""

import msgspec

from garrison.ipc.messages import State

from .services import Service

ENDED = frozenset({State.BACKOFF, State.FAILED})


class Tried(msgspec.Struct, frozen=True):
    """One service of a trial.

    Attributes:
        service: The service.
        before: The generation of its process before the trial.
        restarted: How often it had been restarted without a command.
    """

    service: Service
    before: int
    restarted: int

    @property
    def runs(self) -> bool:
        """Return whether its next process runs."""
        service = self.service
        is_next = service.child.generation > self.before and not service.current.ended
        return service.state is State.RUNNING and is_next

    def problem(self, waiting: str) -> str:
        """Return why its trial has failed; empty while it has not.

        Args:
            waiting: What it waits for, where that cannot start by itself.
        """
        service, health = self.service, self.service.current.health
        words = service.reason or service.last_exit
        if service.state in ENDED or service.child.restarted > self.restarted:
            return words or "it did not run"
        if service.state is State.STOPPED and not service.child.wanted:
            return words or "it ended"
        if service.state is State.QUEUED and waiting:
            return f"it {waiting}"
        if self.runs and health is not None and health.problem:
            return f"its health is not good ({health.problem})"
        return ""
