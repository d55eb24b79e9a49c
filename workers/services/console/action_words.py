"""What an action has done, in words, and what each needs. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

WHY_MOST = 150  # characters


class Action(NamedTuple):
    """An action on one service.

    Attributes:
        verb: As the command line names it.
        needs: A permission of `[host] operators`.
        label: On its button.
    """

    verb: str
    needs: str
    label: str


ACTIONS = {
    one.verb: one
    for one in (
        Action("start", "start", "Start"),
        Action("stop", "stop", "Stop"),
        Action("restart", "restart", "Restart"),
        Action("reset", "restart", "Reset"),
        Action("pause", "pause", "Pause"),
        Action("resume", "pause", "Resume"),
        Action("reload", "restart", "Reload"),
    )
}


def fitting(row: Mapping[str, Any]) -> list[Action]:
    """Return the actions that do something to a service as it is."""
    state, wanted = row["state"], row["wanted"]
    verbs = list[str]()
    if state in {"running", "starting", "initializing", "queued", "backoff"} or wanted:
        verbs += ["restart", "stop"]
    if not wanted or state in {"stopped", "registered"}:
        verbs.insert(0, "start")
    if state in {"failed", "backoff"} or row["restarts"]:
        verbs.append("reset")
    if row.get("paused"):
        verbs.append("resume")
    elif state == "running":
        verbs += ["pause", "reload"]
    return [ACTIONS[verb] for verb in dict.fromkeys(verbs)]


def done(verb: str, data: Any) -> list[str]:
    """Return what an order's answer says, as the command line does, in lines."""
    if not isinstance(data, Mapping):
        return [f"{verb}: carried out"]
    if sender := data.get("from_inside"):
        return [f"{verb}: carried out; not waited for, because it comes from inside {sender}"]
    services = data.get("services")
    if isinstance(services, Mapping):
        return [_state(verb, str(name), one) for name, one in services.items()]
    if isinstance(services, Sequence):
        return [
            f"{one['name']} runs (pid {one['pid']}, generation {one['generation']})"
            for one in services
        ]
    return [f"{verb}: carried out"]


def _state(verb: str, name: str, found: Any) -> str:
    if isinstance(found, Mapping):
        if verb in {"pause", "resume"}:
            return f"{name} is paused" if found.get("paused") else f"{name} takes calls"
        found = found.get("state", "")
    more = "; its restart count is 0" if verb == "reset" else ""
    return f"{name} is {found}{more}"


def reason(user: str, text: str) -> str:
    """Return the reason of an order: whose it is, and why."""
    why = " ".join(text.split())[:WHY_MOST]
    return f"{user} in the console{': ' if why else ''}{why}"
