"""Whose tasks are run, where they are kept, and which services run them. Pure."""

from collections.abc import Iterable, Mapping

import msgspec

STORES = ("database", "agent")  # types of services that keep tasks, the first preferred
CLAIM = "claim_tasks"


class Listed(msgspec.Struct, frozen=True):
    """What is looked at of a service in the directory, in config order."""

    name: str
    agent: str  # "" is shared
    service_type: str
    is_wanted: bool
    has_claims: bool  # it has the method `claim_tasks`
    task_workers: tuple[str, ...] = ()


class Scope(msgspec.Struct, frozen=True):
    """The tasks of one agent."""

    agent: str  # "" in a host without agents
    store: str  # NAME of the service that keeps them; "" is none
    workers: Mapping[str, tuple[str, ...]]  # name of tasks to NAMEs of the services that run them
    problem: str = ""  # why its tasks cannot run


def scopes(services: Iterable[Listed], own_agent: str) -> list[Scope]:
    """Return the scopes of a task service.

    Args:
        services: All services.
        own_agent: The agent that the task service belongs to; "" if it is shared, which has the
            tasks of every agent.
    """
    known = list(services)
    agents = [own_agent] if own_agent else ["", *_agents(known)]
    return [scope for agent in agents if (scope := _scope(known, agent)) is not None]


def _agents(services: Iterable[Listed]) -> list[str]:
    return list(dict.fromkeys(one.agent for one in services if one.agent))


def _scope(services: list[Listed], agent: str) -> Scope | None:
    """Return an agent's scope; None for the shared services of a host that keep no tasks."""
    own = [one for one in services if agent and one.agent == agent]
    visible = [*own, *(one for one in services if not one.agent)]
    store = _store(visible)
    if store is None:
        problem = "no service keeps tasks: add [plugins.agent] or [plugins.database] to the config"
        is_rest = not agent and bool(_agents(services))
        return None if is_rest else Scope(agent, "", {}, problem)
    if not store.has_claims:
        problem = f"{store.name} keeps no tasks that can be claimed: it lacks {CLAIM}"
        return Scope(agent, store.name, {}, problem)
    workers: dict[str, tuple[str, ...]] = {}
    for one in visible:
        for name in one.task_workers:
            workers[name] = (*workers.get(name, ()), one.name)
    return Scope(agent, store.name, workers)


def _store(visible: list[Listed]) -> Listed | None:
    for service_type in STORES:
        found = [one for one in visible if one.service_type == service_type]
        if found:
            return next((one for one in found if one.is_wanted), found[0])
    return None
