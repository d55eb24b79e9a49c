"""What an update has done so far, and what follows from it when its command was killed. Pure.

Times are seconds since 1970, of this record alone.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import Enum
from typing import Any

import msgspec

SHOWN_MOST = 4  # packages in one line
KEEPERS = frozenset({"mailbox", "database"})  # types of services that keep what others sent


class Phase(Enum):
    """How far an update is. Each phase is on disk before what it names is begun."""

    STAGING = "staging"  # the new environment is made; nothing that runs was touched
    MOVING = "moving"  # services move to it, one by one
    HANDING = "handing"  # the supervisor becomes the new version
    COMMITTING = "committing"  # everything runs by it; the environment's path is switched
    RETURNING = "returning"  # services and data are put back
    DONE = "done"
    PUT_BACK = "put_back"


class Recovery(Enum):
    """What is to be done about an update that nothing carries out any more."""

    NOTHING = "nothing"
    DISCARD = "discard"  # remove the new environment
    RETURN = "return"  # put services and data back
    COMMIT = "commit"  # switch the path: everything has run by the new version


RECOVERIES = {
    Phase.STAGING: Recovery.DISCARD,
    Phase.MOVING: Recovery.RETURN,
    Phase.HANDING: Recovery.RETURN,
    Phase.COMMITTING: Recovery.COMMIT,
    Phase.RETURNING: Recovery.RETURN,
    Phase.DONE: Recovery.NOTHING,
    Phase.PUT_BACK: Recovery.NOTHING,
}


class Update(msgspec.Struct, frozen=True):
    """One update, as `state/update.json` has it. Folders are absolute paths."""

    number: int
    phase: Phase
    environment: str  # the path that the host is started by: a folder, or a link to one
    current: str  # the folder of the version that ran when it was begun
    staged: str  # the folder of the new version
    former: str  # the folder of the version before, once it is done
    before: str  # that version
    after: str  # the new one
    at: float = 0.0  # when it was begun
    backup: str = ""
    goes_back: bool = False  # by `garrison update --back`: to a version that was there
    packages: dict[str, tuple[str, str]] = {}  # name → version before and after
    passed: tuple[str, ...] = ()  # services that have run by the new version for the period
    kinds: dict[str, str] = {}  # NAME → service_type
    kept: str = ""  # the folder of the version before the running one, when it was begun
    reason: str = ""  # why it was put back
    set_aside: str = ""  # where data that the new version wrote is, after that


def recovery(update: Update | None) -> Recovery:
    """Return what is to be done about an update that nothing carries out any more."""
    return Recovery.NOTHING if update is None else RECOVERIES[update.phase]


def former_of(last: Update | None) -> str:
    """Return the folder of the version that `garrison update --back` returns to; empty: none."""
    if last is None:
        return ""
    return last.former if last.phase is Phase.DONE else last.kept


def title(update: Update) -> str:
    """Return what an update changes, in words: "garrison 0.1.0 → 0.2.0, moody 1.0 → 2.0"."""
    found = [
        f"{name} {before or 'new'} → {after or 'removed'}"
        for name, (before, after) in update.packages.items()
    ]
    more = f" and {len(found) - SHOWN_MOST} more" if len(found) > SHOWN_MOST else ""
    return (", ".join(found[:SHOWN_MOST]) + more) or f"the same versions, {update.before}"


def keeps_data(update: Update, name: str) -> bool:
    """Return whether a service that is put back keeps its data as the new version has left it.

    A mailbox or a database that ran well has taken messages of others meanwhile: with older data
    these would be lost, or answered twice.
    """
    return name in update.passed and update.kinds.get(name, "") in KEEPERS


def to_move(rows: Iterable[Mapping[str, Any]], staged: str, own: Collection[str] = ()) -> list[str]:
    """Return the NAMEs of the services that run, and not yet by the staged version, in order.

    What others rely on comes last: dependencies after their dependents, the keepers at the end.

    Args:
        rows: Of `status`, with details.
        staged: The interpreter of the new version.
        own: Plugins that have interpreters of their own, which an update leaves alone.
    """
    left = [
        row
        for row in rows
        if row["state"] == "running"
        and row["plugin"] not in own
        and (row.get("python") or {}).get("path") != staged
    ]
    depth = _depths({row["name"]: row.get("dependents") or [] for row in left})
    return [
        row["name"]
        for row in sorted(
            left, key=lambda row: (row["service_type"] in KEEPERS, depth[row["name"]])
        )
    ]


def _depths(dependents: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Return how many services in a row rely on each one; a circle ends the count."""
    depth = dict.fromkeys(dependents, 0)
    for _ in dependents:
        before = dict(depth)
        for name, others in dependents.items():
            depth[name] = max([0, *(depth[one] + 1 for one in others if one in depth)])
        if depth == before:
            break
    return {name: min(one, len(depth)) for name, one in depth.items()}
