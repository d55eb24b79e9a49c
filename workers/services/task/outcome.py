"""What follows the run of a task: done, its next time, a retry, a pause. Pure. Seconds."""

import math
from enum import Enum
from typing import Any

import msgspec

from garrison.ipc import (
    Busy,
    CallError,
    InvalidCall,
    Overloaded,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.workers import Task, TaskEnd, TaskRun

from .missed import as_time

PENDING, DONE, FAILED, PAUSED = "pending", "done", "failed", "paused"  # of `Task.status`
MAX_DEATHS = 3  # of its worker's process, in a row
MAX_BACKOFF_S = 3600.0
BACKOFF_FACTOR = 4.0
NOT_NOW_S = 30.0  # after `validate` said no
ABSENT_S = 1.0  # after the service was not there, or had no room
MIN_LATER_S = 0.1
MAX_LATER_S = 366 * 86_400.0
MAX_REASON = 2000  # characters


class Limits(msgspec.Struct, frozen=True):
    """Limits from the service's config."""

    retries: int  # failed runs in a row after which a task is paused
    backoff: float  # seconds before the first retry


class Kind(Enum):
    """How a run ended."""

    DONE = "done"
    PUT_OFF = "put off"  # no failure
    FAILED = "failed"  # it is tried again
    DIED = "died"  # its worker's process ended; it is tried again
    PAUSED = "paused"


class Outcome(msgspec.Struct, frozen=True):
    """The changes of a task after its run."""

    kind: Kind
    fields: dict[str, Any]
    reason: str = ""
    delay: float = 0.0  # of a retry


def decide(
    task: Task,
    end: TaskRun | CallError,
    limits: Limits,
    now: float,
    jitter: float,
    next_time: float | None,
    was_alone: bool = True,
) -> Outcome:
    """Return what follows a run.

    Args:
        task: As it was claimed.
        end: How the run ended.
        limits: From the config.
        now: Seconds since the epoch.
        jitter: A random number from 0 to 1.
        next_time: Its next time after a run that is done; None if it has none.
        was_alone: No other task ran in the worker's process.
    """
    match end:
        case TaskRun(TaskEnd.DONE):
            return _done(task, next_time)
        case TaskRun(TaskEnd.LATER, seconds, reason):
            return _put_off(seconds, reason, now)
        case TaskRun(TaskEnd.NOT_NOW):
            return _put_off(NOT_NOW_S, "its worker's validate said no", now)
        case TaskRun(TaskEnd.PAUSE, _, reason):
            return _paused({"attempts": task.attempts + 1}, reason)
        case Busy():
            seconds = NOT_NOW_S if end.retry_after is None else end.retry_after
            return _put_off(seconds, str(end), now)
        case ServiceUnavailable() | Overloaded():
            return _put_off(ABSENT_S, str(end), now)
        case ServiceLost() if not end.died:
            return _put_off(ABSENT_S, str(end), now)
        case ServiceLost():
            return _died(task, end, limits, now, jitter, was_alone)
        case InvalidCall() if "no such method" in end.reason:
            reason = f"{end.service} is of a release that runs no tasks: restart it"
            return _put_off(NOT_NOW_S, reason, now)
        case CallError() | _:
            return _failed(task, str(end), limits, now, jitter)


def _done(task: Task, next_time: float | None) -> Outcome:
    fields: dict[str, Any] = {"attempts": 0, "deaths": 0, "error": "", "runs": task.runs + 1}
    if next_time is None:
        return Outcome(Kind.DONE, fields | {"status": DONE})
    return Outcome(Kind.DONE, fields | {"status": PENDING, "scheduled_for": as_time(next_time)})


def _failed(task: Task, text: str, limits: Limits, now: float, jitter: float) -> Outcome:
    attempts = task.attempts + 1
    if attempts >= limits.retries:
        return _paused({"attempts": attempts}, f"{attempts} runs failed in a row: {text}")
    delay = backoff(limits.backoff, attempts, jitter)
    fields = {"attempts": attempts, "deaths": 0}
    return _again(Kind.FAILED, fields, text, now, delay)


def _died(
    task: Task, error: ServiceLost, limits: Limits, now: float, jitter: float, was_alone: bool
) -> Outcome:
    deaths = task.deaths + was_alone
    if deaths >= MAX_DEATHS:
        reason = f"{error.service}'s process ended {deaths} times while it ran alone: {error}"
        return _paused({"deaths": deaths}, reason)
    delay = backoff(limits.backoff, max(deaths, 1), jitter)
    return _again(Kind.DIED, {"deaths": deaths}, str(error), now, delay)


def _put_off(seconds: float, reason: str, now: float) -> Outcome:
    delay = min(max(seconds, MIN_LATER_S), MAX_LATER_S)
    return _again(Kind.PUT_OFF, {}, reason, now, delay)


def _again(kind: Kind, fields: dict[str, Any], reason: str, now: float, delay: float) -> Outcome:
    reason = reason[:MAX_REASON]
    fields = fields | {"status": PENDING, "scheduled_for": as_time(now + delay), "error": reason}
    return Outcome(kind, fields, reason, delay)


def _paused(fields: dict[str, Any], reason: str) -> Outcome:
    reason = reason[:MAX_REASON]
    return Outcome(Kind.PAUSED, fields | {"status": PAUSED, "error": reason}, reason)


def backoff(first: float, attempts: int, jitter: float) -> float:
    """Return the seconds before a retry: from half of the limit on, so that not all come at once.

    Args:
        first: The limit before the first one.
        attempts: Failed runs in a row.
        jitter: A random number from 0 to 1.
    """
    limit = min(first * math.pow(BACKOFF_FACTOR, min(attempts - 1, 32)), MAX_BACKOFF_S)
    return limit * (0.5 + jitter / 2)
