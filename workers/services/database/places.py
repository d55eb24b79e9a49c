"""The statements of worlds, of rooms, and of who takes part in them."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.workers import Participant, Room, World

from . import dialect
from .database import Database
from .rows import checked, new_id, record_of, row_of
from .tables import participants, rooms, worlds

IDS_MOST = 500  # ids in one statement
STEP_S = 1e-6  # between the times of rows that are stored at once: they keep their order
R = TypeVar("R", bound=msgspec.Struct)


class PlaceStore:
    """Worlds, rooms and participants by agent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- worlds -----------------------------------------------------------------------------

    async def create_world(self, agent: str, world: World) -> str:
        """Store a world unless its id exists; return the id."""
        row = row_of(worlds, agent, world) | {"id": new_id(world.id)}
        await self._insert(worlds, [row])
        return str(row["id"])

    async def worlds(self, agent: str, world_id: str | None = None) -> list[World]:
        """Return all worlds in the order of their creation, or the one with an id."""
        query = sa.select(worlds).where(worlds.c.agent_id == agent)
        if world_id is not None:
            query = query.where(worlds.c.id == world_id)
        return await self._records(World, query.order_by(worlds.c.created_at, worlds.c.id))

    async def update_world(self, agent: str, world: World) -> bool:
        """Replace a world; False if there is none."""
        return await self._replace(worlds, agent, world)

    async def remove_world(self, agent: str, world_id: str) -> None:
        """Delete a world; its rooms remain."""
        here = (worlds.c.agent_id == agent, worlds.c.id == world_id)
        await self._change(sa.delete(worlds).where(*here))

    # --- rooms ------------------------------------------------------------------------------

    async def create_rooms(self, agent: str, items: Sequence[Room]) -> list[str]:
        """Store rooms, at once; return their ids. Those whose id exists are kept unchanged."""
        rows = [row_of(rooms, agent, one) | {"id": new_id(one.id)} for one in items]
        await self._insert(rooms, rows)
        return [str(row["id"]) for row in rows]

    async def rooms_by_ids(self, agent: str, ids: Sequence[str]) -> list[Room]:
        """Return the rooms that exist, in the order of their ids."""
        wanted = list(dict.fromkeys(ids))

        def read(connection: Connection) -> list[Room]:
            found: dict[str, Room] = {}
            for part in dialect.parts(wanted, IDS_MOST):
                query = sa.select(rooms).where(rooms.c.agent_id == agent, rooms.c.id.in_(part))
                rows = connection.execute(query).mappings()
                found |= {row["id"]: record_of(Room, row) for row in rows}
            return [found[one] for one in wanted if one in found]

        return await self._database.read(read)

    async def rooms_of_world(self, agent: str, world_id: str) -> list[Room]:
        """Return the rooms of a world in the order of their creation."""
        query = sa.select(rooms).where(rooms.c.agent_id == agent, rooms.c.world_id == world_id)
        return await self._records(Room, query.order_by(rooms.c.created_at, rooms.c.id))

    async def update_room(self, agent: str, room: Room) -> bool:
        """Replace a room; False if there is none."""
        return await self._replace(rooms, agent, room)

    async def delete_rooms(
        self, agent: str, *, room_id: str | None = None, world_id: str | None = None
    ) -> None:
        """Delete a room, or the rooms of a world, with their participants."""
        chosen = rooms.c.id == room_id if world_id is None else rooms.c.world_id == world_id
        here = (rooms.c.agent_id == agent, chosen)
        in_rooms: sa.ColumnElement[bool] = participants.c.room_id == room_id
        if world_id is not None:
            in_rooms = participants.c.room_id.in_(sa.select(rooms.c.id).where(*here))

        def delete(connection: Connection) -> None:
            connection.execute(
                sa.delete(participants).where(participants.c.agent_id == agent, in_rooms)
            )
            connection.execute(sa.delete(rooms).where(*here))

        await self._database.write(delete)

    # --- participants -----------------------------------------------------------------------

    async def add_participants(self, agent: str, room_id: str, entity_ids: Sequence[str]) -> None:
        """Have entities take part in a room; those that do keep their state."""
        rows = [
            row_of(participants, agent, Participant(entity_id=one, room_id=room_id))
            for one in dict.fromkeys(entity_ids)
        ]
        await self._insert(participants, rows)

    async def remove_participant(self, agent: str, room_id: str, entity_id: str) -> bool:
        """End an entity's part in a room; False if it had none."""
        return await self._change(sa.delete(participants).where(*_part(agent, room_id, entity_id)))

    async def participants(
        self, agent: str, *, room_id: str | None = None, entity_ids: Sequence[str] | None = None
    ) -> list[Participant]:
        """Return the parts of a room, or of entities, in the order in which they began."""
        query = sa.select(participants).where(participants.c.agent_id == agent)
        if room_id is not None:
            query = query.where(participants.c.room_id == room_id)
        order = (participants.c.created_at, participants.c.room_id, participants.c.entity_id)
        query = query.order_by(*order)
        if entity_ids is None:
            return await self._records(Participant, query)
        found: list[Participant] = []
        for part in dialect.parts(list(dict.fromkeys(entity_ids)), IDS_MOST):
            chosen = query.where(participants.c.entity_id.in_(part))
            found += await self._records(Participant, chosen)
        return found

    async def participant(self, agent: str, room_id: str, entity_id: str) -> Participant | None:
        """Return an entity's part in a room, or None."""
        query = sa.select(participants).where(*_part(agent, room_id, entity_id))
        found = await self._records(Participant, query)
        return found[0] if found else None

    async def set_state(self, agent: str, room_id: str, entity_id: str, state: str) -> bool:
        """Set a participant's state; False if the entity takes no part in the room."""
        values = checked({"state": state})
        return await self._change(
            sa.update(participants).where(*_part(agent, room_id, entity_id)).values(values)
        )

    # --- parts of these ---------------------------------------------------------------------

    async def _records(self, kind: type[R], query: sa.Select[Any]) -> list[R]:
        return await self._database.read(
            lambda connection: [
                record_of(kind, row) for row in connection.execute(query).mappings()
            ]
        )

    async def _insert(self, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        def insert(connection: Connection) -> None:
            now = time.time()
            statement = dialect.insert(connection, table).on_conflict_do_nothing()
            dated = [{**row, "created_at": now + n * STEP_S} for n, row in enumerate(rows)]
            connection.execute(statement, dated)

        if rows:
            await self._database.write(insert)

    async def _replace(self, table: sa.Table, agent: str, record: World | Room) -> bool:
        here = (table.c.agent_id == agent, table.c.id == record.id)
        return await self._change(
            sa.update(table).where(*here).values(row_of(table, agent, record))
        )

    async def _change(self, statement: sa.Update | sa.Delete) -> bool:
        return await self._database.write(
            lambda connection: connection.execute(statement).rowcount > 0
        )


def _part(agent: str, room_id: str, entity_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        participants.c.agent_id == agent,
        participants.c.room_id == room_id,
        participants.c.entity_id == entity_id,
    )
