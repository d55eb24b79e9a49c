"""What an error of a database means for those who wait for it. Pure."""

from enum import Enum


class Failure(Enum):
    """What follows an error."""

    LOST = "lost"  # no server, or it ends: try again later
    AGAIN = "again"  # a conflict with another transaction: try again at once
    FULL = "full"  # no room on the disk
    REFUSED = "refused"  # user, password or database: an operator must act
    SLOW = "slow"  # it took longer than `statement_timeout`
    OWN = "own"  # the statement's or its author's own fault


SQLSTATES = {  # by PostgreSQL's class of two characters, or the whole code
    "08": Failure.LOST,
    "57P": Failure.LOST,  # admin_shutdown, crash_shutdown, cannot_connect_now …
    "53300": Failure.LOST,  # too_many_connections
    "53200": Failure.LOST,  # out_of_memory
    "25006": Failure.LOST,  # read-only: a server that was replaced
    "58": Failure.LOST,  # system errors of the server
    "53100": Failure.FULL,
    "57014": Failure.SLOW,
    "55P03": Failure.SLOW,  # lock_not_available
    "28": Failure.REFUSED,
    "3D000": Failure.REFUSED,
    "40": Failure.AGAIN,  # deadlock, serialization
}
SQLITE_ERRORS = {
    "SQLITE_BUSY": Failure.AGAIN,
    "SQLITE_LOCKED": Failure.AGAIN,
    "SQLITE_FULL": Failure.FULL,
    "SQLITE_IOERR_WRITE": Failure.FULL,
    "SQLITE_IOERR_SHMSIZE": Failure.FULL,
    "SQLITE_INTERRUPT": Failure.SLOW,
}
AGAIN_MOST = 10  # repetitions after conflicts


def failure_of(error: BaseException) -> Failure:
    """Return what an error means.

    Args:
        error: What a driver raised, or SQLAlchemy of it, or an operation's own code.
    """
    if getattr(error, "connection_invalidated", False):
        return Failure.LOST
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if isinstance(state, str):
        for length in (5, 3, 2):
            if found := SQLSTATES.get(state[:length]):
                return found
        return Failure.OWN
    name = getattr(cause, "sqlite_errorname", None)
    if isinstance(name, str):
        return _of_sqlite(name)
    return Failure.LOST if isinstance(cause, OSError) else Failure.OWN  # TimeoutError is one


def _of_sqlite(name: str) -> Failure:
    for prefix, failure in SQLITE_ERRORS.items():
        if name.startswith(prefix):
            return failure
    return Failure.OWN
