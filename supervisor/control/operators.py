"""Decides which orders of other users are carried out, and about which services (pure)."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

import msgspec

from garrison.ipc.messages import Order
from garrison.supervisor.config.operators import READING, OperatorTeam, Permission

HOST = None  # the host's own user and root alone
VERBS: dict[str, Permission | None] = {  # every command → what a team must be permitted
    "status": Permission.STATUS,
    "wait": Permission.STATUS,
    "console": Permission.STATUS,
    "events": Permission.LOGS,
    "logs": Permission.LOGS,
    "restart": Permission.RESTART,
    "reset": Permission.RESTART,
    "start": Permission.START,
    "stop": Permission.STOP,
    "pause": Permission.PAUSE,
    "resume": Permission.PAUSE,
    "reload": Permission.RESTART,
    "trial": Permission.RESTART,
    "deaths": HOST,
    "diff": HOST,
    "counters": HOST,
    "stack": HOST,
    "apply": HOST,
    "down": HOST,
    "upgrade": HOST,
    "update": HOST,
    "forget": HOST,
    "hold": HOST,
    "release": HOST,
    "run": HOST,
    "chaos": HOST,
    "fault": HOST,
    "nodes": HOST,
    "drain": HOST,
    "console_listens": HOST,
    "console_enter": HOST,
}
# Commands that change nothing: no event is recorded of them
UNRECORDED = frozenset(
    {
        *("status", "wait", "events", "logs", "deaths", "diff", "counters", "stack", "release"),
        "nodes",
        *("chaos", "console_listens", "console_enter"),
    }
)
GLOB = frozenset("*?[")
ABOUT = {  # what a team may do, and its services follow
    Permission.STATUS: "see the status of",
    Permission.LOGS: "read the logs of",
}


class NotAllowed(Exception):
    """An order that is not for its operator.

    Args:
        text: What is refused, and what the operator may do.
        code: The kind of error, which the command line's exit code depends on.
    """

    def __init__(self, text: str, code: str = "not_allowed") -> None:
        self.code = code
        super().__init__(text)


class Operator(msgspec.Struct, frozen=True):
    """Who gives an order, as the kernel and the machine's accounts say."""

    uid: int
    user: str  # or its number, if it has no account
    trusted: bool  # the host's own user, or root
    host_user: str = ""  # the host's own, for the texts of refusals
    teams: Mapping[str, OperatorTeam] | None = None  # those that it belongs to


def may(operator: Operator, order: Order, known: Collection[str]) -> Order:
    """Return an order as it is carried out: about services of the operator's teams alone.

    Args:
        operator: Who gives it.
        order: What was received.
        known: The NAMEs of all services.

    Raises:
        NotAllowed: It is not for this operator.
    """
    if operator.trusted:
        return order
    teams = operator.teams or {}
    if not teams:
        text = f"{operator.user} belongs to no team of operators here"
        raise NotAllowed(f"{text}; [host] operators names them")
    permission = VERBS.get(order.verb, HOST)
    granted = {name: team for name, team in teams.items() if permission in team.may}
    if permission is None or not granted:
        raise NotAllowed(_not_permitted(operator, order.verb, permission, teams))
    patterns = tuple(pattern for team in granted.values() for pattern in team.services)
    names = _names(order, " and ".join(granted), patterns, known, permission)
    limits = {"restricted": True, "detail": bool(order.names)}
    return msgspec.structs.replace(
        order, names=names, options={**order.options, **limits}, mark="", person=""
    )


def permissions(operator: Operator) -> list[str]:
    """Return what an operator's teams permit together; of a trusted one, everything."""
    if operator.trusted:
        return [word.value for word in Permission]
    teams = (operator.teams or {}).values()
    return list(dict.fromkeys(word.value for team in teams for word in team.may))


def team_names(operator: Operator) -> str:
    """Return the names of an operator's teams, in words."""
    return ", ".join(operator.teams or ())


def _not_permitted(
    operator: Operator, verb: str, permission: Permission | None, teams: Mapping[str, OperatorTeam]
) -> str:
    words = (word for team in teams.values() for word in team.may)
    held, names = dict.fromkeys(word.value for word in words), " and ".join(teams)
    if permission is None:
        whose = f"garrison {verb} is for the host's own user ({operator.host_user}) and root"
        return f"{whose}; {names} may: {', '.join(held)}"
    return f"{names} may not {permission.value}; it may: {', '.join(held)}"


def _names(
    order: Order,
    teams: str,
    patterns: tuple[str, ...],
    known: Collection[str],
    permission: Permission,
) -> tuple[str, ...]:
    """Return the NAMEs that an order is about. A pattern matches the team's own services alone."""
    own = [name for name in known if _matches(name, patterns)]
    theirs = ", ".join(patterns)
    if not order.names and permission not in READING:
        raise NotAllowed(f"{order.verb}: name the services", "usage")
    found = dict.fromkeys(own if not order.names else ())
    for name in order.names:
        if GLOB & set(name):
            matched = [one for one in own if fnmatchcase(one, name)]
            if not matched:
                raise NotAllowed(
                    f"no service of {teams} ({theirs}) matches {name}", "no_such_service"
                )
            found |= dict.fromkeys(matched)
        elif not _matches(name, patterns):
            what = ABOUT.get(permission, permission.value)
            text = f"{teams} may {what} {theirs}; {name} is not among them"
            raise NotAllowed(text)
        elif name not in own and order.verb != "start":  # that reads it from the config
            there = ", ".join(own) or "none"
            raise NotAllowed(f"no service {name}; {teams} has: {there}", "no_such_service")
        else:
            found[name] = None
    if not found:
        raise NotAllowed(f"there is no service of {teams} ({theirs}) here", "no_such_service")
    return tuple(found)


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
