"""Which services are renamed: their former NAME is in the config as `was`. Pure."""

from collections.abc import Collection, Mapping

import msgspec

RENAMES_MOST = 256  # that are remembered


class Renaming(msgspec.Struct, frozen=True):
    """What one NAME has left becomes that of another."""

    old: str
    new: str
    logs: bool = True  # its log files, too: there are none of the new NAME


class Left(msgspec.Struct, frozen=True):
    """What the host has of the services that a config has or had.

    Attributes:
        services: The NAMEs of the services that it has.
        traces: The NAMEs of which something is kept: data, orders, an accepted section.
        data: The NAMEs whose data folder has files.
    """

    services: Collection[str]
    traces: Collection[str]
    data: Collection[str]


class RenamePlan(msgspec.Struct, frozen=True):
    """What is to be renamed.

    Attributes:
        renamed: NAME → its former one, of those that are yet to be renamed.
        problems: NAME → why it cannot be, in words.
    """

    renamed: dict[str, str] = msgspec.field(default_factory=dict)
    problems: dict[str, str] = msgspec.field(default_factory=dict)


def plan_renames(former: Mapping[str, str], left: Left) -> RenamePlan:
    """Return what is to be renamed. A `was` of which nothing is left means nothing any more.

    Args:
        former: NAME → its `was`.
        left: What the host has.
    """
    plan = RenamePlan()
    for new, old in former.items():
        if new in left.services:
            if old in left.data:
                plan.problems[new] = (
                    f"services.{new}.was: {new} ran before what {old} has left could become its "
                    f"own. Run garrison down, empty the data folder of {new}, then garrison up; or "
                    "take the key out"
                )
        elif old in left.services or old in left.traces or old in left.data:
            plan.renamed[new] = old
            if new in left.data:
                plan.problems[new] = (
                    f"services.{new}.was: what {old} has left cannot become {new}'s, whose data "
                    "folder has files already. Move those away, or take the key out"
                )
    return plan


def former_names(done: Collection[Renaming], name: str) -> tuple[str, ...]:
    """Return every NAME that a service had before, the last one first."""
    found: dict[str, None] = {}
    pending = [name]
    while pending:
        current = pending.pop()
        for one in done:
            if one.new == current and one.old != name and one.old not in found:
                found[one.old] = None
                pending.append(one.old)
    return tuple(found)


def after_rename(done: Collection[Renaming], renaming: Renaming) -> list[Renaming]:
    """Return the renames that count after another one. A NAME that is in use again has no
    successor."""
    kept = [one for one in done if one.old not in {renaming.new, renaming.old}]
    return [*kept, renaming][-RENAMES_MOST:]
