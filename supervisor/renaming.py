"""Renames services that are added: what their former NAMEs have left is moved before they start."""

from collections.abc import Collection, Mapping

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.lifecycle.renames import Renaming, plan_renames
from garrison.supervisor.lifecycle.services import ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.state.renames import RenameStore


def rename_added(
    store: RenameStore,
    log: EventLog,
    services: ServiceTable,
    new: Collection[str],
    former: Mapping[str, str],
) -> None:
    """Finish what a former supervisor has begun, and move what the new services are to have.

    Args:
        store: Moves it.
        log: Where it is recorded, also that it cannot be.
        services: The services that there are.
        new: The NAMEs of those that are about to be added.
        former: NAME → its `was` in the config.
    """
    names = {*services.services, *new}
    try:
        for one in store.finish(names):
            log.record("service.renamed", one.new, former=one.old, by="the next supervisor")
        store.release(new)
    except (OSError, GarrisonError) as error:
        log.record("service.not_renamed", problem=str(error))
    wanted = {name: former[name] for name in new if name in former}
    left = store.left(services.services, [*wanted, *wanted.values()])
    plan = plan_renames(wanted, left)
    for name, old in plan.renamed.items():
        if old in store.former(name):  # an order has done it just now
            continue
        problem = plan.problems.get(name, "")
        if old in services.services:  # it runs on: `garrison apply` renames it in order
            problem = problem or f"{old} is still a service here; run garrison apply"
        if not problem:
            try:
                store.carry_out(Renaming(old, name))
                log.record("service.renamed", name, former=old)
                continue
            except GarrisonError as error:
                problem = str(error)
        log.record("service.not_renamed", name, former=old, problem=problem)
