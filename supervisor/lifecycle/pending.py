"""What differs between the config and code on disk and what runs: `garrison diff`. Pure."""

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, TypeAlias

import msgspec

from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.spec import ServiceSpec

from .start_record import StartRecord, differences

FILES_SHOWN = 5
PLACEMENT = ("depends_on", "bind_to", "autostart")
TAKEN_AT_ONCE = frozenset({"include"})  # of [host]: read with each reading of the config
PLACES = frozenset({"home", "run", "state", "logs"})  # of [host]: running workers use them

NONE_RENAMED: Mapping[str, str] = {}

Stamp: TypeAlias = tuple[int, int, int]  # inode, mtime in ns, size


class ChangeKind(Enum):
    """How a service differs."""

    NEW = "new"  # the config has it, and the host does not
    GONE = "gone"  # the other way round
    CHANGED = "changed"
    RENAMED = "renamed"  # the host has it under its former NAME, or has only what that has left


class PendingChange(msgspec.Struct, frozen=True):
    """What `garrison apply` would do to one service."""

    name: str
    change: ChangeKind
    details: tuple[str, ...] = ()  # what differs, in words


class HostChange(msgspec.Struct, frozen=True):
    """A key of `[host]` that differs."""

    key: str
    needs: str  # the command that takes it


def compare(
    running: Mapping[str, tuple[ServiceSpec, list[str]]],
    on_disk: Iterable[str],
    renamed: Mapping[str, str] = NONE_RENAMED,
) -> list[PendingChange]:
    """Return what differs, in the order of the config; what is gone comes first.

    Args:
        running: NAME → its spec, and what differs of it, in words.
        on_disk: The NAMEs that the config on disk has.
        renamed: NAME that is not running → its former one.
    """
    names = list(on_disk)
    kept = {*names, *renamed.values()}
    gone = [PendingChange(name, ChangeKind.GONE) for name in running if name not in kept]
    found = [
        PendingChange(name, ChangeKind.CHANGED, tuple(running[name][1]))
        if name in running
        else PendingChange(name, ChangeKind.RENAMED, (f"renamed from {renamed[name]}",))
        if name in renamed
        else PendingChange(name, ChangeKind.NEW)
        for name in names
        if name not in running or running[name][1]
    ]
    return [*gone, *found]


def service_differences(
    started: StartRecord,
    now: StartRecord,
    spec: ServiceSpec,
    new: ServiceSpec,
    stamps: Mapping[str, Stamp | None],
) -> list[str]:
    """Return what of one service differs, in words.

    Args:
        started: What it runs with.
        now: What it would be started with.
        spec: Its spec.
        new: Its spec on disk.
        stamps: Each imported file as it is now; None: it is not there any more.
    """
    found = differences(started, now)
    for key in PLACEMENT:
        before, after = getattr(spec.supervision, key), getattr(new.supervision, key)
        if before != after:
            found.append(f"{key} {_listed(before)} → {_listed(after)}")
    files = changed_files(started, stamps)
    found += [f"code: {path}" for path in files[:FILES_SHOWN]]
    if len(files) > FILES_SHOWN:
        found.append(f"code: {len(files) - FILES_SHOWN} more files")
    return found


def changed_files(started: StartRecord, stamps: Mapping[str, Stamp | None]) -> list[str]:
    """Return the imported files that are not on disk as they were."""
    return [path for path, stamp in started.code.items() if stamps.get(path) != stamp]


def host_differences(before: HostSpec, after: HostSpec) -> list[HostChange]:
    """Return the keys of `[host]` that differ, each with the command that takes it."""
    return [
        HostChange(key, "garrison down && garrison up" if key in PLACES else "garrison upgrade")
        for key in before.__struct_fields__
        if getattr(before, key) != getattr(after, key) and key not in TAKEN_AT_ONCE
    ]


def _listed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(value) or "none"
