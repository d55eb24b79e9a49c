"""Whose records a call may see: of the agent that it names, or that it comes from. Pure."""

from garrison.workers import Caller

EVERY = "*"  # every agent's, where a method takes it


class ForeignAgent(PermissionError):
    """A service asked for the records of another agent than its own."""


def agent_of(caller: Caller | None, agent_id: str | None, every: bool = False) -> str:
    """Return the agent whose records a call is for.

    Args:
        caller: The service that calls, None for a program: `runtime.caller`.
        agent_id: Whose it requests; None is its own.
        every: Whether the method takes "*", which is every agent's.

    Raises:
        ForeignAgent: The caller belongs to another agent.
        ValueError: "*", where the method does not take it.
    """
    own = "" if caller is None else caller.agent
    if agent_id is None:
        return own
    if own and agent_id != own:
        assert caller is not None
        wanted = "every agent" if agent_id == EVERY else f"agent {agent_id!r}"
        raise ForeignAgent(
            f"{caller.name} belongs to agent {own!r} and asked for the records of {wanted}: leave "
            f"agent_id out, or have a service that belongs to no agent ask"
        )
    if agent_id == EVERY and not every:
        raise ValueError('agent_id "*" is taken by claim_tasks and release_leases alone; name one')
    return agent_id


def refuse_other_agents(caller: Caller | None) -> None:
    """Refuse a call about all agents' records from a service of one agent.

    Raises:
        ForeignAgent: The caller belongs to an agent.
    """
    if caller is not None and caller.agent:
        raise ForeignAgent(
            f"{caller.name} belongs to agent {caller.agent!r} and asked for every agent's records "
            "of a person: have a program or a service that belongs to no agent ask"
        )
