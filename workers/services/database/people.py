"""The statements of entities, of what is known about them, and of how they relate."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from garrison.workers import Component, Entity, Relationship

from . import dialect
from .database import Database
from .rows import checked, new_id, record_of, row_of, with_tags
from .tables import components, entities, participants, relationships

IDS_MOST = 500  # ids in one statement


class PeopleStore:
    """Entities, components and relationships by agent."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- entities ---------------------------------------------------------------------------

    async def create_entities(self, agent: str, items: Sequence[Entity]) -> bool:
        """Store entities with their components, at once; those whose id exists are kept.

        Returns False if any existed.
        """
        rows = [row_of(entities, agent, one) | {"id": new_id(one.id)} for one in items]
        parts = {
            str(row["id"]): [_component_row(agent, part, str(row["id"])) for part in one.components]
            for row, one in zip(rows, items, strict=True)
        }

        def create(connection: Connection) -> bool:
            if not rows:
                return True
            now = time.time()
            statement = dialect.insert(connection, entities).on_conflict_do_nothing()
            new = connection.execute(
                statement.returning(entities.c.id), [row | {"created_at": now} for row in rows]
            ).scalars()
            created = set(new)
            found = [part for one in created for part in parts[one]]
            if found:
                statement = dialect.insert(connection, components).on_conflict_do_nothing()
                connection.execute(statement, [_dated(part, now) for part in found])
            return len(created) == len(rows)

        return await self._database.write(create)

    async def entities_by_ids(
        self, agent: str, ids: Sequence[str], with_components: bool
    ) -> list[Entity]:
        """Return the entities that exist, in the order of their ids."""
        wanted = list(dict.fromkeys(ids))

        def read(connection: Connection) -> list[Entity]:
            found: dict[str, Entity] = {}
            for part in dialect.parts(wanted, IDS_MOST):
                query = sa.select(entities).where(
                    entities.c.agent_id == agent, entities.c.id.in_(part)
                )
                rows = connection.execute(query).mappings()
                found |= {row["id"]: record_of(Entity, row) for row in rows}
            chosen = [found[one] for one in wanted if one in found]
            return _complete(connection, agent, chosen) if with_components else chosen

        return await self._database.read(read)

    async def entities_of_room(
        self, agent: str, room_id: str, with_components: bool
    ) -> list[Entity]:
        """Return the entities that take part in a room, in the order in which they joined."""
        query = (
            sa.select(entities)
            .join(
                participants,
                sa.and_(
                    participants.c.agent_id == entities.c.agent_id,
                    participants.c.entity_id == entities.c.id,
                ),
            )
            .where(participants.c.agent_id == agent, participants.c.room_id == room_id)
            .order_by(participants.c.created_at, participants.c.entity_id)
        )

        def read(connection: Connection) -> list[Entity]:
            found = [record_of(Entity, row) for row in connection.execute(query).mappings()]
            return _complete(connection, agent, found) if with_components else found

        return await self._database.read(read)

    async def update_entity(self, agent: str, entity: Entity) -> bool:
        """Replace an entity's names and metadata; False if there is none."""
        here = (entities.c.agent_id == agent, entities.c.id == entity.id)
        values = {"names": entity.names, "metadata": entity.metadata}
        return await self._change(sa.update(entities).where(*here).values(values))

    async def delete_entity(self, agent: str, entity_id: str) -> bool:
        """Delete an entity, its components, relationships and parts in rooms."""
        related = sa.or_(
            relationships.c.source_entity_id == entity_id,
            relationships.c.target_entity_id == entity_id,
        )
        others = [
            (components, components.c.entity_id == entity_id),
            (participants, participants.c.entity_id == entity_id),
            (relationships, related),
        ]

        def delete(connection: Connection) -> bool:
            for table, condition in others:
                connection.execute(sa.delete(table).where(table.c.agent_id == agent, condition))
            statement = sa.delete(entities).where(
                entities.c.agent_id == agent, entities.c.id == entity_id
            )
            return connection.execute(statement).rowcount > 0

        return await self._database.write(delete)

    # --- components -------------------------------------------------------------------------

    async def create_component(self, agent: str, component: Component) -> str:
        """Store a component unless its id exists; return the id."""
        row = _component_row(agent, component, component.entity_id)
        await self._insert(components, row)
        return str(row["id"])

    async def components(
        self, agent: str, entity_id: str, where: Mapping[str, str | None], newest: bool = False
    ) -> list[Component]:
        """Return an entity's components, the oldest first, or the newest alone.

        Args:
            agent: Whose they are.
            entity_id: The entity.
            where: Column to value; None is any value.
            newest: Return one at most.
        """
        query = sa.select(components).where(
            components.c.agent_id == agent, components.c.entity_id == entity_id
        )
        for name, value in where.items():
            if value is not None:
                query = query.where(components.c[name] == value)
        order = (components.c.created_at, components.c.id)
        if newest:
            query = query.order_by(*(column.desc() for column in order)).limit(1)
        else:
            query = query.order_by(*order)
        return await self._database.read(
            lambda connection: [
                record_of(Component, row) for row in connection.execute(query).mappings()
            ]
        )

    async def update_component(self, agent: str, component: Component) -> bool:
        """Replace a component, but for its time where it has none; False if there is none."""
        values = _component_row(agent, component, component.entity_id)
        if not component.created_at:
            del values["created_at"]
        here = (components.c.agent_id == agent, components.c.id == component.id)
        return await self._change(sa.update(components).where(*here).values(values))

    async def delete_component(self, agent: str, component_id: str) -> None:
        """Delete a component."""
        await self._change(
            sa.delete(components).where(
                components.c.agent_id == agent, components.c.id == component_id
            )
        )

    # --- relationships ----------------------------------------------------------------------

    async def create_relationship(self, agent: str, relationship: Relationship) -> str:
        """Store a relationship unless the pair has one; return that one's id."""
        row = row_of(relationships, agent, relationship) | {"id": new_id(relationship.id)}
        pair = _pair(agent, relationship.source_entity_id, relationship.target_entity_id)

        def create(connection: Connection) -> str:
            statement = dialect.insert(connection, relationships).on_conflict_do_nothing()
            connection.execute(statement, _dated(row, time.time()))
            found = connection.execute(sa.select(relationships.c.id).where(*pair)).scalar()
            return str(row["id"] if found is None else found)

        return await self._database.write(create)

    async def relationship(self, agent: str, source: str, target: str) -> Relationship | None:
        """Return what connects two entities, or None."""
        found = await self._relationships(
            sa.select(relationships).where(*_pair(agent, source, target))
        )
        return found[0] if found else None

    async def relationships(
        self, agent: str, entity_id: str, tags: Sequence[str]
    ) -> list[Relationship]:
        """Return the relationships of an entity, of either side, that have all these tags."""
        of_entity = sa.or_(
            relationships.c.source_entity_id == entity_id,
            relationships.c.target_entity_id == entity_id,
        )
        query = sa.select(relationships).where(relationships.c.agent_id == agent, of_entity)
        order = (relationships.c.created_at, relationships.c.id)
        return await self._relationships(query.order_by(*order), tags)

    async def update_relationship(self, agent: str, relationship: Relationship) -> bool:
        """Replace the tags and metadata of the pair's relationship; False if there is none."""
        pair = _pair(agent, relationship.source_entity_id, relationship.target_entity_id)
        values = checked({"tags": relationship.tags, "metadata": relationship.metadata})
        return await self._change(sa.update(relationships).where(*pair).values(values))

    async def _relationships(
        self, query: sa.Select[Any], tags: Sequence[str] = ()
    ) -> list[Relationship]:
        def read(connection: Connection) -> list[Relationship]:
            tagged = with_tags(relationships.c.tags, tags, dialect.is_postgres(connection))
            rows = connection.execute(query.where(tagged)).mappings()
            return [record_of(Relationship, row) for row in rows]

        return await self._database.read(read)

    async def _insert(self, table: sa.Table, row: Mapping[str, Any]) -> None:
        def insert(connection: Connection) -> None:
            statement = dialect.insert(connection, table).on_conflict_do_nothing()
            connection.execute(statement, _dated(row, time.time()))

        await self._database.write(insert)

    async def _change(self, statement: sa.Update | sa.Delete) -> bool:
        return await self._database.write(
            lambda connection: connection.execute(statement).rowcount > 0
        )


def _component_row(agent: str, component: Component, entity_id: str) -> dict[str, Any]:
    row = row_of(components, agent, component)
    return row | {"id": new_id(component.id), "entity_id": entity_id}


def _dated(row: Mapping[str, Any], now: float) -> dict[str, Any]:
    return {**row, "created_at": row.get("created_at") or now}


def _pair(agent: str, source: str, target: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        relationships.c.agent_id == agent,
        relationships.c.source_entity_id == source,
        relationships.c.target_entity_id == target,
    )


def _complete(connection: Connection, agent: str, found: list[Entity]) -> list[Entity]:
    """Fill in the components of entities."""
    by_entity: dict[str, list[Component]] = defaultdict(list)
    for part in dialect.parts([one.id for one in found], IDS_MOST):
        query = (
            sa.select(components)
            .where(components.c.agent_id == agent, components.c.entity_id.in_(part))
            .order_by(components.c.created_at, components.c.id)
        )
        for row in connection.execute(query).mappings():
            by_entity[row["entity_id"]].append(record_of(Component, row))
    for entity in found:
        entity.components = by_entity[entity.id]
    return found
