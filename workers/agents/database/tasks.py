"""`Task`: work for a later time, once or repeatedly, and the states that it goes through."""

from datetime import UTC, datetime
from typing import Any

import msgspec

PENDING = "pending"  # waits for its time
RUNNING = "running"  # claimed: a runner has it until its lease ends
DONE = "done"
FAILED = "failed"  # gave up; its last error is in `error`
PAUSED = "paused"  # runs again after `resume`; `error` says why it was paused

QUEUE = "queue"  # the tag of tasks that the task service runs
REPEAT = "repeat"  # the tag of tasks that it runs again and again


class Task(msgspec.Struct, kw_only=True):
    """Work for a later time, once or repeatedly.

    The task service runs those with the tag `queue`. One with the tag `repeat` runs again
    `metadata["updateInterval"]` milliseconds later, or at the times of `cron`.
    """

    name: str  # of the TaskWorker that runs it
    id: str = ""
    description: str = ""
    status: str = PENDING
    scheduled_for: datetime | None = None  # None is now; without a time zone it is UTC
    tags: list[str] = []
    metadata: dict[str, Any] = {}
    room_id: str = ""
    world_id: str = ""
    entity_id: str = ""
    agent_id: str = ""
    cron: str = ""  # five fields, in `time_zone`
    time_zone: str = ""  # such as "Europe/Berlin"; empty is the task service's
    missed: str = ""  # "run", "skip", "latest": what follows a missed time; empty: the service's
    max_late: float | None = (
        None  # seconds after which a time counts as missed; None: the service's
    )
    attempts: int = 0  # failed runs in a row
    error: str = ""  # of the last failed run, or why it is paused
    created_at: float = 0.0  # seconds since the epoch, as those below
    updated_at: float = 0.0
    lease: str = ""  # id of the claim that runs it now
    lease_owner: str = ""
    lease_until: float = 0.0
    runs: int = 0  # finished runs; those that are tried again are not counted
    deaths: int = 0  # how often in a row it ended the process that ran it
    missed_count: int = 0  # times that passed without a run, or with a late one
    missed_until: float = 0.0  # the last of them

    def __post_init__(self) -> None:
        if self.scheduled_for is not None and self.scheduled_for.tzinfo is None:
            self.scheduled_for = self.scheduled_for.replace(tzinfo=UTC)

    @property
    def run_id(self) -> str:
        """Return an id of the present run, which stays the same where the run is tried again.

        Hand it to what must happen once a run, such as the `id` of a message.
        """
        return f"task-{self.id}-{self.runs + 1}"
