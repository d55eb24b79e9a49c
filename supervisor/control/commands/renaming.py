"""Renames running services, for the commands that add one whose `was` is the NAME of another."""

from collections.abc import Collection, Generator

import msgspec

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.load import Config
from garrison.supervisor.lifecycle.actions import Action, Apply, Ordered, Remove, RestartBound
from garrison.supervisor.lifecycle.order_note import NO_ORDER, OrderNote
from garrison.supervisor.lifecycle.policy import Event, has_process
from garrison.supervisor.lifecycle.renames import RenamePlan, Renaming, plan_renames

from .base import CommandContext, Refusal
from .stopping import stop_in_order


class PendingRename(msgspec.Struct, frozen=True):
    """One rename that an order carries out."""

    renaming: Renaming
    wanted: bool | None  # whether the former one was to run; None: it was no service here


def renames_of(context: CommandContext, config: Config) -> RenamePlan:
    """Return what is to be renamed by a config."""
    former = config.former
    left = context.renames.left(context.services.services, [*former, *former.values()])
    return plan_renames(former, left)


def pending_renames(
    context: CommandContext, config: Config, adding: Collection[str]
) -> list[PendingRename]:
    """Return the renames of the services that are about to be added.

    Raises:
        Refusal: One of them cannot be renamed. Nothing has been changed.
    """
    plan, table = renames_of(context, config), context.services.services
    found = list[PendingRename]()
    for new, old in plan.renamed.items():
        if new not in adding:
            continue
        if problem := plan.problems.get(new):
            raise Refusal("ConfigError", problem)
        wanted = table[old].child.wanted if old in table else None
        found.append(PendingRename(Renaming(old, new), wanted))
    return found


def carry_out(
    context: CommandContext, note: OrderNote, pending: list[PendingRename]
) -> Generator[bool | Action, None, None]:
    """Stop the services, dependents first, and move what they have to their new NAMEs.

    Raises:
        Refusal: Something cannot be moved; that service is started again.
    """
    table = context.services.services
    names = [one.renaming.old for one in pending if one.wanted is not None]
    for name in names:
        yield Ordered(name, note)
    yield from stop_in_order(context, note, names, "renamed in the config")
    for one in pending:
        old, new = one.renaming.old, one.renaming.new
        if old in table and has_process(table[old].state):
            later = table[old].order.verb
            raise Refusal("overtaken", f"a later order, `garrison {later}`, holds for {old}")
        try:
            context.renames.carry_out(one.renaming)
        except GarrisonError as error:
            if one.wanted:
                yield Apply(old, Event.START, note=note)
            raise Refusal("failed", str(error)) from error
        context.log.record("service.renamed", new, former=old)


def continue_as_before(
    context: CommandContext, pending: list[PendingRename]
) -> Generator[bool | Action, None, None]:
    """Have each renamed service run if its former one did, and only then.

    The former one is no service from then on: programs learn both at once.
    """
    table = context.services.services
    for one in pending:
        service = table.get(one.renaming.new)
        if one.wanted is not None and one.renaming.old in table:
            yield Remove(one.renaming.old)
        if service is None:  # it could not be added
            continue
        if one.wanted is not None and one.wanted is not service.child.wanted:
            event = Event.START if one.wanted else Event.STOP
            yield Apply(service.name, event, note=NO_ORDER)
        if one.wanted:
            yield RestartBound(service.name)
