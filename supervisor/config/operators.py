"""What `[host] operators` says: which other users may order what, about which services (pure)."""

from enum import Enum

import msgspec


class Permission(Enum):
    """What a team of operators may do."""

    STATUS = "status"
    LOGS = "logs"
    RESTART = "restart"
    START = "start"
    STOP = "stop"
    PAUSE = "pause"


READING = (Permission.STATUS, Permission.LOGS)


class OperatorTeam(msgspec.Struct, frozen=True):
    """Users of this machine who may give some orders about some services."""

    services: tuple[str, ...]  # NAMEs and globs
    group: str = ""  # name or number; its members belong to the team
    users: tuple[str, ...] = ()  # names or numbers
    may: tuple[Permission, ...] = READING
