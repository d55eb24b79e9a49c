"""The fields of a `service.state` event: one line tells a transition's whole story. Pure."""

from math import inf
from typing import Any

from garrison.ipc.messages import State

from .policy import AS_CRASHED, Child, Event
from .services import Service

ENDS = frozenset({Event.CRASH, Event.CLEAN_EXIT, Event.REFUSED, Event.POSTPONED})
# Events that override the recorded reason
AT_FAULT = frozenset({Event.DEADLINE, Event.UNWELL, Event.EXCESS, Event.OVERRUN})
OVER_LIMIT = frozenset({Event.EXCESS, Event.OVERRUN})


def transition_data(
    service: Service, before: Child, event: Event, now: float, crash_id: str = ""
) -> dict[str, Any]:
    """Return the fields of the event that records a transition.

    Args:
        service: The service; its child is the new one already.
        before: Its child before the transition.
        event: The event that caused it.
        now: Monotonic seconds.
        crash_id: The id of the crash report, if there is one.
    """
    after = service.child
    data: dict[str, Any] = {"from": before.state.value, "to": after.state.value}
    if event in ENDS:
        data["exit"] = service.last_exit
        if service.reason and service.reason != f"its process {service.last_exit}":
            data["reason"] = service.reason
        if crash_id:
            data["death"] = crash_id
    if after.state in {State.BACKOFF, State.FAILED} and after.deadline < inf:
        data |= {"restarts": after.restarted, "wait_s": after.deadline - now}
    if after.state is State.STOPPING and service.reason:
        data["reason"] = service.reason
    if after.state is State.STOPPING and event in AT_FAULT:
        data["reason"] = service.cause("")
    if event in OVER_LIMIT:
        data["limit"] = True
    if after.state is State.RUNNING:
        current = service.current
        data |= {"pid": current.pid, "generation": after.generation}
        data["took_s"] = after.since - current.started_at
    return data


def ended_by_itself(before: Child, event: Event) -> bool:
    """Return True if a running service ended without an order, so that bound services restart."""
    at_fault = before.state is State.STOPPING and before.why in AS_CRASHED
    return event in ENDS and (before.state is State.RUNNING or at_fault)
