"""The service's methods of people; see `DatabaseAdapter`."""

from garrison.workers import Component, Entity, Relationship, idempotent

from .methods import Methods


class PeopleMethods(Methods):
    """Entities, what is known about them, and how they relate."""

    @idempotent
    async def create_entities(self, entities: list[Entity], agent_id: str | None = None) -> bool:
        """Store entities; those whose id exists are kept unchanged. False if any existed."""
        return await self._stores.people.create_entities(self._agent(agent_id), entities)

    @idempotent
    async def create_entity(self, entity: Entity, agent_id: str | None = None) -> bool:
        """Store an entity; False if its id exists."""
        return await self._stores.people.create_entities(self._agent(agent_id), [entity])

    @idempotent
    async def get_entities_by_ids(
        self, ids: list[str], include_components: bool = False, agent_id: str | None = None
    ) -> list[Entity]:
        """Return the entities that exist among these ids."""
        agent = self._agent(agent_id)
        return await self._stores.people.entities_by_ids(agent, ids, include_components)

    @idempotent
    async def get_entity_by_ids(
        self, ids: list[str], include_components: bool = False, agent_id: str | None = None
    ) -> list[Entity]:
        """elizaOS's name of `get_entities_by_ids`."""
        agent = self._agent(agent_id)
        return await self._stores.people.entities_by_ids(agent, ids, include_components)

    @idempotent
    async def get_entity_by_id(self, entity_id: str, agent_id: str | None = None) -> Entity | None:
        """Return an entity with its components, or None."""
        found = await self._stores.people.entities_by_ids(self._agent(agent_id), [entity_id], True)
        return found[0] if found else None

    @idempotent
    async def get_entities_for_room(
        self, room_id: str, include_components: bool = False, agent_id: str | None = None
    ) -> list[Entity]:
        """Return the entities that take part in a room."""
        agent = self._agent(agent_id)
        return await self._stores.people.entities_of_room(agent, room_id, include_components)

    @idempotent
    async def update_entity(self, entity: Entity, agent_id: str | None = None) -> bool:
        """Replace an entity's names and metadata; False if there is none."""
        return await self._stores.people.update_entity(self._agent(agent_id), entity)

    async def delete_entity(self, entity_id: str, agent_id: str | None = None) -> bool:
        """Delete an entity with what is about it alone; False if there is none."""
        return await self._stores.people.delete_entity(self._agent(agent_id), entity_id)

    # --- components -------------------------------------------------------------------------

    async def create_component(self, component: Component, agent_id: str | None = None) -> str:
        """Store a component; return its id."""
        return await self._stores.people.create_component(self._agent(agent_id), component)

    @idempotent
    async def get_components(
        self,
        entity_id: str,
        *,
        type: str | None = None,
        world_id: str | None = None,
        source_entity_id: str | None = None,
        agent_id: str | None = None,
    ) -> list[Component]:
        """Return the components of an entity."""
        where = {"type": type, "world_id": world_id, "source_entity_id": source_entity_id}
        return await self._stores.people.components(self._agent(agent_id), entity_id, where)

    @idempotent
    async def get_component(
        self,
        entity_id: str,
        type: str,
        world_id: str | None = None,
        source_entity_id: str | None = None,
        agent_id: str | None = None,
    ) -> Component | None:
        """Return the newest component of a type, or None."""
        where = {"type": type, "world_id": world_id, "source_entity_id": source_entity_id}
        agent = self._agent(agent_id)
        found = await self._stores.people.components(agent, entity_id, where, newest=True)
        return found[0] if found else None

    @idempotent
    async def update_component(self, component: Component, agent_id: str | None = None) -> bool:
        """Replace the component with the same id; False if there is none."""
        return await self._stores.people.update_component(self._agent(agent_id), component)

    @idempotent
    async def delete_component(self, component_id: str, agent_id: str | None = None) -> None:
        """Delete a component."""
        await self._stores.people.delete_component(self._agent(agent_id), component_id)

    # --- relationships ----------------------------------------------------------------------

    @idempotent
    async def create_relationship(
        self, relationship: Relationship, agent_id: str | None = None
    ) -> str:
        """Store what connects two entities; return its id. There is one for each ordered pair."""
        return await self._stores.people.create_relationship(self._agent(agent_id), relationship)

    @idempotent
    async def get_relationship(
        self, source_entity_id: str, target_entity_id: str, agent_id: str | None = None
    ) -> Relationship | None:
        """Return what connects two entities, or None."""
        agent = self._agent(agent_id)
        return await self._stores.people.relationship(agent, source_entity_id, target_entity_id)

    @idempotent
    async def get_relationships(
        self, entity_id: str, tags: list[str] | None = None, agent_id: str | None = None
    ) -> list[Relationship]:
        """Return the relationships of an entity, of either side, that have all these tags."""
        agent = self._agent(agent_id)
        return await self._stores.people.relationships(agent, entity_id, tags or [])

    @idempotent
    async def update_relationship(
        self, relationship: Relationship, agent_id: str | None = None
    ) -> bool:
        """Replace a relationship's tags and metadata; False if there is none."""
        return await self._stores.people.update_relationship(self._agent(agent_id), relationship)
