"""The part of `DatabaseAdapter` that concerns people and places: `People`, `Places`."""

from typing import Protocol

from .records import Component, Entity, Participant, Relationship, Room, World


class People(Protocol):
    """Entities, what is known about them, and how they relate."""

    async def create_entities(self, entities: list[Entity], agent_id: str | None = None) -> bool:
        """Store entities; those whose id exists are kept unchanged. False if any existed."""
        ...

    async def get_entities_by_ids(
        self, ids: list[str], include_components: bool = False, agent_id: str | None = None
    ) -> list[Entity]:
        """Return the entities that exist among these ids."""
        ...

    async def get_entities_for_room(
        self, room_id: str, include_components: bool = False, agent_id: str | None = None
    ) -> list[Entity]:
        """Return the entities that take part in a room."""
        ...

    async def update_entity(self, entity: Entity, agent_id: str | None = None) -> bool:
        """Replace an entity's names and metadata; False if there is none."""
        ...

    async def delete_entity(self, entity_id: str, agent_id: str | None = None) -> bool:
        """Delete an entity, its components, relationships and parts in rooms; False if none."""
        ...

    async def create_component(self, component: Component, agent_id: str | None = None) -> str:
        """Store a component; return its id."""
        ...

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
        ...

    async def get_component(
        self,
        entity_id: str,
        type: str,
        world_id: str | None = None,
        source_entity_id: str | None = None,
        agent_id: str | None = None,
    ) -> Component | None:
        """Return the newest component of a type, or None."""
        ...

    async def update_component(self, component: Component, agent_id: str | None = None) -> bool:
        """Replace the component with the same id; False if there is none."""
        ...

    async def delete_component(self, component_id: str, agent_id: str | None = None) -> None:
        """Delete a component."""
        ...

    async def create_relationship(
        self, relationship: Relationship, agent_id: str | None = None
    ) -> str:
        """Store what connects two entities; return its id. There is one for each ordered pair."""
        ...

    async def get_relationship(
        self, source_entity_id: str, target_entity_id: str, agent_id: str | None = None
    ) -> Relationship | None:
        """Return what connects two entities, or None."""
        ...

    async def get_relationships(
        self, entity_id: str, tags: list[str] | None = None, agent_id: str | None = None
    ) -> list[Relationship]:
        """Return the relationships of an entity, of either side, that have all these tags."""
        ...

    async def update_relationship(
        self, relationship: Relationship, agent_id: str | None = None
    ) -> bool:
        """Replace a relationship's tags and metadata; False if there is none."""
        ...


class Places(Protocol):
    """Worlds, rooms, and who takes part in them."""

    async def create_world(self, world: World, agent_id: str | None = None) -> str:
        """Store a world; return its id. One with the same id is kept unchanged."""
        ...

    async def get_world(self, world_id: str, agent_id: str | None = None) -> World | None:
        """Return a world, or None."""
        ...

    async def get_all_worlds(self, agent_id: str | None = None) -> list[World]:
        """Return all worlds."""
        ...

    async def update_world(self, world: World, agent_id: str | None = None) -> bool:
        """Replace a world; False if there is none."""
        ...

    async def remove_world(self, world_id: str, agent_id: str | None = None) -> None:
        """Delete a world; its rooms remain."""
        ...

    async def create_rooms(self, rooms: list[Room], agent_id: str | None = None) -> list[str]:
        """Store rooms; return their ids. Those whose id exists are kept unchanged."""
        ...

    async def get_rooms_by_ids(self, ids: list[str], agent_id: str | None = None) -> list[Room]:
        """Return the rooms that exist among these ids."""
        ...

    async def get_rooms_by_world(self, world_id: str, agent_id: str | None = None) -> list[Room]:
        """Return the rooms of a world."""
        ...

    async def update_room(self, room: Room, agent_id: str | None = None) -> bool:
        """Replace a room; False if there is none."""
        ...

    async def delete_room(self, room_id: str, agent_id: str | None = None) -> None:
        """Delete a room with its participants; its memories remain."""
        ...

    async def delete_rooms_by_world_id(self, world_id: str, agent_id: str | None = None) -> None:
        """Delete the rooms of a world likewise."""
        ...

    async def add_participants_room(
        self, entity_ids: list[str], room_id: str, agent_id: str | None = None
    ) -> bool:
        """Have entities take part in a room."""
        ...

    async def remove_participant(
        self, entity_id: str, room_id: str, agent_id: str | None = None
    ) -> bool:
        """End an entity's part in a room; False if it had none."""
        ...

    async def get_participants_for_room(
        self, room_id: str, agent_id: str | None = None
    ) -> list[str]:
        """Return the ids of the entities that take part in a room."""
        ...

    async def get_participants_for_entity(
        self, entity_id: str, agent_id: str | None = None
    ) -> list[Participant]:
        """Return an entity's parts in rooms."""
        ...

    async def get_rooms_for_participants(
        self, entity_ids: list[str], agent_id: str | None = None
    ) -> list[str]:
        """Return the ids of the rooms in which any of these entities takes part."""
        ...

    async def is_room_participant(
        self, room_id: str, entity_id: str, agent_id: str | None = None
    ) -> bool:
        """Return whether an entity takes part in a room."""
        ...

    async def get_participant_user_state(
        self, room_id: str, entity_id: str, agent_id: str | None = None
    ) -> str:
        """Return "FOLLOWED", "MUTED" or an empty text."""
        ...

    async def set_participant_user_state(
        self, room_id: str, entity_id: str, state: str, agent_id: str | None = None
    ) -> None:
        """Set it; an empty text is neither.

        Raises:
            LookupError: The entity takes no part in the room.
        """
        ...
