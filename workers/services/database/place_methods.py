"""The service's methods of worlds, rooms and participants; see `DatabaseAdapter`."""

from garrison.workers import Participant, Room, World, idempotent

from .methods import Methods


class PlaceMethods(Methods):
    """Worlds, rooms, and who takes part in them."""

    async def create_world(self, world: World, agent_id: str | None = None) -> str:
        """Store a world; return its id. One with the same id is kept unchanged."""
        return await self._stores.places.create_world(self._agent(agent_id), world)

    @idempotent
    async def get_world(self, world_id: str, agent_id: str | None = None) -> World | None:
        """Return a world, or None."""
        found = await self._stores.places.worlds(self._agent(agent_id), world_id)
        return found[0] if found else None

    @idempotent
    async def get_all_worlds(self, agent_id: str | None = None) -> list[World]:
        """Return all worlds."""
        return await self._stores.places.worlds(self._agent(agent_id))

    @idempotent
    async def update_world(self, world: World, agent_id: str | None = None) -> bool:
        """Replace a world; False if there is none."""
        return await self._stores.places.update_world(self._agent(agent_id), world)

    @idempotent
    async def remove_world(self, world_id: str, agent_id: str | None = None) -> None:
        """Delete a world; its rooms remain."""
        await self._stores.places.remove_world(self._agent(agent_id), world_id)

    # --- rooms ------------------------------------------------------------------------------

    async def create_rooms(self, rooms: list[Room], agent_id: str | None = None) -> list[str]:
        """Store rooms; return their ids. Those whose id exists are kept unchanged."""
        return await self._stores.places.create_rooms(self._agent(agent_id), rooms)

    async def create_room(self, room: Room, agent_id: str | None = None) -> str:
        """Store a room; return its id. One with the same id is kept unchanged."""
        return (await self._stores.places.create_rooms(self._agent(agent_id), [room]))[0]

    @idempotent
    async def get_rooms_by_ids(self, ids: list[str], agent_id: str | None = None) -> list[Room]:
        """Return the rooms that exist among these ids."""
        return await self._stores.places.rooms_by_ids(self._agent(agent_id), ids)

    @idempotent
    async def get_room(self, room_id: str, agent_id: str | None = None) -> Room | None:
        """Return a room, or None."""
        found = await self._stores.places.rooms_by_ids(self._agent(agent_id), [room_id])
        return found[0] if found else None

    @idempotent
    async def get_rooms_by_world(self, world_id: str, agent_id: str | None = None) -> list[Room]:
        """Return the rooms of a world."""
        return await self._stores.places.rooms_of_world(self._agent(agent_id), world_id)

    @idempotent
    async def get_rooms(self, world_id: str, agent_id: str | None = None) -> list[Room]:
        """elizaOS's name of `get_rooms_by_world`."""
        return await self._stores.places.rooms_of_world(self._agent(agent_id), world_id)

    @idempotent
    async def update_room(self, room: Room, agent_id: str | None = None) -> bool:
        """Replace a room; False if there is none."""
        return await self._stores.places.update_room(self._agent(agent_id), room)

    @idempotent
    async def delete_room(self, room_id: str, agent_id: str | None = None) -> None:
        """Delete a room with its participants; its memories remain."""
        await self._stores.places.delete_rooms(self._agent(agent_id), room_id=room_id)

    @idempotent
    async def delete_rooms_by_world_id(self, world_id: str, agent_id: str | None = None) -> None:
        """Delete the rooms of a world likewise."""
        await self._stores.places.delete_rooms(self._agent(agent_id), world_id=world_id)

    # --- participants -----------------------------------------------------------------------

    @idempotent
    async def add_participants_room(
        self, entity_ids: list[str], room_id: str, agent_id: str | None = None
    ) -> bool:
        """Have entities take part in a room."""
        await self._stores.places.add_participants(self._agent(agent_id), room_id, entity_ids)
        return True

    @idempotent
    async def add_participant(
        self, entity_id: str, room_id: str, agent_id: str | None = None
    ) -> bool:
        """Have an entity take part in a room."""
        await self._stores.places.add_participants(self._agent(agent_id), room_id, [entity_id])
        return True

    async def remove_participant(
        self, entity_id: str, room_id: str, agent_id: str | None = None
    ) -> bool:
        """End an entity's part in a room; False if it had none."""
        agent = self._agent(agent_id)
        return await self._stores.places.remove_participant(agent, room_id, entity_id)

    @idempotent
    async def get_participants_for_room(
        self, room_id: str, agent_id: str | None = None
    ) -> list[str]:
        """Return the ids of the entities that take part in a room."""
        found = await self._stores.places.participants(self._agent(agent_id), room_id=room_id)
        return [one.entity_id for one in found]

    @idempotent
    async def get_participants_for_entity(
        self, entity_id: str, agent_id: str | None = None
    ) -> list[Participant]:
        """Return an entity's parts in rooms."""
        return await self._stores.places.participants(self._agent(agent_id), entity_ids=[entity_id])

    @idempotent
    async def get_rooms_for_participants(
        self, entity_ids: list[str], agent_id: str | None = None
    ) -> list[str]:
        """Return the ids of the rooms in which any of these entities takes part."""
        agent = self._agent(agent_id)
        found = await self._stores.places.participants(agent, entity_ids=entity_ids)
        return list(dict.fromkeys(one.room_id for one in found))

    @idempotent
    async def get_rooms_for_participant(
        self, entity_id: str, agent_id: str | None = None
    ) -> list[str]:
        """Return the ids of the rooms in which an entity takes part."""
        found = await self._stores.places.participants(
            self._agent(agent_id), entity_ids=[entity_id]
        )
        return [one.room_id for one in found]

    @idempotent
    async def is_room_participant(
        self, room_id: str, entity_id: str, agent_id: str | None = None
    ) -> bool:
        """Return whether an entity takes part in a room."""
        agent = self._agent(agent_id)
        return await self._stores.places.participant(agent, room_id, entity_id) is not None

    @idempotent
    async def get_participant_user_state(
        self, room_id: str, entity_id: str, agent_id: str | None = None
    ) -> str:
        """Return "FOLLOWED", "MUTED" or an empty text."""
        found = await self._stores.places.participant(self._agent(agent_id), room_id, entity_id)
        return "" if found is None else found.state

    @idempotent
    async def set_participant_user_state(
        self, room_id: str, entity_id: str, state: str, agent_id: str | None = None
    ) -> None:
        """Set it; an empty text is neither. LookupError if the entity takes no part."""
        agent = self._agent(agent_id)
        if not await self._stores.places.set_state(agent, room_id, entity_id, state):
            raise LookupError(
                f"{entity_id!r} takes no part in room {room_id!r}: call add_participants_room first"
            )
