"""What the families of the service's methods share: the tables, and the check of agents."""

from typing import TYPE_CHECKING

from garrison.workers import Service

from .scope import agent_of

if TYPE_CHECKING:
    from .stores import Stores


class Methods(Service):
    """A service that has the database open."""

    _stores: "Stores"

    def _agent(self, agent_id: str | None, every: bool = False) -> str:
        """Return the agent whose records a call is for.

        Raises:
            ForeignAgent: The caller belongs to another agent.
        """
        return agent_of(self.runtime.caller, agent_id, every)
